package member

import (
	"context"
	"sync/atomic"
)

// Changes wakes up those who wait for a condition. It is safe for concurrent use; the zero value is ready.
type Changes struct {
	next atomic.Pointer[chan struct{}] // closed by the next Notify; nil before the first Wait
}

// Notify says that a condition may hold now. It does not block.
func (c *Changes) Notify() {
	if woken := c.next.Swap(nil); woken != nil {
		close(*woken)
	}
}

// Wait waits until a condition, which is looked at now and after each Notify, holds, or returns the cause of the context that ends
// first.
func (c *Changes) Wait(ctx, owner context.Context, holds func() bool) error {
	for {
		changed := c.channel() // before the condition is looked at
		if holds() {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-owner.Done():
			return context.Cause(owner)
		}
	}
}

func (c *Changes) channel() <-chan struct{} {
	for {
		if p := c.next.Load(); p != nil {
			return *p
		}
		made := make(chan struct{})
		if c.next.CompareAndSwap(nil, &made) {
			return made
		}
	}
}
