package rafthttp

import (
	"slices"
	"sync"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"

	"github.com/seed-4d73690b/rafthttp/internal/callback"
	"github.com/seed-4d73690b/rafthttp/internal/member"
	"github.com/seed-4d73690b/rafthttp/internal/pipeline"
	"github.com/seed-4d73690b/rafthttp/internal/queue"
)

// remote is a member known only by its URLs, so that it can
// be answered before it is a peer. It has only a pipeline, and costs
// no goroutine until a message is sent.
type remote struct {
	member   *member.Member
	urls     *urlPicker
	pipeline *pipeline.Pipeline
	learned  bool      // from a header, not by the application
	used     time.Time // guarded by remotes.mu
}

func (r *remote) shut(cause error) {
	r.member.End(cause)
	r.pipeline.Close()
}

// remotes are the remotes of a Transport: at most maxRemotes, each dropped after
// remoteLifetime without use. Safe for concurrent use.
type remotes struct {
	s *member.Config

	mu     sync.Mutex
	byID   map[types.ID]*remote
	closed bool
}

// add adds a remote unless there is one, or valid returns false: then it returns false.
// When a peer is added, it is in the map before its remote is removed, and remove waits for
// the lock that valid is called under. When there are too many, the least recently used
// remote is evicted, those learned from headers first: an unauthenticated client
// cannot displace remotes added by the application. The caller must join the evicted
// remote.
func (rs *remotes) add(id types.ID, urls types.URLs, learned bool, valid func() bool) (evicted *remote, ok bool) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if rs.closed {
		return nil, true
	}
	if !valid() {
		return nil, false
	}
	if r := rs.byID[id]; r != nil {
		if r.urls.same(urls) && (learned || !r.learned) {
			return nil, true
		}
		if learned && !r.learned {
			return nil, true
		}
		evicted = r
	} else if len(rs.byID) >= maxRemotes {
		if evicted = rs.oldest(learned); evicted == nil {
			return nil, true
		}
	}
	if evicted != nil {
		delete(rs.byID, evicted.member.RemoteID)
		evicted.shut(ErrPeerRemoved)
	}
	picker := newURLPicker(urls)
	l := member.New(rs.s, id, picker)
	if evicted != nil && evicted.member.RemoteID == id {
		l.Paused.Store(evicted.member.Paused.Load())
	}
	rs.byID[id] = &remote{member: l, urls: picker, pipeline: pipeline.New(l), learned: learned, used: time.Now()}
	return evicted, true
}

// oldest is called with mu held.
func (rs *remotes) oldest(learnedOnly bool) *remote {
	var oldest *remote
	for _, r := range rs.byID {
		if learnedOnly && !r.learned {
			continue
		}
		if oldest == nil || (r.learned && !oldest.learned) || (r.learned == oldest.learned && r.used.Before(oldest.used)) {
			oldest = r
		}
	}
	return oldest
}

// send gives m to the pipeline of a remote, and reports whether there is one.
func (rs *remotes) send(id types.ID, m *raftpb.Message) bool {
	it := queue.NewItem(m)
	rs.mu.Lock()
	r := rs.byID[id]
	if r == nil {
		rs.mu.Unlock()
		return false
	}
	// Until mu is released r does not end: its queue is not down, and enter succeeds.
	r.used = time.Now()
	var cause error
	q := r.pipeline.QueueOf(m.GetType())
	if r.member.Paused.Load() {
		cause = ErrPaused
	} else if cause = q.Offer(it).Err(); cause == nil {
		rs.mu.Unlock()
		return true
	}
	entered := r.member.Enter()
	rs.mu.Unlock()
	if entered {
		defer r.member.Wait.Done()
		r.member.Lose(q, []queue.Item{it}, cause)
	}
	return true
}

// pause pauses a remote, or ends that. It reports whether there is one.
func (rs *remotes) pause(id types.ID, paused bool) bool {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	r := rs.byID[id]
	if r == nil {
		return false
	}
	if r.member.Paused.Store(paused); paused {
		r.pipeline.DropQueued()
	}
	return true
}

// isPaused reports whether a member is a paused remote.
func (rs *remotes) isPaused(id types.ID) bool {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	r := rs.byID[id]
	return r != nil && r.member.Paused.Load()
}

// remove removes a remote and returns it shut; the caller must join it.
func (rs *remotes) remove(id types.ID, cause error) *remote {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	r := rs.byID[id]
	if r != nil {
		delete(rs.byID, id)
		r.shut(cause)
	}
	return r
}

// tick is called every heartbeat interval: idle queues release goroutines and
// memory. Remotes not used for remoteLifetime are removed and returned; the caller
// must join them.
func (rs *remotes) tick(now time.Time) (expired []*remote) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	for id, r := range rs.byID {
		r.pipeline.Tidy()
		if now.Sub(r.used) >= remoteLifetime {
			delete(rs.byID, id)
			r.shut(ErrPeerRemoved)
			expired = append(expired, r)
		}
	}
	return expired
}

// close removes all remotes permanently.
func (rs *remotes) close(cause error) (all []*remote) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	rs.closed = true
	for id, r := range rs.byID {
		delete(rs.byID, id)
		r.shut(cause)
		all = append(all, r)
	}
	return all
}

// members returns the members of all remotes.
func (rs *remotes) members() (all []*member.Member) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	for _, r := range rs.byID {
		all = append(all, r.member)
	}
	return all
}

// ids returns the ids of the remotes, sorted.
func (rs *remotes) ids() []types.ID {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	ids := make([]types.ID, 0, len(rs.byID))
	for id := range rs.byID {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// laneLocal is the lane name for drops of messages for the local member, which reach
// no lane.
const laneLocal = "local"

// localDrops counts messages given to Send for the local member, or for one of
// raft's local threads. They are not reported to raft: it would consider the local
// member unreachable.
type localDrops struct {
	queue.Counters
	events *callback.Events // of the local member
}

// dropLocal drops the first of msgs, and the following ones that are also local. It returns
// their number.
func (e *engine) dropLocal(msgs []*raftpb.Message) (n int) {
	for n < len(msgs) && e.cfg.IsLocal(types.ID(msgs[n].GetTo())) {
		n++
	}
	if e.ctx.Err() != nil { // after Stop
		return n
	}
	total := e.local.Drop(n, queue.DropLocal)
	if e.local.DropLogDue(queue.DropLocal, time.Now()) {
		e.cfg.Log.Warn("Send was given messages for raft's local threads or the local member, see SplitMessages; further ones are only counted for a while",
			zap.Stringer("type", msgs[0].GetType()), zap.String("to", types.ID(msgs[0].GetTo()).String()),
			zap.Uint64("dropped-total", total), zap.Error(ErrLocalMessage))
	}
	e.local.events.Dropped(laneLocal, n, ErrLocalMessage)
	return n
}
