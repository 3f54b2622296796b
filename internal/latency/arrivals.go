package latency

import (
	"sync"
	"time"
)

// Arrivals samples the appends from one peer. The zero value is ready, and it is safe for concurrent use.
type Arrivals struct {
	mu               sync.Mutex
	course           course
	receive, process *Histogram // nil until there is something
}

// Processed says that Process has had so many messages one after another until now, which took so long together, and that the
// first of them, an append, had waited for so long.
func (a *Arrivals) Processed(waited, took time.Duration, messages int, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.receive == nil {
		a.receive, a.process = new(Histogram), new(Histogram)
	}
	waited = max(waited, 0)
	t := Times{Receive: waited, Process: took / time.Duration(messages)}
	a.receive.add(t[Receive], now)
	a.process.add(t[Process], now)
	a.course.add(t, Times{}, now.Add(-waited-took), now)
}

// ArrivalTimes is what is known of the appends from a peer.
type ArrivalTimes struct {
	Receive, Process Distribution
}

// Read returns what is known, and how it is now, where the oldest message in the queue, those that Process has included, is an append and
// so old, and Process has had messages for so long, and how many at most; 0: it has none. Both parts are those that a sample would have
// if Process was done now: what the first message waited for, and the mean of each.
func (a *Arrivals) Read(now time.Time, oldest, took time.Duration, messages int) (all ArrivalTimes, v View) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.receive != nil {
		all = ArrivalTimes{a.receive.distribution(now), a.process.distribution(now)}
	}
	var pending *Times
	if oldest > 0 {
		pending = &Times{Receive: oldest}
		if messages > 0 {
			took = min(took, oldest)
			pending = &Times{Receive: oldest - took, Process: took / time.Duration(messages)}
		}
	}
	return all, a.course.view(pending, Times{}, now.Add(-oldest), now, now)
}

// Peer has the samples of both directions. The zero value is ready.
type Peer struct {
	Out Appends
	In  Arrivals
}
