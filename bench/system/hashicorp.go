package system

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// hashicorp is the NetworkTransport of hashicorp/raft, with a pipeline for appends and the fast path for heartbeats.
// Each append is a call of its own, since its wire has nothing else. As many calls are in flight as its documentation
// names for more than its default of 2, since that takes nearly twice the CPU time here for small appends.
var hashicorp = System{Name: "hashicorp", Title: "hashicorp/raft", Module: "github.com/hashicorp/raft", Start: startHashicorp}

const (
	hashicorpInFlight = 130
	hashicorpPool     = 3
	hashicorpTimeout  = 10 * time.Second
)

type hashicorpCluster struct {
	cfg       Config
	all       []*raft.NetworkTransport // the sender first
	pipelines []raft.AppendPipeline
	requests  []*raft.AppendEntriesRequest // the load
	out       *fanout
	wg        sync.WaitGroup
	stop      chan struct{}
	closing   atomic.Bool
}

func startHashicorp(cfg Config) (Cluster, error) {
	c := &hashicorpCluster{cfg: cfg, stop: make(chan struct{})}
	if err := c.start(); err != nil {
		c.Close()
		return nil, err
	}
	c.requests = hashicorpRequests(cfg.Load)
	c.out = newFanout(cfg.Peers, func(peer, number int) error {
		_, err := c.pipelines[peer].AppendEntries(c.requests[number], new(raft.AppendEntriesResponse))
		return err
	}, c.fail)
	return c, nil
}

func (c *hashicorpCluster) start() error {
	for range c.cfg.Peers + 1 {
		t, err := c.newTransport()
		if err != nil {
			return err
		}
		c.all = append(c.all, t)
	}
	for i, t := range c.all[1:] {
		t.SetHeartbeatHandler(func(rpc raft.RPC) { rpc.Respond(hashicorpAnswer, nil) })
		c.wg.Go(func() { c.receive(i, t) })
		p, err := c.all[0].AppendEntriesPipeline("", t.LocalAddr())
		if err != nil {
			return err
		}
		c.pipelines = append(c.pipelines, p)
		c.wg.Go(func() { c.consume(p) })
	}
	return nil
}

func (c *hashicorpCluster) newTransport() (*raft.NetworkTransport, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	layer := &hashicorpLayer{Listener: listener}
	if t := c.cfg.TLS.config(); t != nil {
		layer.Listener, layer.tls = tls.NewListener(listener, t), t
	}
	return raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream: layer, MaxPool: hashicorpPool, MaxRPCsInFlight: hashicorpInFlight, Timeout: hashicorpTimeout,
		Logger: hclog.NewNullLogger(), MsgpackUseNewTimeFormat: true,
	}), nil
}

// hashicorpLayer is its stream layer, plain or with TLS.
type hashicorpLayer struct {
	net.Listener
	tls *tls.Config
}

func (l *hashicorpLayer) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	d := &net.Dialer{Timeout: timeout}
	if l.tls != nil {
		return tls.DialWithDialer(d, "tcp", string(address), l.tls)
	}
	return d.Dial("tcp", string(address))
}

var hashicorpAnswer = &raft.AppendEntriesResponse{RPCHeader: raft.RPCHeader{ProtocolVersion: 3}, Term: term, Success: true}

// hashicorpRequests are the load in its own form.
func hashicorpRequests(l *Load) []*raft.AppendEntriesRequest {
	all := make([]*raft.AppendEntriesRequest, l.Len)
	for i := range all {
		m := l.to(0, i)
		r := &raft.AppendEntriesRequest{
			RPCHeader: raft.RPCHeader{ProtocolVersion: 3, ID: []byte("1"), Addr: []byte("127.0.0.1:2380")},
			Term:      term, PrevLogEntry: m.GetIndex() + 1, PrevLogTerm: term, LeaderCommitIndex: m.GetCommit(),
		}
		for _, e := range m.Entries {
			r.Entries = append(r.Entries, &raft.Log{Index: e.GetIndex() + 1, Term: term, Data: e.Data})
		}
		all[i] = r
	}
	return all
}

// receive is a follower.
func (c *hashicorpCluster) receive(peer int, t *raft.NetworkTransport) {
	for {
		select {
		case rpc := <-t.Consumer():
			r, ok := rpc.Command.(*raft.AppendEntriesRequest)
			if !ok || len(r.Entries) != c.cfg.Load.Entries || len(r.Entries[0].Data) != c.cfg.Load.Size {
				c.cfg.Sink.Failed(errors.New("an append has arrived that was not sent"))
			}
			c.cfg.Sink.Appended(peer, 1)
			rpc.Respond(hashicorpAnswer, nil)
		case <-c.stop:
			return
		}
	}
}

// consume takes the answers of a pipeline.
func (c *hashicorpCluster) consume(p raft.AppendPipeline) {
	for {
		select {
		case f := <-p.Consumer():
			if err := f.Error(); err != nil {
				c.fail(err)
			}
		case <-c.stop:
			return
		}
	}
}

func (c *hashicorpCluster) Send(from, n int) { c.out.send(from, n) }

// Ping waits for the answer, as its heartbeats do.
func (c *hashicorpCluster) Ping(peer int) {
	args := raft.AppendEntriesRequest{RPCHeader: raft.RPCHeader{ProtocolVersion: 3, ID: []byte("1"), Addr: []byte("127.0.0.1:2380")}, Term: term}
	var resp raft.AppendEntriesResponse
	if err := c.all[0].AppendEntries("", c.all[peer+1].LocalAddr(), &args, &resp); err != nil {
		c.fail(err)
		return
	}
	c.cfg.Sink.Ponged(peer)
}

func (c *hashicorpCluster) fail(err error) {
	if !c.closing.Load() {
		c.cfg.Sink.Failed(fmt.Errorf("hashicorp/raft: %w", err))
	}
}

func (c *hashicorpCluster) Close() {
	c.closing.Store(true)
	for _, p := range c.pipelines {
		p.Close()
	}
	if c.out != nil {
		c.out.close()
	}
	for _, t := range c.all {
		t.CloseStreams()
		t.Close()
	}
	close(c.stop)
	c.wg.Wait()
}
