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

// Processed says that appends, which Process has had one after another until now, waited for so long, and took so long
// each.
func (a *Arrivals) Processed(waited, took time.Duration, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.receive == nil {
		a.receive, a.process = new(Histogram), new(Histogram)
	}
	t := Times{Receive: max(waited, 0), Process: took}
	a.receive.add(t[Receive], now)
	a.process.add(t[Process], now)
	a.course.add(t, Times{}, now.Add(-t.Total()), now)
}

// ArrivalTimes is what is known of the appends from a peer.
type ArrivalTimes struct {
	Receive, Process Distribution
}

// Read returns what is known, and how it is now, where the oldest append in the queue is so old and Process has had one
// for so long.
func (a *Arrivals) Read(now time.Time, oldest, processing time.Duration) (all ArrivalTimes, v View) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.receive != nil {
		all = ArrivalTimes{a.receive.distribution(now), a.process.distribution(now)}
	}
	var pending *Times
	if oldest > 0 {
		processing = min(processing, oldest)
		pending = &Times{Receive: oldest - processing, Process: processing}
	}
	return all, a.course.view(pending, Times{}, now.Add(-oldest), now, now)
}

// Peer has the samples of both directions. The zero value is ready.
type Peer struct {
	Out Appends
	In  Arrivals
}
