package snapshot

import (
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

// turns are places that transfers wait for. It is safe for concurrent use.
type turns struct {
	places  *places
	mu      sync.Mutex
	waiting []*waiter // in order of arrival
}

type waiter struct {
	of    types.ID
	ready chan struct{} // closed when it has a place
}

// acquire waits for a place, which is held until release. It returns false if ctx ended, or quit was closed, before.
func (t *turns) acquire(ctx context.Context, of types.ID, quit <-chan struct{}) bool {
	select {
	case <-quit:
		return false
	case <-ctx.Done():
		return false
	default:
	}
	w := &waiter{of: of, ready: make(chan struct{})}
	t.mu.Lock()
	t.waiting = append(t.waiting, w)
	t.serve()
	t.mu.Unlock()
	select {
	case <-w.ready:
		return true
	case <-quit:
	case <-ctx.Done():
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if i := slices.Index(t.waiting, w); i >= 0 {
		t.waiting = slices.Delete(t.waiting, i, i+1)
	} else { // it got its place at the same time
		t.places.giveBack(of)
	}
	t.serve()
	return false
}

// release frees a place.
func (t *turns) release(of types.ID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.places.giveBack(of)
	t.serve()
}

// serve admits the transfers that may have a place. It is called with mu held.
func (t *turns) serve() {
	free := t.places.max - t.places.count() // other than here none is taken
	if free <= 0 {
		return
	}
	refused := map[types.ID]bool{} // also refuses later ones of the same member
	t.waiting = slices.DeleteFunc(t.waiting, func(w *waiter) bool {
		if free <= 0 || refused[w.of] {
			return false
		}
		if !t.places.take(w.of) {
			refused[w.of] = true
			return false
		}
		free--
		close(w.ready)
		return true
	})
}

// count returns the number of places taken.
func (t *turns) count() int { return t.places.count() }
