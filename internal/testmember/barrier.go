package testmember

import "sync"

// Barrier blocks those that pass it once it is shut, until it is opened for good.
type Barrier struct {
	mu      sync.Mutex
	shut    bool
	opened  chan struct{}
	Entered chan struct{} // has a value for each that is blocked
}

// Close has the barrier block.
func (b *Barrier) Close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.shut = true
}

// Open lets everyone pass, now and later.
func (b *Barrier) Open() { close(b.opened) }

// Enter returns what to wait for before one goes on, or nil if the barrier is not shut.
func (b *Barrier) Enter() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.shut {
		return nil
	}
	b.Entered <- struct{}{}
	return b.opened
}

// Pass blocks while the barrier is shut.
func (b *Barrier) Pass() {
	if opened := b.Enter(); opened != nil {
		<-opened
	}
}

// NewBarrier returns a barrier that is not shut.
func NewBarrier() *Barrier {
	return &Barrier{opened: make(chan struct{}), Entered: make(chan struct{}, 1<<20)}
}

// States are what PeerState was told.
type States struct {
	mu  sync.Mutex
	all []bool
}

// Told adds a state.
func (s *States) Told(active bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, active)
}

// List returns the states so far.
func (s *States) List() []bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]bool(nil), s.all...)
}
