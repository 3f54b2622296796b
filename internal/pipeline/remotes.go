package pipeline

import (
	"slices"
	"sync"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/internal/errs"
	"github.com/seed-4d73690b/rafthttp/internal/member"
	"github.com/seed-4d73690b/rafthttp/internal/queue"
)

const (
	maxRemotes     = 128
	remoteLifetime = 10 * time.Minute
)

// URLs select the URL of a remote.
type URLs interface {
	member.URLs
	// Same reports whether urls are the current ones.
	Same(urls types.URLs) bool
}

// Remote is a member known only by its URLs, so that it can
// be answered before it is a peer. It has only a pipeline, and costs
// no goroutine until a message is sent.
type Remote struct {
	Member   *member.Member
	Pipeline *Pipeline
	urls     URLs
	learned  bool      // from a header, not by the application
	used     time.Time // guarded by Remotes.mu
}

func (r *Remote) shut(cause error) {
	r.Member.End(cause)
	r.Pipeline.Close()
}

// Remotes are the remotes of a Transport: at most maxRemotes, each dropped after
// remoteLifetime without use. Safe for concurrent use.
type Remotes struct {
	s       *member.Config
	newURLs func(types.URLs) URLs

	mu     sync.Mutex
	byID   map[types.ID]*Remote
	closed bool
}

// NewRemotes returns no remotes. newURLs makes what selects a URL of one.
func NewRemotes(s *member.Config, newURLs func(types.URLs) URLs) *Remotes {
	return &Remotes{s: s, newURLs: newURLs, byID: map[types.ID]*Remote{}}
}

// Add adds a remote unless there is one, or valid returns false: then it returns false.
// When a peer is added, it is in the map before its remote is removed, and Remove waits for
// the lock that valid is called under. When there are too many, the least recently used
// remote is evicted, those learned from headers first: an unauthenticated client
// cannot displace remotes added by the application. The caller must join the evicted
// remote.
func (rs *Remotes) Add(id types.ID, urls types.URLs, learned bool, valid func() bool) (evicted *Remote, ok bool) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if rs.closed {
		return nil, true
	}
	if !valid() {
		return nil, false
	}
	if r := rs.byID[id]; r != nil {
		if r.urls.Same(urls) && (learned || !r.learned) {
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
		delete(rs.byID, evicted.Member.RemoteID)
		evicted.shut(errs.ErrPeerRemoved)
	}
	picker := rs.newURLs(urls)
	l := member.New(rs.s, id, picker)
	if evicted != nil && evicted.Member.RemoteID == id {
		l.Paused.Store(evicted.Member.Paused.Load())
	}
	rs.byID[id] = &Remote{Member: l, urls: picker, Pipeline: New(l), learned: learned, used: time.Now()}
	return evicted, true
}

// oldest is called with mu held.
func (rs *Remotes) oldest(learnedOnly bool) *Remote {
	var oldest *Remote
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

// Send gives m to the pipeline of a remote, and reports whether there is one.
func (rs *Remotes) Send(id types.ID, m *raftpb.Message) bool {
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
	q := r.Pipeline.QueueOf(m.GetType())
	r.Member.SnapshotsBegan(queue.CountSnapshots([]*raftpb.Message{m}))
	if r.Member.Paused.Load() {
		cause = errs.ErrPaused
	} else if cause = q.Offer(it).Err(); cause == nil {
		rs.mu.Unlock()
		return true
	}
	entered := r.Member.Enter()
	rs.mu.Unlock()
	if entered {
		defer r.Member.Wait.Done()
		r.Member.Lose(q, []queue.Item{it}, cause)
	}
	return true
}

// Pause pauses a remote, or ends that. It reports whether there is one.
func (rs *Remotes) Pause(id types.ID, paused bool) bool {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	r := rs.byID[id]
	if r == nil {
		return false
	}
	if r.Member.Paused.Store(paused); paused {
		r.Pipeline.DropQueued()
	} else {
		r.Member.HurrySnapshots()
	}
	return true
}

// IsPaused reports whether a member is a paused remote.
func (rs *Remotes) IsPaused(id types.ID) bool {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	r := rs.byID[id]
	return r != nil && r.Member.Paused.Load()
}

// Remove removes a remote and returns it shut; the caller must join it.
func (rs *Remotes) Remove(id types.ID, cause error) *Remote {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	r := rs.byID[id]
	if r != nil {
		delete(rs.byID, id)
		r.shut(cause)
	}
	return r
}

// Tick is called every heartbeat interval: idle queues release goroutines and
// memory. Remotes not used for remoteLifetime are removed and returned; the caller
// must join them.
func (rs *Remotes) Tick(now time.Time) (expired []*Remote) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	for id, r := range rs.byID {
		r.Pipeline.Tidy()
		if now.Sub(r.used) >= remoteLifetime {
			delete(rs.byID, id)
			r.shut(errs.ErrPeerRemoved)
			expired = append(expired, r)
		}
	}
	return expired
}

// Close removes all remotes permanently.
func (rs *Remotes) Close(cause error) (all []*Remote) {
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

// Members returns the members of all remotes.
func (rs *Remotes) Members() (all []*member.Member) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	for _, r := range rs.byID {
		all = append(all, r.Member)
	}
	return all
}

// IDs returns the ids of the remotes, sorted.
func (rs *Remotes) IDs() []types.ID {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	ids := make([]types.ID, 0, len(rs.byID))
	for id := range rs.byID {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}
