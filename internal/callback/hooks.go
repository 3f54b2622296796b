package callback

import (
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3/raftpb"
)

// Hooks are the fields of Observer in package rafthttp, which describes them, so that one
// converts to the other. S is the status of a transfer.
type Hooks[S any] struct {
	PeerState        func(id types.ID, active bool, cause error)
	Sent             func(id types.ID, lane string, messages int, bytes int64, took time.Duration)
	Received         func(id types.ID, lane string, messages int, bytes int64)
	Dropped          func(id types.ID, lane string, n int, cause error)
	SlowProcess      func(id types.ID, lane string, kind raftpb.MessageType, took time.Duration)
	SlowProcessAfter time.Duration
	Probed           func(id types.ID, rtt, clockOffset time.Duration, err error)
	SnapshotSent     func(id types.ID, index uint64, bytes int64, took time.Duration, err error)
	SnapshotReceived func(id types.ID, index uint64, bytes int64, took time.Duration, err error)
	SnapshotProgress func(S)

	GroupSnapshotEnded func(S)
}

// SnapshotHook is a hook for the end of a transfer.
type SnapshotHook = func(id types.ID, index uint64, bytes int64, took time.Duration, err error)

// GuardHooks returns h with its hooks guarded. Hooks that are nil stay nil. peerOf returns the
// other member of a transfer.
func GuardHooks[S any](g Guard, h Hooks[S], peerOf func(S) types.ID) Hooks[S] {
	guardTraffic(g, &h)
	if f := h.PeerState; f != nil {
		h.PeerState = func(id types.ID, active bool, cause error) {
			defer g.End(g.Begin(Call{Name: "Observer.PeerState", Peer: id}))
			f(id, active, cause)
		}
	}
	if f := h.Probed; f != nil {
		h.Probed = func(id types.ID, rtt, clockOffset time.Duration, err error) {
			defer g.End(g.Begin(Call{Name: "Observer.Probed", Peer: id}))
			f(id, rtt, clockOffset, err)
		}
	}
	h.SnapshotSent = guardSnapshotHook(g, "Observer.SnapshotSent", h.SnapshotSent)
	h.SnapshotReceived = guardSnapshotHook(g, "Observer.SnapshotReceived", h.SnapshotReceived)
	h.SnapshotProgress = guardStatusHook(g, "Observer.SnapshotProgress", h.SnapshotProgress, peerOf)
	h.GroupSnapshotEnded = guardStatusHook(g, "Observer.GroupSnapshotEnded", h.GroupSnapshotEnded, peerOf)
	return h
}

func guardStatusHook[S any](g Guard, name string, f func(S), peerOf func(S) types.ID) func(S) {
	if f == nil {
		return nil
	}
	return func(st S) {
		defer g.End(g.Begin(Call{Name: name, Peer: peerOf(st)}))
		f(st)
	}
}

// guardTraffic guards the hooks that are about messages.
func guardTraffic[S any](g Guard, h *Hooks[S]) {
	if f := h.Sent; f != nil {
		h.Sent = func(id types.ID, lane string, messages int, bytes int64, took time.Duration) {
			defer g.Recover(Call{Name: "Observer.Sent", Peer: id})
			f(id, lane, messages, bytes, took)
		}
	}
	if f := h.Received; f != nil {
		h.Received = func(id types.ID, lane string, messages int, bytes int64) {
			defer g.Recover(Call{Name: "Observer.Received", Peer: id})
			f(id, lane, messages, bytes)
		}
	}
	if f := h.Dropped; f != nil {
		h.Dropped = func(id types.ID, lane string, n int, cause error) {
			defer g.End(g.Begin(Call{Name: "Observer.Dropped", Peer: id}))
			f(id, lane, n, cause)
		}
	}
	if f := h.SlowProcess; f != nil {
		h.SlowProcess = func(id types.ID, lane string, kind raftpb.MessageType, took time.Duration) {
			defer g.End(g.Begin(Call{Name: ObserverSlowProcess, Peer: id, Type: kind}))
			f(id, lane, kind, took)
		}
	}
}

func guardSnapshotHook(g Guard, name string, f SnapshotHook) SnapshotHook {
	if f == nil {
		return nil
	}
	return func(id types.ID, index uint64, bytes int64, took time.Duration, err error) {
		defer g.End(g.Begin(Call{Name: name, Peer: id}))
		f(id, index, bytes, took, err)
	}
}
