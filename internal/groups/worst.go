package groups

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/seed-4d73690b/rafthttp/internal/queue"
)

// load is what a group is compared by.
type load struct {
	group      *Group
	blockedFor time.Duration
	failing    bool
	inactive   int // replicas
	heldBytes  int64
	dropped    uint64
}

// load returns the present load.
func (g *Group) load() load {
	l := load{group: g, failing: g.failing.Load()}
	for _, r := range g.replicas.all() {
		l.add(&r.in)
		if r.node.member.Activity.ActiveSince().IsZero() {
			l.inactive++
		}
	}
	if s := g.strangers.Load(); s != nil {
		l.add(s)
	}
	if d := g.dropped.Load(); d != nil {
		received := d.received.Dropped()
		l.dropped = received.Total() + d.local.Load() + d.refused.Load()
	}
	return l
}

// add adds the inboxes of a sender.
func (l *load) add(s *sender) {
	for k := range queue.Kinds {
		if in := s.existing(k); in != nil {
			held, blocked := l.group.groups.pools[k].InboxStatus(in)
			l.heldBytes += held
			l.blockedFor = max(l.blockedFor, blocked)
		}
	}
}

// compare puts the worse one first.
func (l load) compare(o load) int {
	failing := func(l load) int {
		if l.failing {
			return 1
		}
		return 0
	}
	return cmp.Or(
		cmp.Compare(o.blockedFor, l.blockedFor), cmp.Compare(failing(o), failing(l)), cmp.Compare(o.inactive, l.inactive),
		cmp.Compare(o.heldBytes, l.heldBytes), cmp.Compare(o.dropped, l.dropped), cmp.Compare(l.group.id, o.group.id),
	)
}

// Worst returns the states of up to n groups, the worst first.
func (gs *Groups) Worst(n int) []GroupState {
	gs.mu.RLock()
	all := slices.Collect(maps.Values(gs.all))
	gs.mu.RUnlock()
	loads := make([]load, len(all))
	for i, g := range all {
		loads[i] = g.load()
	}
	slices.SortFunc(loads, load.compare)
	states := []GroupState{}
	for _, l := range loads[:min(max(n, 0), len(loads))] {
		states = append(states, l.group.State())
	}
	return states
}

// StateOf returns the state of a group, or nil if there is none.
func (gs *Groups) StateOf(id uint64) *GroupState {
	gs.mu.RLock()
	g := gs.all[id]
	gs.mu.RUnlock()
	if g == nil {
		return nil
	}
	return new(g.State())
}
