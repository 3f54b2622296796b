package snapshot

import (
	"cmp"
	"context"
	"slices"
	"sync"

	"go.etcd.io/etcd/client/pkg/v3/types"
)

// places limits the concurrent transfers in one direction. A member that already has one, or that is not a peer, leaves
// a place to each peer that has none, up to half of all places. A lone transfer is admitted from any member. It is safe
// for concurrent use.
type places struct {
	max   int
	peers func() []types.ID // that have a share, each once; must not block

	mu    sync.Mutex
	taken map[types.ID]int
	n     int // total
}

func newPlaces(max int, peers func() []types.ID) *places {
	return &places{max: max, peers: peers, taken: map[types.ID]int{}}
}

// full reports whether there is no place for another transfer of a member.
func (p *places) full(of types.ID) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.isFull(of)
}

// isFull is full, called with mu held.
func (p *places) isFull(of types.ID) bool {
	if p.n == 0 {
		return false
	}
	owed, first := 0, false
	for _, id := range p.peers() {
		if p.taken[id] == 0 {
			owed++
			first = first || id == of
		}
	}
	free := p.max - p.n
	return free <= 0 || !first && free <= min(owed, p.max/2)
}

// take takes a place, unless there is none.
func (p *places) take(of types.ID) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.isFull(of) {
		return false
	}
	p.taken[of]++
	p.n++
	return true
}

func (p *places) giveBack(of types.ID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.n--
	if p.taken[of]--; p.taken[of] == 0 {
		delete(p.taken, of)
	}
}

// count returns the number of places taken.
func (p *places) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.n
}

// turns are places that transfers wait for: those of a member with a higher priority first, and in order of arrival. Among the members
// that may have one, the first of each is compared in the same way. It is safe for concurrent use.
type turns struct {
	ctx     context.Context // no more begins once it has ended
	places  *places
	mu      sync.Mutex
	waiting map[types.ID][]*waiter // of each member, in order; none is empty
	arrived uint64
}

// waiter waits for a turn. It costs no goroutine.
type waiter struct {
	of       types.ID
	priority int
	number   uint64 // of arrival
	ready    func() // called once it has a place, under the lock of turns: it does not block
}

// compare puts the one that is first in order first.
func (w *waiter) compare(o *waiter) int {
	return cmp.Or(cmp.Compare(o.priority, w.priority), cmp.Compare(w.number, o.number))
}

// add makes w wait for a place, which is held until release.
func (t *turns) add(w *waiter) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.waiting == nil {
		t.waiting = map[types.ID][]*waiter{}
	}
	t.arrived++
	w.number = t.arrived
	all := t.waiting[w.of]
	i, _ := slices.BinarySearchFunc(all, w, (*waiter).compare)
	t.waiting[w.of] = slices.Insert(all, i, w)
	t.serve()
}

// remove makes w wait no longer. It returns false if w does not wait, perhaps since it has a place.
func (t *turns) remove(w *waiter) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := t.waiting[w.of]
	i, found := slices.BinarySearchFunc(all, w, (*waiter).compare)
	if found {
		t.cut(w.of, i)
	}
	return found
}

// cut removes one that waits. It is called with mu held.
func (t *turns) cut(of types.ID, i int) {
	all := slices.Delete(t.waiting[of], i, i+1)
	if t.waiting[of] = all; len(all) == 0 {
		delete(t.waiting, of)
	}
}

// acquire waits for a place, which is held until release. It returns false if ctx ended, or quit was closed, before.
func (t *turns) acquire(ctx context.Context, of types.ID, priority int, quit <-chan struct{}) bool {
	select {
	case <-quit:
		return false
	case <-ctx.Done():
		return false
	default:
	}
	ready := make(chan struct{})
	w := &waiter{of: of, priority: priority, ready: func() { close(ready) }}
	t.add(w)
	select {
	case <-ready:
		return true
	case <-quit:
	case <-ctx.Done():
	}
	if !t.remove(w) { // it got its place at the same time
		t.release(of)
	}
	return false
}

// release frees a place.
func (t *turns) release(of types.ID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.places.giveBack(of)
	t.serve()
}

// serve admits the transfers that may have a place. It is called with mu held. Those of a Transport that stops end one after another, and
// those that still wait must not open their databases meanwhile.
func (t *turns) serve() {
	if t.ctx.Err() != nil {
		return
	}
	refused := map[types.ID]bool{}
	for free := t.places.max - t.places.count(); free > 0; { // other than here none is taken
		var next *waiter
		for of, all := range t.waiting {
			if !refused[of] && (next == nil || all[0].compare(next) < 0) {
				next = all[0]
			}
		}
		switch {
		case next == nil:
			return
		case t.places.take(next.of):
			free--
			t.cut(next.of, 0)
			next.ready()
		default:
			refused[next.of] = true
		}
	}
}

// count returns the number of places taken.
func (t *turns) count() int { return t.places.count() }
