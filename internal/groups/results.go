package groups

import (
	"sync"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/internal/errs"
)

// results are the snapshots of a group to other replicas whose results raft is not told of yet.
type results struct {
	mu     sync.Mutex
	ended  bool
	posted map[*raftpb.Message]struct{} // each MsgSnap without a database
}

// resulting returns the results.
func (g *Group) resulting() *results {
	if r := g.results.Load(); r != nil {
		return r
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.results.Load() == nil {
		g.results.Store(&results{ended: g.stopped.Load()})
	}
	return g.results.Load()
}

// posts notes a MsgSnap without a database that is sent. It returns false if the group has ended.
func (g *Group) posts(m *raftpb.Message) bool {
	r := g.resulting()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended {
		return false
	}
	if r.posted == nil {
		r.posted = map[*raftpb.Message]struct{}{}
	}
	r.posted[m] = struct{}{}
	return true
}

// posted reports the result of a MsgSnap without a database: a failure unless cause is nil. It does nothing if that was reported.
func (g *Group) posted(m *raftpb.Message, cause error) {
	r := g.resulting()
	r.mu.Lock()
	_, due := r.posted[m]
	delete(r.posted, m)
	r.mu.Unlock()
	if due {
		g.snapshotEnded(m.GetTo(), cause)
	}
}

// endResults reports each MsgSnap without a database whose result is not known when the group has ended.
func (g *Group) endResults() {
	r := g.results.Load()
	if r == nil {
		return
	}
	r.mu.Lock()
	r.ended = true
	posted := r.posted
	r.posted = nil
	r.mu.Unlock()
	for m := range posted {
		g.snapshotEnded(m.GetTo(), errs.ErrStopped)
	}
}
