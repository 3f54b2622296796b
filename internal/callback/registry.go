package callback

import (
	"maps"
	"slices"
	"sync"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.uber.org/zap"
)

// maxLingering limits the members without users whose last callbacks have not returned, and
// that incoming requests added: each may hold a goroutine.
const maxLingering = 64

// Notifiers are the asynchronous callbacks about one member. Everything that concerns the member
// shares them: the peer, a removed one with the same id that has not ended, a remote, a snapshot
// of a member that is neither. So the callbacks about a member are called in order, one after another,
// also when the member becomes a peer or is removed.
type Notifiers struct {
	Reports *Reports
	Events  *Events
	Log     *zap.Logger // names the member, and writes asynchronously

	lines *AsyncLog // of Log
	users int       // guarded by Registry.mu
}

func (m *Notifiers) all() []*notifier {
	return []*notifier{&m.Reports.notifier, &m.Events.notifier, &m.lines.queue.notifier}
}

// idle reports whether no callback is running.
func (m *Notifiers) idle() bool {
	return !slices.ContainsFunc(m.all(), (*notifier).busy)
}

// Registry has the notifiers of all members that are in use, or whose last callbacks have
// not returned. It is safe for concurrent use.
type Registry struct {
	guard     Guard
	raft      Raft
	hooks     EventHooks
	directLog *zap.Logger // the application's: it may block its callers

	mu     sync.Mutex
	byID   map[types.ID]*Notifiers
	closed bool
}

// NewRegistry returns an empty registry. Its notifiers call raft and hooks, which the caller has
// guarded, and log, which they guard.
func NewRegistry(g Guard, raft Raft, hooks EventHooks, log *zap.Logger) *Registry {
	return &Registry{guard: g, raft: raft, hooks: hooks, directLog: log, byID: map[types.ID]*Notifiers{}}
}

// Acquire returns the notifiers of a member for one more user, which must release them.
func (t *Registry) Acquire(id types.ID) *Notifiers {
	t.mu.Lock()
	defer t.mu.Unlock()
	m := t.byID[id]
	if m == nil {
		m = &Notifiers{Reports: newReports(t.raft, uint64(id)), Events: NewEvents(id, t.hooks), lines: NewAsyncLog(t.guard, MemberLines)}
		m.Log = m.lines.Wrap(t.directLog.With(zap.String("remote-peer-id", id.String())))
		for _, n := range m.all() {
			n.ended = func() { t.forgetIfIdle(id, m) }
		}
		t.byID[id] = m
	}
	if m.users++; m.users == 1 {
		for _, n := range m.all() {
			n.setClosed(t.closed)
		}
	}
	return m
}

// AcquireForRequest is Acquire for a request of a member, with id 0 if it states none. It
// returns nil if callbacks about too many members without users have not returned.
func (t *Registry) AcquireForRequest(id types.ID) *Notifiers {
	t.mu.Lock()
	lingering := 0
	for _, m := range t.byID {
		if m.users == 0 {
			lingering++
		}
	}
	known := t.byID[id] != nil
	t.mu.Unlock()
	if !known && lingering >= maxLingering {
		return nil
	}
	return t.Acquire(id)
}

// Release ends the use of the notifiers of a member. Calls that the user has added are still
// made.
func (t *Registry) Release(id types.ID, m *Notifiers) {
	t.mu.Lock()
	if m.users--; m.users == 0 {
		for _, n := range m.all() {
			n.setClosed(true)
		}
	}
	t.mu.Unlock()
	t.forgetIfIdle(id, m)
}

// forgetIfIdle forgets the notifiers of a member that have no users, once all callbacks have
// returned.
func (t *Registry) forgetIfIdle(id types.ID, m *Notifiers) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if m.users == 0 && t.byID[id] == m && m.idle() {
		delete(t.byID, id)
	}
}

// Len returns the number of members with notifiers.
func (t *Registry) Len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.byID)
}

// Close returns when all callbacks that were added have returned. None comes later.
func (t *Registry) Close() {
	t.mu.Lock()
	t.closed = true
	members := slices.Collect(maps.Values(t.byID))
	t.mu.Unlock()
	for _, m := range members {
		for _, n := range m.all() {
			n.close()
		}
	}
}
