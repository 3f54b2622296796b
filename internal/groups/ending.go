package groups

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/seed-4d73690b/rafthttp/internal/errs"
)

// gate counts the calls of the application for one group that are under way. The zero value is open.
type gate struct {
	calls atomic.Int64  // and shut, once it is shut
	empty chan struct{} // made by shutAt: closed when it is shut and no call is under way
	ended atomic.Bool   // empty is closed
}

const shut = 1 << 62

// enter counts a call until leave, unless the gate is shut.
func (g *gate) enter() bool {
	if g.calls.Add(1) < shut {
		return true
	}
	g.leave()
	return false
}

func (g *gate) leave() {
	if g.calls.Add(-1) == shut {
		g.end()
	}
}

func (g *gate) end() {
	if g.ended.CompareAndSwap(false, true) {
		close(g.empty)
	}
}

// shutNow shuts the gate. It is called once, and does not wait.
func (g *gate) shutNow() {
	g.empty = make(chan struct{})
	if g.calls.Add(shut) == shut {
		g.end()
	}
}

// Leave ends the group here: messages of it are refused, and no callback comes once it has returned, whoever calls it, and however
// often. It waits for running callbacks, so it must not be called from inside one.
func (g *Group) Leave() {
	g.groups.mu.Lock()
	if g.groups.all[g.id] == g {
		delete(g.groups.all, g.id)
	}
	g.groups.mu.Unlock()
	g.end(errs.ErrStopped)
	g.await()
	grace := time.NewTimer(askingGrace)
	defer grace.Stop()
	select {
	case <-g.asking.empty:
	case <-grace.C:
	}
}

// askingGrace is how long the end of a group waits for calls of IsIDRemoved.
const askingGrace = time.Second

// end ends the group. It does not wait; await does.
func (g *Group) end(cause error) {
	g.mu.Lock()
	if g.ended {
		g.mu.Unlock()
		return
	}
	g.ended = true
	g.worked, g.returned = make(chan struct{}), make(chan struct{})
	g.stopped.Store(true)
	g.cancel(cause)
	g.gate.shutNow()
	g.asking.shutNow()
	all, strangers := g.replicas.all(), g.strangers.Load()
	for _, r := range all {
		g.replicas.remove(r)
	}
	g.mu.Unlock()
	for _, r := range all {
		r.end()
	}
	if strangers != nil {
		strangers.end()
	}
	g.finish()
}

// await returns when all callbacks of the group have returned that ended: it makes the reports that are still due.
func (g *Group) await() {
	if !g.awaiting.CompareAndSwap(false, true) {
		<-g.returned
		return
	}
	defer g.groups.living.Done()
	defer close(g.returned)
	<-g.worked
	<-g.gate.empty
	left, returned := g.groups.reports.Remove(g.reporting())
	<-returned
	for i := range left {
		g.report(left[i].Msg)
	}
}

// begin counts work that the end of the group waits for, until finish, unless the group has ended.
func (g *Group) begin() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ended {
		return false
	}
	g.work++
	return true
}

// finish ends what begin has begun. After all of it no more reports become due.
func (g *Group) finish() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.work--; g.work == 0 {
		close(g.worked)
	}
}

// tellRemoved tells the application that the local replica was removed from the group.
func (g *Group) tellRemoved() {
	if g.gate.enter() {
		defer g.gate.leave()
		g.app.Removed()
	}
}

// isRemoved asks the application whether a replica was removed from the group. A server may call Stop under a lock that
// IsIDRemoved takes: so nothing waits for the answer once the group has ended, except the Transport for a moment.
func (g *Group) isRemoved(id uint64) (bool, error) {
	if id == 0 {
		return false, nil
	}
	if !g.asking.enter() {
		return false, errs.ErrStopped
	}
	answer := make(chan bool, 1)
	g.groups.cfg.Asking.Add(1)
	go func() {
		defer g.groups.cfg.Asking.Done()
		defer g.asking.leave()
		answer <- g.app.Raft.IsIDRemoved(id)
	}()
	select {
	case removed := <-answer:
		return removed, nil
	case <-g.ctx.Done():
		return false, errs.ErrStopped
	}
}

// processContext is the context of Process for messages of a sender: it ends with the sender. It costs a channel once somebody waits for
// its end.
type processContext struct{ of *sender }

// Deadline implements context.Context.
func (processContext) Deadline() (time.Time, bool) { return time.Time{}, false }

// Value implements context.Context.
func (processContext) Value(any) any { return nil }

// Err implements context.Context.
func (c processContext) Err() error {
	c.of.mu.Lock()
	defer c.of.mu.Unlock()
	if c.of.ended {
		return context.Canceled
	}
	return nil
}

// Done implements context.Context.
func (c processContext) Done() <-chan struct{} {
	c.of.mu.Lock()
	defer c.of.mu.Unlock()
	if c.of.done == nil {
		c.of.done = make(chan struct{})
		if c.of.ended {
			close(c.of.done)
		}
	}
	return c.of.done
}
