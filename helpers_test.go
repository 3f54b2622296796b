package rafthttp_test

import (
	"context"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
)

const testCluster = types.ID(0xc1)

// recorder is a Raft that keeps what it is told.
type recorder struct {
	process func(context.Context, *raftpb.Message) error // nil: keep the message
	removed func(uint64) bool

	mu          sync.Mutex
	messages    []*raftpb.Message
	unreachable map[uint64]int
	snapshots   []raft.SnapshotStatus
}

func (r *recorder) Process(ctx context.Context, m *raftpb.Message) error {
	if r.process != nil {
		return r.process(ctx, m)
	}
	r.keep(m)
	return nil
}

func (r *recorder) keep(m *raftpb.Message) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.messages = append(r.messages, m)
}

func (r *recorder) IsIDRemoved(id uint64) bool { return r.removed != nil && r.removed(id) }

func (r *recorder) ReportUnreachable(id uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.unreachable == nil {
		r.unreachable = map[uint64]int{}
	}
	r.unreachable[id]++
}

func (r *recorder) ReportSnapshot(_ uint64, s raft.SnapshotStatus) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.snapshots = append(r.snapshots, s)
}

func (r *recorder) received() []*raftpb.Message {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]*raftpb.Message(nil), r.messages...)
}

func (r *recorder) unreachables(id uint64) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.unreachable[id]
}

func (r *recorder) snapshotReports() []raft.SnapshotStatus {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]raft.SnapshotStatus(nil), r.snapshots...)
}

// member is a Transport with a server, on loopback.
type member struct {
	*rafthttp.Transport
	raft   *recorder
	url    string
	server *http.Server
}

// startMember runs a member with a server on a free port of loopback. tune may
// change the Transport's fields before Start.
func startMember(t testing.TB, id types.ID, tune func(*rafthttp.Transport)) *member {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	return startMemberOn(t, ln, id, tune)
}

func startMemberOn(t testing.TB, ln net.Listener, id types.ID, tune func(*rafthttp.Transport)) *member {
	t.Helper()
	return startMemberAt(t, ln, "http://"+ln.Addr().String(), id, tune)
}

// startMemberAt runs a member that is known by url.
func startMemberAt(t testing.TB, ln net.Listener, url string, id types.ID, tune func(*rafthttp.Transport)) *member {
	t.Helper()
	return startMemberBy(t, func(h http.Handler) *http.Server { return &http.Server{Handler: h} }, ln, url, id, tune)
}

// startMemberBy runs a member by a server of the test's choice.
func startMemberBy(t testing.TB, by func(http.Handler) *http.Server, ln net.Listener, url string, id types.ID, tune func(*rafthttp.Transport)) *member {
	t.Helper()
	m := &member{raft: &recorder{}, url: url}
	m.Transport = &rafthttp.Transport{ID: id, ClusterID: testCluster, Raft: m.raft, URLs: types.MustNewURLs([]string{m.url})}
	if tune != nil {
		tune(m.Transport)
	}
	require.NoError(t, m.Start())
	m.server = by(m.Handler())
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = m.server.Serve(ln)
	}()
	t.Cleanup(func() {
		m.Stop()
		_ = m.server.Close()
		<-served
	})
	return m
}

// connect makes a and b peers and waits until all four streams are up.
func connect(t testing.TB, a, b *member) {
	t.Helper()
	a.AddPeer(b.ID, []string{b.url})
	b.AddPeer(a.ID, []string{a.url})
	waitStreams(t, a, b.ID)
	waitStreams(t, b, a.ID)
	eventually(t, func() bool { return !a.ActiveSince(b.ID).IsZero() && !b.ActiveSince(a.ID).IsZero() })
}

// waitStreams waits until m can write both streams to the peer.
func waitStreams(t testing.TB, m *member, peer types.ID) {
	t.Helper()
	eventually(t, func() bool { return laneOf(m, peer, "message").Up && laneOf(m, peer, "msgapp").Up })
}

func eventually(t testing.TB, cond func() bool) {
	t.Helper()
	require.Eventually(t, cond, 20*time.Second, time.Millisecond)
}

func laneOf(m *member, peer types.ID, name string) rafthttp.LaneStatus {
	for _, p := range m.Status().Peers {
		if p.ID != peer {
			continue
		}
		for _, l := range p.Lanes {
			if l.Name == name {
				return l
			}
		}
	}
	return rafthttp.LaneStatus{}
}

// msgApp is an append with one entry.
func msgApp(to, from types.ID, index uint64, data []byte) *raftpb.Message {
	return &raftpb.Message{
		Type: raftpb.MsgApp.Enum(), To: new(uint64(to)), From: new(uint64(from)), Term: new(uint64(1)),
		LogTerm: new(uint64(1)), Index: new(index), Commit: new(index),
		Entries: []*raftpb.Entry{{Term: new(uint64(1)), Index: new(index + 1), Data: data}},
	}
}

func heartbeat(to, from types.ID, commit uint64) *raftpb.Message {
	return &raftpb.Message{
		Type: raftpb.MsgHeartbeat.Enum(), To: new(uint64(to)), From: new(uint64(from)),
		Term: new(uint64(1)), Commit: new(commit),
	}
}
