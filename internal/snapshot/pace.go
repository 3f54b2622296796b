package snapshot

import (
	"context"
	"math"
	"sync"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"golang.org/x/time/rate"
)

const (
	// stallTicks is the number of parts of a read timeout that a transfer may make no progress.
	stallTicks = 4
	// minBurst and maxBurst limit how much a paced Transport sends at a time.
	minBurst, maxBurst = 64 << 10, 1 << 20
	burstSeconds       = 0.02
	// yieldFor is how long a snapshot yields to messages at a time, checking
	// every yieldStep whether they are sent; then it sends yieldSlice.
	yieldFor   = 20 * time.Millisecond
	yieldStep  = time.Millisecond
	yieldSlice = 64 << 10
)

// Pace limits the rate and the number of the snapshots of a Transport in progress.
type Pace struct {
	turns   turns // of the transfers in flight
	endings endings

	turn  chan struct{} // held by the transfer that may send next; others queue in order
	pause time.Duration // longest time between two grants to one transfer

	mu      sync.Mutex
	bucket  tokenBucket
	changed chan struct{} // closed when the limit changes
}

// tokenBucket has the number of bytes that may be sent now.
type tokenBucket struct {
	limit  rate.Limit // bytes a second
	tokens float64
	at     time.Time // time of tokens
}

// NewPace returns the pace for at most max transfers at a time and limit bytes a second. None pauses for longer than a
// part of readTimeout. The places are shared among the members that peers returns, which must not block. No transfer begins once ctx
// has ended.
func NewPace(ctx context.Context, max int, limit rate.Limit, readTimeout time.Duration, peers func() []types.ID) *Pace {
	return &Pace{
		turns: turns{ctx: ctx, places: newPlaces(max, peers)}, turn: make(chan struct{}, 1),
		// A stock receiver closes the connection after the default, whatever our timeout is.
		pause:   min(readTimeout, DefaultTimeout) / stallTicks,
		bucket:  tokenBucket{limit: limit, tokens: minBurst, at: time.Now()},
		changed: make(chan struct{}),
	}
}

// SetLimit changes the limit, also for transfers in progress.
func (p *Pace) SetLimit(limit rate.Limit) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.bucket.refill()
	p.bucket.limit = limit
	close(p.changed)
	p.changed = make(chan struct{})
}

func (b *tokenBucket) refill() {
	now := time.Now()
	if b.limit != rate.Inf {
		burst := min(max(float64(b.limit)*burstSeconds, minBurst), maxBurst)
		b.tokens = min(burst, b.tokens+float64(b.limit)*now.Sub(b.at).Seconds())
	}
	b.at = now
}

// take returns how many bytes may be sent now, or how long to wait for a chunk. After the deadline it is at least one.
func (b *tokenBucket) take(want int, chunk float64, deadline time.Time) (n int, wait time.Duration) {
	b.refill()
	if b.limit == rate.Inf {
		return want, 0
	}
	left := time.Until(deadline)
	if b.tokens < chunk && left > 0 {
		wait = time.Duration(math.Ceil((chunk - b.tokens) / float64(b.limit) * float64(time.Second)))
		if wait <= 0 || wait > left { // too large for a limit close to zero
			wait = left
		}
		return 0, wait
	}
	n = min(want, max(1, int(b.tokens)))
	b.tokens = max(0, b.tokens-float64(n))
	return n, 0
}

// grant waits until bytes may be sent, and returns how many: from 1 to want.
func (p *Pace) grant(ctx context.Context, want int) (int, error) {
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

// share returns how long one transfer may have the turn.
func (p *Pace) share() time.Duration { return p.pause / time.Duration(max(1, p.turns.count())) }

// take returns how many bytes may be sent now, or how long to wait. At the deadline at
// least one may: a receiver must not consider a slow transfer dead.
func (p *Pace) take(want int, deadline time.Time) (n int, wait time.Duration, changed <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	// As many bytes as accrue in the turn of each transfer.
	turn := float64(p.bucket.limit) * p.share().Seconds()
	chunk := math.Floor(max(1, min(turn, float64(want), minBurst)))
	n, wait = p.bucket.take(want, chunk, deadline)
	return n, wait, p.changed
}

// giveWay waits while messages for the peer are queued, but for a limited time, and
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
