package system

import (
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"

	"google.golang.org/protobuf/proto"
)

// tcp is the floor below all others: the bytes of the msgapp v2 stream, encoded beforehand, written from and read into
// buffers that are used again. Nothing is decoded and nothing is kept.
var tcp = System{Name: "tcp", Title: "bare TCP", Start: startTCP, NoIdle: true, Snapshots: true}

const (
	tcpBuffer    = 256 << 10
	tcpHeartbeat = 16 // bytes, about what a heartbeat has
)

// tcpCluster has two connections a peer, as etcd's members have: one for appends, one for heartbeats.
type tcpCluster struct {
	cfg      Config
	frame    int    // bytes of one append
	bytes    []byte // appends, one after the other
	held     int    // appends in bytes
	listener net.Listener
	peers    []tcpPeer
	beat     [tcpHeartbeat]byte
	wg       sync.WaitGroup
	closing  atomic.Bool
}

type tcpPeer struct{ appends, heartbeats, appendsEnd, heartbeatsEnd net.Conn }

func startTCP(cfg Config) (Cluster, error) {
	c := &tcpCluster{cfg: cfg}
	if cfg.Load != nil {
		c.encode(cfg.Load)
	}
	var err error
	if c.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return nil, err
	}
	if cfg.TLS != nil {
		c.listener = tls.NewListener(c.listener, cfg.TLS.config())
	}
	for range cfg.Peers {
		var p tcpPeer
		for _, pair := range []struct{ near, far *net.Conn }{{&p.appends, &p.appendsEnd}, {&p.heartbeats, &p.heartbeatsEnd}} {
			if err := c.connect(pair.near, pair.far); err != nil {
				c.Close()
				return nil, err
			}
		}
		c.peers = append(c.peers, p)
	}
	for i, p := range c.peers {
		c.wg.Go(func() { c.receive(i, p.appendsEnd) })
		c.wg.Go(func() { c.answer(p.heartbeatsEnd) })
		c.wg.Go(func() { c.pongs(i, p.heartbeats) })
	}
	return c, nil
}

func (c *tcpCluster) connect(near, far *net.Conn) error {
	dialled := make(chan error, 1)
	go func() {
		var err error
		*near, err = net.Dial("tcp", c.listener.Addr().String())
		if err == nil && c.cfg.TLS != nil {
			client := tls.Client(*near, c.cfg.TLS.config())
			*near, err = client, client.Handshake()
		}
		dialled <- err
	}()
	conn, err := c.listener.Accept()
	if err != nil {
		return err
	}
	*far = conn
	if server, ok := conn.(*tls.Conn); ok {
		if err := server.Handshake(); err != nil {
			return err
		}
	}
	return <-dialled
}

// encode makes the bytes of a ring that has the length of the load, or fewer if they would be many.
func (c *tcpCluster) encode(l *Load) {
	for c.held < l.Len && (c.held == 0 || len(c.bytes) < maxData) {
		c.bytes = append(c.bytes, 1)
		c.bytes = binary.BigEndian.AppendUint64(c.bytes, uint64(l.Entries))
		for _, e := range l.to(0, 0).Entries { // entries of one size, so that frames are
			c.bytes = binary.BigEndian.AppendUint64(c.bytes, uint64(proto.Size(e)))
			c.bytes, _ = proto.MarshalOptions{}.MarshalAppend(c.bytes, e)
		}
		c.bytes = binary.BigEndian.AppendUint64(c.bytes, 1)
		c.held++
	}
	c.frame = len(c.bytes) / c.held
}

func (c *tcpCluster) Send(from, n int) {
	for n > 0 {
		first := from % c.held
		count := min(n, c.held-first)
		for _, p := range c.peers {
			if _, err := p.appends.Write(c.bytes[first*c.frame : (first+count)*c.frame]); err != nil {
				c.fail(err)
				return
			}
		}
		from, n = from+count, n-count
	}
}

func (c *tcpCluster) Ping(peer int) {
	if _, err := c.peers[peer].heartbeats.Write(c.beat[:]); err != nil {
		c.fail(err)
	}
}

// receive counts whole appends.
func (c *tcpCluster) receive(peer int, conn net.Conn) {
	buf := make([]byte, tcpBuffer)
	rest := 0 // bytes of an append that has not arrived as a whole
	for {
		n, err := conn.Read(buf)
		if err != nil {
			c.fail(err)
			return
		}
		rest += n
		if whole := rest / c.frame; whole > 0 {
			c.cfg.Sink.Appended(peer, whole)
			rest %= c.frame
		}
	}
}

func (c *tcpCluster) answer(conn net.Conn) {
	var beat [tcpHeartbeat]byte
	for {
		if _, err := io.ReadFull(conn, beat[:]); err != nil {
			c.fail(err)
			return
		}
		if _, err := conn.Write(beat[:]); err != nil {
			c.fail(err)
			return
		}
	}
}

func (c *tcpCluster) pongs(peer int, conn net.Conn) {
	var beat [tcpHeartbeat]byte
	for {
		if _, err := io.ReadFull(conn, beat[:]); err != nil {
			c.fail(err)
			return
		}
		c.cfg.Sink.Ponged(peer)
	}
}

func (c *tcpCluster) fail(err error) {
	if !c.closing.Load() && !errors.Is(err, net.ErrClosed) {
		c.cfg.Sink.Failed(fmt.Errorf("bare TCP: %w", err))
	}
}

func (c *tcpCluster) Close() {
	c.closing.Store(true)
	c.listener.Close()
	for _, p := range c.peers {
		for _, conn := range []net.Conn{p.appends, p.heartbeats, p.appendsEnd, p.heartbeatsEnd} {
			if conn != nil {
				conn.Close()
			}
		}
	}
	c.wg.Wait()
}
