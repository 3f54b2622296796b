package manygroups

import (
	"bufio"
	"context"
	"encoding/binary"
	"net"
	"net/url"
	"sync"
	"sync/atomic"

	"go.etcd.io/raft/v3/raftpb"
)

// bare carries heartbeats and their answers over a TCP connection to each node, and has nothing else that a transport needs: no bounds, no
// workers, no reports, no other messages. A transport that makes a raftpb.Message of each heartbeat can hardly take less.
type bare struct {
	node  *node
	ln    net.Listener
	peers [nodes]barePeer
	conns atomic.Int32 // dialed and accepted
}

// barePeer has what waits for the connection to a node.
type barePeer struct {
	conn net.Conn // nil: the node itself
	more chan struct{}

	mu  sync.Mutex
	buf []byte
}

func startBare(n *node, ln net.Listener) (carrier, error) {
	b := &bare{node: n, ln: ln}
	go b.accept()
	for i, u := range n.cfg.URLs {
		if i+1 == n.cfg.ID {
			continue
		}
		at, err := url.Parse(u)
		if err != nil {
			b.stop()
			return nil, err
		}
		p := &b.peers[i]
		if p.conn, err = net.Dial("tcp", at.Host); err != nil {
			b.stop()
			return nil, err
		}
		p.more = make(chan struct{}, 1)
		b.conns.Add(1)
		go p.write()
	}
	return b, nil
}

func (b *bare) send(group int, ms []*raftpb.Message) {
	for _, m := range ms {
		p := &b.peers[m.GetTo()-1]
		p.mu.Lock()
		idle := len(p.buf) == 0
		p.buf = binary.AppendUvarint(p.buf, uint64(group))
		p.buf = append(p.buf, byte(m.GetType()), byte(m.GetFrom()), byte(m.GetTo()))
		p.buf = binary.AppendUvarint(binary.AppendUvarint(p.buf, m.GetTerm()), m.GetCommit())
		p.mu.Unlock()
		if idle {
			select {
			case p.more <- struct{}{}:
			default:
			}
		}
	}
}

// write ends with the connection.
func (p *barePeer) write() {
	var spare []byte
	for range p.more {
		p.mu.Lock()
		buf := p.buf
		p.buf = spare
		p.mu.Unlock()
		if _, err := p.conn.Write(buf); err != nil {
			return
		}
		spare = buf[:0]
	}
}

func (b *bare) accept() {
	for {
		c, err := b.ln.Accept()
		if err != nil {
			return
		}
		b.conns.Add(1)
		go func() {
			defer c.Close()
			_ = b.read(bufio.NewReaderSize(c, 64<<10)) // the other node has ended
		}()
	}
}

// bareMessage is the memory of a message.
type bareMessage struct {
	raftpb.Message

	typ                    raftpb.MessageType
	from, to, term, commit uint64
}

const bareTogether = 16 // messages that are allocated together

func (b *bare) read(r *bufio.Reader) error {
	var free []bareMessage
	for {
		group, err := binary.ReadUvarint(r)
		if err != nil {
			return err
		}
		if len(free) == 0 {
			free = make([]bareMessage, bareTogether)
		}
		m := &free[0]
		free = free[1:]
		var fields [5]uint64
		for i := range fields {
			if fields[i], err = binary.ReadUvarint(r); err != nil {
				return err
			}
		}
		m.typ, m.from, m.to, m.term, m.commit = raftpb.MessageType(fields[0]), fields[1], fields[2], fields[3], fields[4]
		m.Type, m.From, m.To, m.Term = &m.typ, &m.from, &m.to, &m.term
		if m.typ == raftpb.MsgHeartbeat {
			m.Commit = &m.commit
		}
		_ = b.node.rafts[group].Process(context.Background(), &m.Message)
	}
}

func (b *bare) up() bool { return b.conns.Load() == 2*(nodes-1) }

func (b *bare) stop() {
	b.ln.Close()
	for i := range b.peers {
		if c := b.peers[i].conn; c != nil {
			c.Close()
		}
	}
}
