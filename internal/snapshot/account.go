package snapshot

import (
	"cmp"
	"slices"
	"sync"
)

// Account is what there is to know of the transfers with one member, or with one node for all groups, in one direction. The zero value has
// none. It is safe for concurrent use.
type Account struct {
	mu      sync.Mutex
	waiting int
	running map[*Progress]struct{}
	last    *Status
	done    uint64
	failed  uint64
}

// AccountStatus is the state of an Account.
type AccountStatus struct {
	Waiting      int      // for their turn
	Running      []Status // in the order in which they began
	Last         *Status  // that ended; nil: none
	Done, Failed uint64
}

// wait counts a transfer that waits for its turn.
func (a *Account) wait() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.waiting++
}

// begin notes that a transfer that waits has its turn.
func (a *Account) begin(p *Progress) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.waiting--
	a.run(p)
}

// run is called with mu held.
func (a *Account) run(p *Progress) {
	if a.running == nil {
		a.running = map[*Progress]struct{}{}
	}
	a.running[p] = struct{}{}
}

// end notes the end of a transfer that waits or has its turn.
func (a *Account) end(p *Progress, st Status, failed bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, ran := a.running[p]; !ran {
		a.waiting--
	}
	a.over(p, st, failed)
}

// over is called with mu held.
func (a *Account) over(p *Progress, st Status, failed bool) {
	delete(a.running, p)
	if a.last = &st; failed {
		a.failed++
	} else {
		a.done++
	}
}

// Receiving notes that a transfer to us begins.
func (a *Account) Receiving(p *Progress) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.run(p)
}

// Received notes the end of a transfer to us, which counts if its message was accepted.
func (a *Account) Received(p *Progress, st Status, accepted bool, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if accepted {
		a.over(p, st, err != nil)
	} else {
		delete(a.running, p)
	}
}

// Status returns the current state.
func (a *Account) Status() AccountStatus {
	a.mu.Lock()
	defer a.mu.Unlock()
	st := AccountStatus{Waiting: a.waiting, Last: a.last, Done: a.done, Failed: a.failed}
	for p := range a.running {
		if one := p.state(); one.Index != 0 { // its message is known
			st.Running = append(st.Running, one)
		}
	}
	slices.SortFunc(st.Running, func(x, y Status) int { return cmp.Or(x.Started.Compare(y.Started), cmp.Compare(x.Group, y.Group)) })
	return st
}
