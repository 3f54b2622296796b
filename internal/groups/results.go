package groups

import (
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"

	"github.com/seed-4d73690b/rafthttp/internal/errs"
	"github.com/seed-4d73690b/rafthttp/internal/member"
)

// results are the snapshots of a group to other replicas whose results raft is not told of yet.
type results struct {
	mu       sync.Mutex
	ended    bool
	posted   map[*raftpb.Message]struct{}       // each MsgSnap without a database
	replicas map[uint64]*member.SnapshotReports // by id; of those without an entry there is nothing to remember
}

// snapshotOwner is a replica as the owner of its SnapshotReports.
type snapshotOwner struct {
	group *Group
	id    uint64
}

func (o snapshotOwner) Report(err error) { o.group.tellSnapshot(o.id, err) }
func (o snapshotOwner) Enter() bool      { return o.group.groups.enter() }
func (o snapshotOwner) Leave()           { o.group.groups.wg.Done() }
func (o snapshotOwner) Repeated(failures int, err error) {
	o.group.log().Warn("raft repeats failed snapshots to the peer at once: remove the cause, and set Transport.SnapshotBackoff",
		zap.String("remote-peer-id", types.ID(o.id).String()), zap.Int("failures-in-a-row", failures), zap.Error(err))
}

// resulting returns the results.
func (g *Group) resulting() *results {
	if r := g.results.Load(); r != nil {
		return r
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.results.Load() == nil {
		g.results.Store(&results{ended: g.stopped.Load(), posted: map[*raftpb.Message]struct{}{}, replicas: map[uint64]*member.SnapshotReports{}})
	}
	return g.results.Load()
}

// began notes a snapshot to a replica, whose end snapshotEnded is told of. It is called with mu held.
func (r *results) began(g *Group, id uint64) {
	of := r.replicas[id]
	if of == nil {
		of = new(member.SnapshotReports)
		if r.replicas[id] = of; r.ended {
			of.End(snapshotOwner{g, id})
		}
	}
	of.Began(1)
}

// endedOne is called with mu held.
func (r *results) endedOne(g *Group, id uint64, cause error) {
	if of := r.replicas[id]; of != nil { // it began: began was called
		of.Ended(snapshotOwner{g, id}, g.groups.node.SnapshotBackoff, cause)
		if g.find(id) == nil || errors.Is(cause, errs.ErrPeerRemoved) { // removed or moved while it was sent
			of.Hurry(snapshotOwner{g, id})
		}
		r.forgetIfIdle(id)
	}
}

// forgetIfIdle is called with mu held.
func (r *results) forgetIfIdle(id uint64) {
	if of := r.replicas[id]; of != nil && of.IsIdle() {
		delete(r.replicas, id)
	}
}

// snapshotBegan notes a snapshot with a database to a replica, whose end snapshotEnded is told of.
func (g *Group) snapshotBegan(id uint64) {
	r := g.resulting()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.began(g, id)
}

// snapshotEnded has the result of a snapshot to a replica reported: a failure unless cause is nil, perhaps later.
func (g *Group) snapshotEnded(id uint64, cause error) {
	r := g.resulting()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.endedOne(g, id, cause)
}

// posts notes a MsgSnap without a database that is sent. It returns false if the group has ended.
func (g *Group) posts(m *raftpb.Message) bool {
	r := g.resulting()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended {
		return false
	}
	r.posted[m] = struct{}{}
	r.began(g, m.GetTo())
	return true
}

// posted is snapshotEnded for a MsgSnap without a database. It does nothing if the end of the group has reported it.
func (g *Group) posted(m *raftpb.Message, cause error) {
	r := g.resulting()
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, due := r.posted[m]; due {
		delete(r.posted, m)
		r.endedOne(g, m.GetTo(), cause)
	}
}

// hurrySnapshots has results to a replica reported that are held back, unless another snapshot to it is under way.
func (g *Group) hurrySnapshots(id uint64) {
	r := g.results.Load()
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if of := r.replicas[id]; of != nil {
		of.Hurry(snapshotOwner{g, id})
		r.forgetIfIdle(id)
	}
}

// snapshotsHeldUntil returns when raft is told of failed snapshots to a replica, see SnapshotReports.
func (g *Group) snapshotsHeldUntil(id uint64) time.Time {
	r := g.results.Load()
	if r == nil {
		return time.Time{}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if of := r.replicas[id]; of != nil {
		return of.HeldUntil()
	}
	return time.Time{}
}

// endResults has the results reported that are held back when the group has ended, and each MsgSnap without a database whose result is
// not known. Snapshots with a database end later.
func (g *Group) endResults() {
	r := g.results.Load()
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended = true
	for id, of := range r.replicas {
		of.End(snapshotOwner{g, id})
	}
	for _, m := range slices.Collect(maps.Keys(r.posted)) {
		delete(r.posted, m)
		r.endedOne(g, m.GetTo(), errs.ErrStopped)
	}
}

// hurrySnapshots is Group.hurrySnapshots for all replicas on the node.
func (n *node) hurrySnapshots() {
	for _, r := range n.allReplicas() {
		r.group().hurrySnapshots(r.id)
	}
}
