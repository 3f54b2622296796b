package snapshot

import (
	"sync"
)

// endings end transfers that have had no turn, in order, on one goroutine for all: there may be ten thousand. Those whose reader the
// application has opened have one each, since its Close may hang. The zero value has none. It is safe for concurrent use.
type endings struct {
	mu   sync.Mutex
	due  []ending
	runs bool
	wg   sync.WaitGroup // the goroutine
}

type ending struct {
	t   *transfer
	err error
}

// add ends a transfer soon. It does not block.
func (e *endings) add(t *transfer, err error) {
	if _, late := t.m.ReadCloser.(*lateReader); !late && t.m.ReadCloser != nil {
		go t.end(err)
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.due = append(e.due, ending{t, err})
	if !e.runs {
		e.runs = true
		e.wg.Go(e.run)
	}
}

func (e *endings) run() {
	for {
		e.mu.Lock()
		due := e.due
		e.due, e.runs = nil, len(due) > 0
		e.mu.Unlock()
		if len(due) == 0 {
			return
		}
		for _, one := range due {
			one.t.end(one.err)
		}
	}
}

// Wait returns when no transfer is being ended. None is added any more.
func (p *Pace) Wait() { p.endings.wg.Wait() }
