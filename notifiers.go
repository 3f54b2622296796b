package rafthttp

import (
	"maps"
	"slices"
	"sync"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.uber.org/zap"
)

// maxLingering bounds the members of which nothing has to be told any more but what is
// being told, and that incoming snapshots added: each may hold a goroutine.
const maxLingering = 64

// memberNotifiers tell Raft, the Observer and the log of one member. All that has to
// tell of it shares them: the peer, one with the same id that was removed and has not
// ended, a remote, a snapshot of a member that is neither. So what is told of a member
// comes in order, and one after another, whatever the member is meanwhile.
type memberNotifiers struct {
	reports *reports
	events  *events
	lines   *logLines
	log     *zap.Logger // names the member, and writes by lines

	users int // guarded by notifierTable.mu
}

func (m *memberNotifiers) all() [3]*notifier {
	return [...]*notifier{&m.reports.notifier, &m.events.notifier, &m.lines.notifier}
}

// quiet reports whether nothing is being told.
func (m *memberNotifiers) quiet() bool {
	for _, n := range m.all() {
		if n.busy() {
			return false
		}
	}
	return true
}

// notifierTable has the notifiers of all members that something tells of, or is being
// told of. It is safe for concurrent use.
type notifierTable struct {
	s *settings

	mu     sync.Mutex
	byID   map[types.ID]*memberNotifiers
	closed bool
}

func newNotifierTable(s *settings) *notifierTable {
	return &notifierTable{s: s, byID: map[types.ID]*memberNotifiers{}}
}

// acquire returns the notifiers of a member for one more user, which must release
// them.
func (t *notifierTable) acquire(id types.ID) *memberNotifiers {
	t.mu.Lock()
	defer t.mu.Unlock()
	m := t.byID[id]
	if m == nil {
		m = &memberNotifiers{
			reports: newReports(t.s.raft, uint64(id)), events: newEvents(&t.s.observer, id), lines: newLogLines(t.s.guard, memberLines),
		}
		m.log = m.lines.of(t.s.directLog.With(zap.String("remote-peer-id", id.String())))
		for _, n := range m.all() {
			n.ended = func() { t.settle(id, m) }
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

// acquireForRequest is acquire for what a member asks of us, 0 if it does not say who it
// is. It returns nil if hooks stand still over too many members.
func (t *notifierTable) acquireForRequest(id types.ID) *memberNotifiers {
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
	return t.acquire(id)
}

// release takes a user off. What it has added is told all the same.
func (t *notifierTable) release(id types.ID, m *memberNotifiers) {
	t.mu.Lock()
	if m.users--; m.users == 0 {
		for _, n := range m.all() {
			n.setClosed(true)
		}
	}
	t.mu.Unlock()
	t.settle(id, m)
}

// settle forgets the notifiers of a member that nothing tells of any more, once all is
// told.
func (t *notifierTable) settle(id types.ID, m *memberNotifiers) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if m.users == 0 && t.byID[id] == m && m.quiet() {
		delete(t.byID, id)
	}
}

// close tells what is left, and returns when nobody will be told anything any more.
func (t *notifierTable) close() {
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
