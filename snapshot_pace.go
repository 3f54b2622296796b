package rafthttp

import (
	"context"
	"math"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	// stallTicks is how many parts of a read timeout a transfer may stand still.
	stallTicks = 4
	// minBurst and maxBurst bound what a paced Transport sends at once.
	minBurst, maxBurst = 64 << 10, 1 << 20
	burstSeconds       = 0.02
	// yieldFor is how long a snapshot gives way to messages at a time, looking
	// every yieldStep whether they are gone; then it sends yieldSlice.
	yieldFor   = 20 * time.Millisecond
	yieldStep  = time.Millisecond
	yieldSlice = 64 << 10
)

// snapshotPace is shared by all snapshots that a Transport sends.
type snapshotPace struct {
	slots chan struct{} // one for each transfer in flight
	turn  chan struct{} // held by the transfer that is served next; senders to it queue in order
	pause time.Duration // longest time between two grants to one transfer

	mu      sync.Mutex
	limit   rate.Limit
	tokens  float64 // bytes that may go at once
	at      time.Time
	changed chan struct{} // closed when the limit changes
}

func newSnapshotPace(s *settings) *snapshotPace {
	p := &snapshotPace{
		slots: make(chan struct{}, s.maxSnapshots), turn: make(chan struct{}, 1),
		// A stock receiver cuts after the default, whatever our timeout is.
		pause:   min(s.readTimeout, DefaultConnReadTimeout) / stallTicks,
		changed: make(chan struct{}),
	}
	p.setLimit(s.snapshotRate)
	p.tokens, p.at = minBurst, time.Now()
	return p
}

// SetSnapshotRateLimit changes SnapshotRateLimit, in bytes a second, for transfers
// under way as well: it takes effect at once. 0 means unlimited. The error is a
// *ConfigError for a limit below 0, or says that the transport was not started. It
// does not block. After Stop it does nothing.
func (t *Transport) SetSnapshotRateLimit(limit rate.Limit) error {
	if !(limit >= 0) {
		return &ConfigError{"SnapshotRateLimit", limit, "0 for unlimited, or a positive value"}
	}
	e := t.engine.Load()
	if e == nil {
		return errNotStarted
	}
	e.pace.setLimit(rateLimit(limit))
	return nil
}

func (p *snapshotPace) setLimit(limit rate.Limit) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refill()
	p.limit = limit
	close(p.changed)
	p.changed = make(chan struct{})
}

// refill is called with mu held.
func (p *snapshotPace) refill() {
	now := time.Now()
	if p.limit != rate.Inf {
		burst := min(max(float64(p.limit)*burstSeconds, minBurst), maxBurst)
		p.tokens = min(burst, p.tokens+float64(p.limit)*now.Sub(p.at).Seconds())
	}
	p.at = now
}

// grant waits until bytes may be sent, and returns how many: from 1 to want.
func (p *snapshotPace) grant(ctx context.Context, want int) (int, error) {
	select {
	case p.turn <- struct{}{}:
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
	defer func() { <-p.turn }()
	for deadline := time.Now().Add(p.share()); ; {
		n, wait, changed := p.take(want, deadline)
		if n > 0 {
			return n, ctx.Err()
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-changed:
		case <-ctx.Done():
			timer.Stop()
			return 0, context.Cause(ctx)
		}
		timer.Stop()
	}
}

// share is how long one transfer may have the turn.
func (p *snapshotPace) share() time.Duration { return p.pause / time.Duration(max(1, len(p.slots))) }

// take returns how many bytes may go now, or how long to wait. At the deadline at
// least one may: a receiver must not take a slow transfer for a dead one.
func (p *snapshotPace) take(want int, deadline time.Time) (n int, wait time.Duration, changed <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refill()
	if p.limit == rate.Inf {
		return want, 0, nil
	}
	// As many as come together in the time that each transfer has for its turn.
	turn := float64(p.limit) * p.share().Seconds()
	enough := math.Floor(max(1, min(turn, float64(want), minBurst)))
	left := time.Until(deadline)
	if p.tokens < enough && left > 0 {
		wait = time.Duration(math.Ceil((enough - p.tokens) / float64(p.limit) * float64(time.Second)))
		if wait <= 0 || wait > left { // over all bounds for a limit next to zero
			wait = left
		}
		return 0, wait, p.changed
	}
	n = min(want, max(1, int(p.tokens)))
	p.tokens = max(0, p.tokens-float64(n))
	return n, 0, nil
}

// giveWay waits while messages for the peer are queued, but not for long, and
// returns how many of want bytes the snapshot should send then.
func giveWay(ctx context.Context, busy func() bool, want int) int {
	if !busy() {
		return want
	}
	step := time.NewTicker(yieldStep)
	defer step.Stop()
	for range int(yieldFor / yieldStep) {
		select {
		case <-step.C:
		case <-ctx.Done():
			return want
		}
		if !busy() {
			return want
		}
	}
	return min(want, yieldSlice)
}
