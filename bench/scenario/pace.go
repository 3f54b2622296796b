package scenario

import (
	"context"
	"sync"
	"time"
)

// pace is how a slow application takes appends; nil takes them at once. It is for one group.
type pace struct {
	rate  int64         // bytes a second; must not be 0
	every time.Duration // it stalls once in each, at its end; 0: never
	stall time.Duration

	mu    sync.Mutex
	began time.Time // the first append
	free  time.Time // when what was taken is done with
}

// maxLate is how late a pace may be, because a timer fired late, and make up for it.
const maxLate = 20 * time.Millisecond

// wait takes as long as the application takes for some bytes.
func (p *pace) wait(ctx context.Context, bytes int64) error {
	if p == nil {
		return nil
	}
	d := time.Until(p.done(time.Now(), bytes))
	if d <= 0 {
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// done returns when bytes that are taken now are done with.
func (p *pace) done(now time.Time, bytes int64) time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.began.IsZero() {
		p.began = now
	}
	if now.Sub(p.free) > maxLate {
		p.free = now
	}
	p.free = p.free.Add(time.Duration(float64(bytes) / float64(p.rate) * float64(time.Second)))
	if p.every > 0 {
		if at := p.free.Sub(p.began) % p.every; at > p.every-p.stall {
			p.free = p.free.Add(p.every - at)
		}
	}
	return p.free
}

// capacity is how many bytes it takes in a time from its beginning on, at most.
func (p *pace) capacity(d time.Duration) float64 {
	if p.every > 0 {
		whole, rest := d/p.every, d%p.every
		d = whole*(p.every-p.stall) + min(rest, p.every-p.stall)
	}
	return float64(p.rate) * d.Seconds()
}
