package latency_test

import (
	"context"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/bubble"
	"github.com/seed-4d73690b/rafthttp/memnet"
	"github.com/seed-4d73690b/rafthttp/memnet/rafttest"
)

// script is a Raft that answers appends as a test says.
type script struct {
	t      *rafthttp.Transport
	delay  atomic.Int64                            // until the answer
	works  atomic.Int64                            // in Process
	answer atomic.Pointer[func(m *raftpb.Message)] // changes it; nil: nothing
}

func (s *script) Process(_ context.Context, m *raftpb.Message) error {
	if m.GetType() != raftpb.MsgApp {
		return nil
	}
	time.Sleep(time.Duration(s.works.Load()))
	resp := &raftpb.Message{Type: new(raftpb.MsgAppResp), To: m.From, From: m.To, Term: m.Term, Context: m.Context,
		Index: new(m.GetIndex() + uint64(len(m.GetEntries())))}
	if f := s.answer.Load(); f != nil {
		(*f)(resp)
	}
	time.AfterFunc(time.Duration(s.delay.Load()), func() { s.t.Send([]*raftpb.Message{resp}) })
	return nil
}

func (*script) IsIDRemoved(uint64) bool                    { return false }
func (*script) ReportUnreachable(uint64)                   {}
func (*script) ReportSnapshot(uint64, raft.SnapshotStatus) {}

// pair is a leader, 1, and a follower, 2, without raft.
type pair struct {
	*rafttest.Cluster
	leader, follower *rafttest.Member
	script           *script
	index            uint64
	read             []byte // the Context of heartbeats
}

func newPair(t *testing.T, server func(http.Handler) *http.Server, tune func(uint64, *rafthttp.Transport)) *pair {
	t.Helper()
	p := &pair{script: &script{}}
	p.Cluster = rafttest.New(t, rafttest.Config{Members: 2, Server: server, Tune: tune, Network: []memnet.Option{memnet.WithSockets(256<<10, 256<<10)}})
	p.leader = p.Start(1, &script{})
	p.follower = p.Start(2, p.script)
	p.script.t = p.follower.Transport
	time.Sleep(2 * time.Second)
	require.Equal(t, 1, p.leader.ActivePeers())
	return p
}

// send sends an append and a heartbeat every 100 ms for so long.
func (p *pair) send(d time.Duration, tune func(m *raftpb.Message)) {
	for range d / (100 * time.Millisecond) {
		m := &raftpb.Message{Type: new(raftpb.MsgApp), To: new(uint64(2)), From: new(uint64(1)), Term: new(uint64(5)), LogTerm: new(uint64(5)), Index: new(p.index)}
		p.index++
		m.Entries = []*raftpb.Entry{{Term: new(uint64(5)), Index: new(p.index), Data: []byte("x")}}
		if tune != nil {
			tune(m)
		}
		p.leader.Send([]*raftpb.Message{m, {
			Type: new(raftpb.MsgHeartbeat), To: new(uint64(2)), From: new(uint64(1)), Term: new(uint64(5)), Context: p.read,
		}})
		time.Sleep(100 * time.Millisecond)
	}
}

// rejectFarAhead makes an answer one to an append of one entry behind a gap: it tells the entry before it.
func rejectFarAhead(m *raftpb.Message) {
	if m.GetIndex() > 900 {
		m.Reject, m.Index = new(true), new(m.GetIndex()-1)
	}
}

// snapshot sends a snapshot up to this index, as raft does without a separate database.
func (p *pair) snapshot(index uint64) {
	p.leader.Send([]*raftpb.Message{{
		Type: new(raftpb.MsgSnap), To: new(uint64(2)), From: new(uint64(1)), Term: new(uint64(5)),
		Snapshot: &raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{Index: new(index), Term: new(uint64(5)), ConfState: &raftpb.ConfState{}}},
	}})
	p.index = index
	time.Sleep(time.Second)
}

func (p *pair) appends() rafthttp.AppendStatus { return p.leader.Status().Peers[0].Appends }

// path is what becomes of appends.
type path struct {
	name     string
	do       func(t *testing.T, p *pair)
	answered bool // there are samples
	slow     bool
}

// paths are those on which nothing ends.
var paths = []path{
	{"answers in time", func(_ *testing.T, p *pair) { p.send(5*time.Second, nil) }, true, false},
	{"answers late", func(_ *testing.T, p *pair) { p.script.delay.Store(int64(time.Second)); p.send(5*time.Second, nil) }, true, true},
	{"never, while reads are confirmed", func(_ *testing.T, p *pair) {
		p.send(time.Second, nil)
		p.script.delay.Store(int64(time.Hour))
		p.send(500*time.Millisecond, nil)
		p.read = []byte("8 bytes")
		p.send(5*time.Second, func(m *raftpb.Message) { m.Type, m.Context, m.Entries = new(raftpb.MsgHeartbeat), p.read, nil })
	}, true, true},
	{"never, while a group marked by a Context sends", func(_ *testing.T, p *pair) {
		p.send(time.Second, func(m *raftpb.Message) { m.Context = []byte("group") })
		p.send(time.Second, nil)
		p.script.delay.Store(int64(time.Hour))
		p.send(500*time.Millisecond, nil)
		p.read = []byte("group")
		p.send(5*time.Second, func(m *raftpb.Message) { m.Context = p.read })
	}, true, false},
	{"of another group", func(_ *testing.T, p *pair) {
		p.script.delay.Store(int64(time.Second))
		p.send(5*time.Second, func(m *raftpb.Message) { m.Context = []byte("group") })
	}, false, false},
	{"rejected", func(_ *testing.T, p *pair) {
		p.script.answer.Store(new(func(m *raftpb.Message) { m.Reject, m.Index = new(true), new(m.GetIndex()-1) }))
		p.script.delay.Store(int64(time.Second))
		p.send(5*time.Second, nil)
	}, false, false},
	{"rejected, then from earlier", func(_ *testing.T, p *pair) {
		p.index = 1000
		p.script.answer.Store(new(rejectFarAhead))
		p.send(time.Second, nil)
		p.index = 1 // it lags far behind
		p.script.delay.Store(int64(time.Second))
		p.send(5*time.Second, nil)
	}, true, true},
	{"after a snapshot, from earlier", func(_ *testing.T, p *pair) {
		p.index = 1000
		p.send(500*time.Millisecond, nil)
		p.snapshot(500)
		p.script.delay.Store(int64(time.Second))
		p.send(5*time.Second, nil)
	}, true, true},
	{"without entries", func(_ *testing.T, p *pair) {
		p.script.delay.Store(int64(time.Second))
		p.send(5*time.Second, func(m *raftpb.Message) { m.Entries = nil })
	}, false, false},
	{"repeated", func(_ *testing.T, p *pair) {
		p.send(500*time.Millisecond, nil)
		p.script.delay.Store(int64(time.Second))
		p.send(5*time.Second, func(m *raftpb.Message) { *m.Index, *m.Entries[0].Index = 3, 4 })
	}, true, false},
}

// endingPaths are those on which streams end, or the member does not lead any more.
var endingPaths = []path{
	{"cut", func(t *testing.T, p *pair) {
		p.script.delay.Store(int64(time.Hour))
		p.send(500*time.Millisecond, nil)
		require.NotZero(t, p.appends().Pending)
		p.leader.CutPeer(2)
		require.Zero(t, p.appends().Pending)
		p.send(5*time.Second, nil)
		require.Zero(t, p.appends().Pending)
		p.leader.MendPeer(2)
	}, false, false},
	{"removed and added again", func(t *testing.T, p *pair) {
		p.script.delay.Store(int64(time.Hour))
		p.send(5*time.Second, nil)
		require.NotNil(t, p.appends().Slow)
		p.script.delay.Store(0)
		p.leader.RemovePeer(2)
		p.leader.AddPeer(2, []string{p.URL(2)})
		time.Sleep(5 * time.Second)
		p.send(5*time.Second, nil)
	}, true, false},
	{"over streams that end", func(t *testing.T, p *pair) {
		p.script.delay.Store(int64(time.Hour))
		p.send(500*time.Millisecond, nil)
		p.follower.Crash()
		time.Sleep(time.Second)
		require.Zero(t, p.appends().Pending)
		p.script.delay.Store(0)
		p.follower = p.Start(2, p.script)
		p.script.t = p.follower.Transport
		time.Sleep(5 * time.Second)
		p.index = 0 // raft sends them again
		p.send(5*time.Second, nil)
	}, true, false},
	{"of a leader that lost its term", func(_ *testing.T, p *pair) {
		p.script.answer.Store(new(func(m *raftpb.Message) { m.Term = new(uint64(6)) }))
		p.script.delay.Store(int64(time.Second))
		p.send(5*time.Second, nil)
	}, false, false},
	{"of a leader that falls silent", func(t *testing.T, p *pair) {
		p.script.delay.Store(int64(time.Hour))
		p.send(500*time.Millisecond, nil)
		time.Sleep(5 * time.Second)
		require.Zero(t, p.appends().Pending)
	}, false, false},
}

// TestPathsOfAppends: what is sampled on each path, and what is not.
func TestPathsOfAppends(t *testing.T) {
	for _, c := range append(paths, endingPaths...) {
		t.Run(c.name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				p := newPair(t, nil, nil)
				c.do(t, p)
				a := p.appends()
				require.Equal(t, c.answered, a.Answer.Count > 0, "%+v", a)
				require.Equal(t, c.slow, a.Slow != nil, "%+v", a)
			})
		})
	}
}

// burst sends 60 appends together, which Process takes so long for each, and returns what the follower names as slow of its own
// in the next 3 s.
func (p *pair) burst(take time.Duration) (slow []string) {
	p.script.works.Store(int64(take))
	var all []*raftpb.Message
	for range 60 {
		p.index++
		all = append(all, &raftpb.Message{Type: new(raftpb.MsgApp), To: new(uint64(2)), From: new(uint64(1)), Term: new(uint64(5)), LogTerm: new(uint64(5)),
			Index: new(p.index - 1), Entries: []*raftpb.Entry{{Term: new(uint64(5)), Index: new(p.index)}}})
	}
	p.leader.Send(all)
	for range 30 {
		time.Sleep(100 * time.Millisecond)
		if s := p.follower.Status().Peers[0].Appends.Slow; s != nil {
			slow = append(slow, s.Part)
		}
	}
	return slow
}

// TestBurstsAtTheReceiver: Process is not slow with appends that come together, if it takes one after another as quickly as ever;
// those that it takes for longer are slow, however many came together.
func TestBurstsAtTheReceiver(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		p := newPair(t, nil, nil)
		for range 10 {
			require.NotContains(t, p.burst(20*time.Millisecond), "process")
		}
	})
	bubble.Test(t, func(t *testing.T) {
		p := newPair(t, nil, nil)
		p.send(3*time.Second, nil)
		require.NotEmpty(t, p.burst(400*time.Millisecond))
	})
}

// flushing hides everything of a response but that it flushes.
type flushing struct{ w http.ResponseWriter }

func (f flushing) Header() http.Header         { return f.w.Header() }
func (f flushing) Write(b []byte) (int, error) { return f.w.Write(b) }
func (f flushing) WriteHeader(code int)        { f.w.WriteHeader(code) }
func (f flushing) FlushError() error           { return http.NewResponseController(f.w).Flush() }
func (f flushing) SetWriteDeadline(t time.Time) error {
	return http.NewResponseController(f.w).SetWriteDeadline(t)
}

// TestWithoutSendState: where the system tells nothing, as of a response that is flushed, the follower is named all the same,
// and that it may be the wire.
func TestWithoutSendState(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		p := newPair(t, func(h http.Handler) *http.Server {
			return rafthttp.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h.ServeHTTP(flushing{w}, r) }))
		}, nil)
		p.send(3*time.Second, nil)
		require.Nil(t, p.appends().Slow)
		for _, s := range p.leader.Status().Peers[0].Streams {
			require.True(t, s.Up)
			require.Nil(t, s.TCP)
		}
		p.script.delay.Store(int64(300 * time.Millisecond))
		p.send(3*time.Second, nil)
		a := p.appends()
		require.NotNil(t, a.Slow)
		require.Equal(t, "follower", a.Slow.Part)
		require.Contains(t, a.Slow.Text, "perhaps the wire")
		require.Equal(t, types.ID(2), p.leader.Status().Peers[0].ID)
	})
}

// TestFarPeerBeforeItsFirstProbe: where the system tells nothing, a peer that is far away is not slow before a probe has told how far,
// nor after it has moved.
func TestFarPeerBeforeItsFirstProbe(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		p := &pair{script: &script{}}
		p.Cluster = rafttest.New(t, rafttest.Config{
			Members: 2, Network: []memnet.Option{memnet.WithSockets(256<<10, 256<<10)},
			Server: func(h http.Handler) *http.Server {
				return rafthttp.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h.ServeHTTP(flushing{w}, r) }))
			},
		})
		p.Link(1, 2).SetDelay(150 * time.Millisecond)
		p.Link(2, 1).SetDelay(150 * time.Millisecond)
		p.leader, p.follower = p.Start(1, &script{}), p.Start(2, p.script)
		p.script.t = p.follower.Transport
		for _, what := range []string{"started", "moved"} {
			began := time.Now()
			for range 100 {
				p.send(100*time.Millisecond, nil)
				require.Nil(t, p.appends().Slow, "%s %s ago: %+v", what, time.Since(began), p.appends().Slow)
			}
			p.leader.UpdatePeer(2, p.leader.Status().Peers[0].URLs)
		}
	})
}
