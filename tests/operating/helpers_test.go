// Package operating_test tests what those who operate a member are told: by its log, by Status and by Health.
package operating_test

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/bubble"
	"github.com/seed-4d73690b/rafthttp/memnet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// simulate runs a test in a bubble, with a network in memory.
func simulate(t *testing.T, body func(t *testing.T, n *memnet.Network)) {
	t.Helper()
	bubble.Test(t, func(t *testing.T) { body(t, memnet.New()) })
}

// node is a member and what it has logged.
type node struct {
	*rafthttp.Transport
	logs   *observer.ObservedLogs
	raft   *reports
	server *http.Server
}

// reports is a Raft that takes all, and keeps how snapshots ended.
type reports struct {
	process func(context.Context, *raftpb.Message) error // nil: take it

	mu        sync.Mutex
	snapshots []raft.SnapshotStatus
}

func (r *reports) Process(ctx context.Context, m *raftpb.Message) error {
	if r.process == nil {
		return nil
	}
	return r.process(ctx, m)
}
func (*reports) IsIDRemoved(uint64) bool  { return false }
func (*reports) ReportUnreachable(uint64) {}
func (r *reports) ReportSnapshot(_ uint64, s raft.SnapshotStatus) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.snapshots = append(r.snapshots, s)
}

// reported returns how many snapshots were reported, as failed and as sent.
func (r *reports) reported() (failed, sent int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.snapshots {
		if s == raft.SnapshotFailure {
			failed++
		} else {
			sent++
		}
	}
	return failed, sent
}

// all returns how snapshots ended, in order.
func (r *reports) all() []raft.SnapshotStatus {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]raft.SnapshotStatus(nil), r.snapshots...)
}

func host(id types.ID) string { return "m" + id.String() }

func urls(ids ...types.ID) (all []string) {
	for _, id := range ids {
		all = append(all, "http://"+host(id)+":80")
	}
	return all
}

// transport returns a member that is not started.
func transport(n *memnet.Network, id types.ID) *node {
	core, logs := observer.New(zap.InfoLevel)
	m := &node{logs: logs, raft: &reports{}}
	m.Transport = &rafthttp.Transport{
		ID: id, ClusterID: 0xc1, Raft: m.raft, Logger: zap.New(core), DialContext: n.Host(host(id)).DialContext,
	}
	return m
}

// start runs a member whose fields tune may change, behind a middleware, if there is one.
func start(t *testing.T, n *memnet.Network, id types.ID, tune func(*rafthttp.Transport), behind ...func(http.Handler) http.Handler) *node {
	t.Helper()
	m := transport(n, id)
	if tune != nil {
		tune(m.Transport)
	}
	require.NoError(t, m.Start())
	h := m.Handler()
	for _, wrap := range behind {
		h = wrap(h)
	}
	m.server = serve(t, n, host(id), h)
	t.Cleanup(m.Stop)
	return m
}

// serve runs a server of any kind on a host until the test ends.
func serve(t *testing.T, n *memnet.Network, host string, h http.Handler) *http.Server {
	t.Helper()
	ln, err := n.Host(host).Listen("80")
	require.NoError(t, err)
	s := rafthttp.NewServer(h)
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = s.Serve(ln)
	}()
	t.Cleanup(func() {
		_ = s.Close()
		<-served
	})
	return s
}

// meet makes members peers of each other.
func meet(all ...*node) {
	for _, m := range all {
		for _, other := range all {
			if other != m {
				m.AddPeer(other.ID, urls(other.ID))
			}
		}
	}
}

// peer returns the state of a peer.
func (m *node) peer(t *testing.T, id types.ID) rafthttp.PeerStatus {
	t.Helper()
	for _, p := range m.Status().Peers {
		if p.ID == id {
			return p
		}
	}
	require.FailNow(t, "no such peer")
	return rafthttp.PeerStatus{}
}

// lines returns the errors of the lines with a message since the last call.
func (m *node) lines(message string) (errors []string) {
	for _, l := range m.logs.TakeAll() {
		if strings.HasPrefix(l.Message, message) {
			err, _ := l.ContextMap()["error"].(string)
			errors = append(errors, err)
		}
	}
	return errors
}

func heartbeat(from, to types.ID) *raftpb.Message {
	return &raftpb.Message{Type: raftpb.MsgHeartbeat.Enum(), To: new(uint64(to)), From: new(uint64(from)), Term: new(uint64(1))}
}
