// Package observe has ways to monitor a rafthttp.Transport beside its
// Status and its zap log, without further dependencies: Observers that log to
// log/slog and count in expvar, the transport's log through log/slog, its
// status as a variable of expvar, and Chain, which makes one Observer of several.
//
//	t := &rafthttp.Transport{
//		Logger:   observe.Zap(slog.Default().Handler()),
//		Observer: observe.Chain(observe.Counters(expvar.NewMap("rafthttp_events")), mine),
//	}
//	expvar.Publish("rafthttp", observe.Status(t))
package observe

import (
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
)

// Chain returns an Observer that calls the hooks of all observers, in order. Nil
// observers and hooks are left out: a hook that no observer has costs
// nothing. Each SlowProcess keeps its threshold. The observers must not
// change afterwards.
func Chain(observers ...*rafthttp.Observer) *rafthttp.Observer {
	c := chain(observers)
	return &rafthttp.Observer{
		PeerState:        hooks3(c, func(o *rafthttp.Observer) func(types.ID, bool, error) { return o.PeerState }),
		Sent:             hooks5(c, func(o *rafthttp.Observer) func(types.ID, string, int, int64, time.Duration) { return o.Sent }),
		Received:         hooks4(c, func(o *rafthttp.Observer) func(types.ID, string, int, int64) { return o.Received }),
		Dropped:          hooks4(c, func(o *rafthttp.Observer) func(types.ID, string, int, error) { return o.Dropped }),
		SlowProcess:      hooks4(c, c.slowProcess()),
		SlowProcessAfter: c.slowest(),
		Probed:           hooks4(c, func(o *rafthttp.Observer) func(types.ID, time.Duration, time.Duration, error) { return o.Probed }),
		SnapshotSent:     hooks5(c, func(o *rafthttp.Observer) func(types.ID, uint64, int64, time.Duration, error) { return o.SnapshotSent }),
		SnapshotReceived: hooks5(c, func(o *rafthttp.Observer) func(types.ID, uint64, int64, time.Duration, error) {
			return o.SnapshotReceived
		}),
		SnapshotProgress: hooks1(c, func(o *rafthttp.Observer) func(rafthttp.SnapshotStatus) { return o.SnapshotProgress }),

		GroupSnapshotEnded: hooks1(c, func(o *rafthttp.Observer) func(rafthttp.SnapshotStatus) { return o.GroupSnapshotEnded }),
	}
}

type chain []*rafthttp.Observer

type slowHook = func(types.ID, string, raftpb.MessageType, time.Duration)

func threshold(o *rafthttp.Observer) time.Duration {
	if o.SlowProcessAfter == 0 {
		return rafthttp.DefaultSlowProcess
	}
	return o.SlowProcessAfter
}

// slowest returns the lowest threshold: hooks with a higher one are checked
// again.
func (c chain) slowest() time.Duration {
	var least time.Duration
	for _, o := range c {
		if o != nil && o.SlowProcess != nil && (least == 0 || threshold(o) < least) {
			least = threshold(o)
		}
	}
	return least
}

func (c chain) slowProcess() func(*rafthttp.Observer) slowHook {
	least := c.slowest()
	return func(o *rafthttp.Observer) slowHook {
		after := threshold(o)
		if o.SlowProcess == nil || after == least {
			return o.SlowProcess
		}
		return func(id types.ID, lane string, kind raftpb.MessageType, took time.Duration) {
			if took >= after {
				o.SlowProcess(id, lane, kind, took)
			}
		}
	}
}

func hooks1[A any](c chain, hook func(*rafthttp.Observer) func(A)) func(A) {
	var all []func(A)
	for _, o := range c {
		if o != nil && hook(o) != nil {
			all = append(all, hook(o))
		}
	}
	switch len(all) {
	case 0:
		return nil
	case 1:
		return all[0]
	}
	return func(a A) {
		for _, f := range all {
			f(a)
		}
	}
}

func hooks3[A, B, C any](c chain, hook func(*rafthttp.Observer) func(A, B, C)) func(A, B, C) {
	var all []func(A, B, C)
	for _, o := range c {
		if o != nil && hook(o) != nil {
			all = append(all, hook(o))
		}
	}
	switch len(all) {
	case 0:
		return nil
	case 1:
		return all[0]
	}
	return func(a A, b B, c C) {
		for _, f := range all {
			f(a, b, c)
		}
	}
}

func hooks4[A, B, C, D any](c chain, hook func(*rafthttp.Observer) func(A, B, C, D)) func(A, B, C, D) {
	var all []func(A, B, C, D)
	for _, o := range c {
		if o != nil && hook(o) != nil {
			all = append(all, hook(o))
		}
	}
	switch len(all) {
	case 0:
		return nil
	case 1:
		return all[0]
	}
	return func(a A, b B, c C, d D) {
		for _, f := range all {
			f(a, b, c, d)
		}
	}
}

func hooks5[A, B, C, D, E any](c chain, hook func(*rafthttp.Observer) func(A, B, C, D, E)) func(A, B, C, D, E) {
	var all []func(A, B, C, D, E)
	for _, o := range c {
		if o != nil && hook(o) != nil {
			all = append(all, hook(o))
		}
	}
	switch len(all) {
	case 0:
		return nil
	case 1:
		return all[0]
	}
	return func(a A, b B, c C, d D, e E) {
		for _, f := range all {
			f(a, b, c, d, e)
		}
	}
}
