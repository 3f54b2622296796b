// Package probe probes a peer, and keeps the measurements: its round-trip time, and its clock offset.
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
	// maxClockOffset is the largest clock difference without a warning (PROTOCOL.md,
	// section 9).
	maxClockOffset = time.Second
	// Steady is how many intervals pass between two probes of a peer that
	// answers. Each dials again, since a connection kept for it would cost three
	// goroutines, and stock members close it after 5 s.
	Steady = 7
)

// Estimate estimates the round-trip time to one peer and the difference of its clock. Its zero value is ready, and it
// is safe for concurrent use.
type Estimate struct {
	mu      sync.Mutex
	running bool
	former  bool          // the URL of the running probe is one from before Moved
	since   time.Time     // of Moved
	skip    int           // intervals until the next
	rtt     time.Duration // smoothed; 0: not measured yet
	offset  time.Duration // the peer's clock minus ours
	within  time.Duration // accuracy of offset
	known   bool          // offset was measured
	warned  bool          // about offset
	warning loglimit.Limiter

	at               time.Time // when it was measured
	probes, failures uint64
	cause            error  // of the last probe, if that failed
	logged           string // class of the cause of the last line since one succeeded
}

// Measurement is the current state of an Estimate.
type Measurement struct {
	RTT, ClockOffset time.Duration
	ClockWithin      time.Duration // accuracy of ClockOffset
	At               time.Time     // of the last measurement
	Probes, Failures uint64
	Cause            error     // why the last probe failed; nil after one that did not
	Since            time.Time // when the member got its present URLs; the zero time: at the beginning
}

// Measurement returns the current state; the zero value before the first probe.
func (e *Estimate) Measurement() Measurement {
	e.mu.Lock()
	defer e.mu.Unlock()
	return Measurement{e.rtt, e.offset, e.within, e.at, e.probes, e.failures, e.cause, e.since}
}

// Failed counts a probe without a measurement. It logs a line in the log for each class of causes in a row, unless log is
// nil.
func (e *Estimate) Failed(cause error, class string, log *zap.Logger) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.probes++
	e.failures++
	if e.former {
		return
	}
	e.cause = cause
	if log != nil && class != e.logged {
		e.logged = class
		log.Warn("failed to probe the peer; retrying", zap.Error(cause))
	}
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
	e.running, e.former, e.skip = true, false, 0
	return true
}

// Moved forgets what was measured, and hurries the next probe: the member has other URLs. A probe that is running is of the ones
// before.
func (e *Estimate) Moved() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.former, e.skip, e.since = e.running, 0, time.Now()
	e.rtt, e.offset, e.within, e.known, e.at, e.cause, e.logged = 0, 0, 0, false, time.Time{}, nil, ""
}

// Hurry has the next Begin start a probe, unless one is running.
func (e *Estimate) Hurry() {
	e.mu.Lock()
	e.skip = 0
	e.mu.Unlock()
}

// End notes that a probe has ended.
func (e *Estimate) End() {
	e.mu.Lock()
	e.running = false
	e.mu.Unlock()
}

// Measured adds one measurement, and reports whether it is of the present URLs.
func (e *Estimate) Measured(rtt, offset time.Duration, log *zap.Logger) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.probes++
	if e.former {
		return false
	}
	if e.rtt == 0 {
		e.rtt = rtt
	} else {
		e.rtt += (rtt - e.rtt) / smoothing
	}
	e.learnOffset(offset, rtt/2)
	e.at = time.Now()
	e.cause, e.logged = nil, ""
	e.skip = Steady - 1
	bad := ClocksDiffer(e.offset, e.within)
	if bad && !e.warned && e.warning.Due(time.Now()) {
		log.Warn("the clock of the peer differs from ours", zap.Duration("offset", e.offset), zap.Duration("rtt", rtt))
	}
	e.warned = bad
	return true
}

// ClocksDiffer reports whether a clock offset, known to within some time, is too large: what may be the line is no fault of a clock.
func ClocksDiffer(offset, within time.Duration) bool { return offset.Abs()-within > maxClockOffset }

// learnOffset adds a clock offset known to within some time: the peer
// may have read its clock at any moment of a round trip. A late answer is
// inaccurate: it is ignored unless it contradicts the current offset. It is
// called with mu held.
func (e *Estimate) learnOffset(offset, within time.Duration) {
	certain := within // both can be true if they are no further apart
	if e.known {
		certain += e.within
	} else {
		e.within = maxClockOffset // with less, the first one would have no effect
	}
	apart := (offset/2 - e.offset/2).Abs() // half of it, which does not overflow
	if within <= e.within || apart > certain/2 {
		e.offset, e.within, e.known = offset, within, true
	}
}
