// Package probe makes probes of a peer, and keeps what they have measured: its round-trip time, and how far off its clock is.
package probe

import (
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/seed-4d73690b/rafthttp/internal/loglimit"
)

const (
	// smoothing is the weight of a new round-trip time (PROTOCOL.md, section 9).
	smoothing = 8
	// maxClockOffset is the clock difference that is warned of (PROTOCOL.md,
	// section 9).
	maxClockOffset = time.Second
	// steadyProbes is how many intervals pass between two probes of a peer that
	// answers. Each dials anew, since a connection kept for it would cost three
	// goroutines, and stock members close it after 5 s.
	steadyProbes = 7
)

// Estimate has the round-trip time to one peer and the difference of its clock. Its zero value is ready, and it is safe for
// concurrent use.
type Estimate struct {
	mu      sync.Mutex
	running bool
	skip    int           // intervals until the next
	rtt     time.Duration // smoothed; 0: not measured yet
	offset  time.Duration // the peer's clock minus ours
	within  time.Duration // how far off the peer's clock may be from that
	known   bool          // offset was learned
	warned  bool          // of offset
	warning loglimit.Limiter

	at               time.Time // when it was measured
	probes, failures uint64
}

// Measurement is what an Estimate knows.
type Measurement struct {
	RTT, ClockOffset time.Duration
	At               time.Time // of the last measurement
	Probes, Failures uint64
}

// Measurement returns what is known; the zero value before the first probe.
func (e *Estimate) Measurement() Measurement {
	e.mu.Lock()
	defer e.mu.Unlock()
	return Measurement{e.rtt, e.offset, e.at, e.probes, e.failures}
}

// Failed counts a probe that brought no measurement.
func (e *Estimate) Failed() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.probes++
	e.failures++
}

// Begin is called every interval, and reports whether a probe should start: one at
// a time.
func (e *Estimate) Begin() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.skip--
	if e.running || e.skip >= 0 {
		return false
	}
	e.running, e.skip = true, 0
	return true
}

// End says that a probe has ended.
func (e *Estimate) End() {
	e.mu.Lock()
	e.running = false
	e.mu.Unlock()
}

// Measured takes in one measurement.
func (e *Estimate) Measured(rtt, offset time.Duration, log *zap.Logger) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.rtt == 0 {
		e.rtt = rtt
	} else {
		e.rtt += (rtt - e.rtt) / smoothing
	}
	e.learnOffset(offset, rtt/2)
	e.at = time.Now()
	e.probes++
	e.skip = steadyProbes - 1
	bad := e.offset.Abs()-e.within > maxClockOffset
	if bad && !e.warned && e.warning.Due(time.Now()) {
		log.Warn("the clock of the peer differs from ours", zap.Duration("offset", e.offset), zap.Duration("rtt", rtt))
	}
	e.warned = bad
}

// learnOffset takes in a clock offset that is known to within some time: the peer
// may have told its time at any moment of a round trip. One that was answered late
// says little: it is left out unless what is known cannot be true any more. It is
// called with mu held.
func (e *Estimate) learnOffset(offset, within time.Duration) {
	certain := within // both can be true as long as they are no further apart
	if e.known {
		certain += e.within
	} else {
		e.within = maxClockOffset // with less, the first one says nothing
	}
	apart := (offset/2 - e.offset/2).Abs() // half of it, which does not overflow
	if within <= e.within || apart > certain/2 {
		e.offset, e.within, e.known = offset, within, true
	}
}
