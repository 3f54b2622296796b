package groups

import (
	"context"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/seed-4d73690b/rafthttp/internal/errs"
	"github.com/seed-4d73690b/rafthttp/internal/faultpoint"
	"github.com/seed-4d73690b/rafthttp/internal/protocol"
)

// gate counts calls of the application for one group that are under way, other than those of Process, which the pools know. The zero value is open.
type gate struct {
	calls atomic.Int64 // and shut, once it is shut
	end   *gateEnd     // made by shutNow
}

// gateEnd is the end of a gate that is shut.
type gateEnd struct {
	empty  chan struct{} // closed when no call is under way
	closed atomic.Bool   // empty is closed
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
		g.end.reach()
	}
}

func (e *gateEnd) reach() {
	if e.closed.CompareAndSwap(false, true) {
		close(e.empty)
	}
}

// shutNow shuts the gate. It is called once, and does not wait.
func (g *gate) shutNow() {
	g.end = &gateEnd{empty: make(chan struct{})}
	if g.calls.Add(shut) == shut {
		g.end.reach()
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
	faultpoint.Hit(faultpoint.GroupLeft)
	g.end(errs.ErrStopped)
	faultpoint.Hit(faultpoint.GroupEnded)
	g.await()
	grace := time.NewTimer(askingGrace)
	defer grace.Stop()
	select {
	case <-g.asking.end.empty:
	case <-grace.C:
	}
}

// askingGrace is how long the end of a group waits for calls of IsIDRemoved.
const askingGrace = time.Second

// end ends the group. It does not wait; await does.
func (g *Group) end(cause error) {
	g.mu.Lock()
	if g.stopped.Load() {
		g.mu.Unlock()
		return
	}
	g.stopped.Store(true)
	more := g.more()
	more.cause, more.worked, more.returned = cause, make(chan struct{}), make(chan struct{})
	if more.ctx != nil {
		more.cancel(cause)
	}
	g.telling.shutNow()
	g.asking.shutNow()
	all, strangers := g.replicas.all(), g.strangers.Load()
	for _, r := range all {
		g.replicas.remove(r)
	}
	running := slices.Concat(slices.Collect(maps.Values(more.earlier))...)
	g.mu.Unlock()
	for _, r := range all {
		running = append(running, r.end()...)
	}
	if strangers != nil {
		running = append(running, strangers.end()...)
	}
	more.running = running
	g.endResults()
	g.finish()
}

// await returns when all callbacks of the group have returned that ended: it makes the reports that are still due.
func (g *Group) await() {
	if !g.awaiting.CompareAndSwap(false, true) {
		<-g.rare.returned
		return
	}
	defer g.groups.living.Done()
	defer close(g.rare.returned)
	<-g.rare.worked
	<-g.telling.end.empty
	for _, returned := range g.rare.running {
		<-returned
	}
	left, returned := g.groups.reports.Remove(g.reporting())
	<-returned
	if len(left) == 0 {
		return
	}
	made := make(chan struct{})
	go func() { // whoever calls Stop has no callback on its stack
		defer close(made)
		for i := range left {
			g.report(left[i].Msg)
		}
	}()
	<-made
}

// begin counts work that the end of the group waits for, until finish, unless the group has ended.
func (g *Group) begin() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.stopped.Load() {
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
		close(g.rare.worked)
	}
}

// tellRemoved tells the application that the local replica was removed from the group.
func (g *Group) tellRemoved() {
	if g.telling.enter() {
		defer g.telling.leave()
		select {
		case g.app.ErrorC <- protocol.ErrMemberRemoved:
		default:
		}
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
		answer <- g.raft().IsIDRemoved(id)
	}()
	select {
	case removed := <-answer:
		return removed, nil
	case <-g.context().Done():
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
	more := c.of.more()
	if more.done == nil {
		more.done = make(chan struct{})
		if c.of.ended {
			close(more.done)
		}
	}
	return more.done
}
