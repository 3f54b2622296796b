package rafthttp

import (
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/internal/callback"
)

// guardObserver returns o with its hooks guarded. Those that are nil stay so.
func guardObserver(g callback.Guard, o Observer) Observer {
	if f := o.PeerState; f != nil {
		o.PeerState = func(id types.ID, active bool, cause error) {
			defer g.End(g.Begin(callback.Call{Name: "Observer.PeerState", Peer: id}))
			f(id, active, cause)
		}
	}
	if f := o.Sent; f != nil {
		o.Sent = func(id types.ID, lane string, messages int, bytes int64, took time.Duration) {
			defer g.Recover(callback.Call{Name: "Observer.Sent", Peer: id})
			f(id, lane, messages, bytes, took)
		}
	}
	if f := o.Received; f != nil {
		o.Received = func(id types.ID, lane string, messages int, bytes int64) {
			defer g.Recover(callback.Call{Name: "Observer.Received", Peer: id})
			f(id, lane, messages, bytes)
		}
	}
	if f := o.Dropped; f != nil {
		o.Dropped = func(id types.ID, lane string, n int, cause error) {
			defer g.End(g.Begin(callback.Call{Name: "Observer.Dropped", Peer: id}))
			f(id, lane, n, cause)
		}
	}
	if f := o.SlowProcess; f != nil {
		o.SlowProcess = func(id types.ID, lane string, kind raftpb.MessageType, took time.Duration) {
			defer g.End(g.Begin(callback.Call{Name: callback.ObserverSlowProcess, Peer: id, Type: kind}))
			f(id, lane, kind, took)
		}
	}
	if f := o.Probed; f != nil {
		o.Probed = func(id types.ID, rtt, clockOffset time.Duration, err error) {
			defer g.End(g.Begin(callback.Call{Name: "Observer.Probed", Peer: id}))
			f(id, rtt, clockOffset, err)
		}
	}
	o.SnapshotSent = guardSnapshots(g, "Observer.SnapshotSent", o.SnapshotSent)
	o.SnapshotReceived = guardSnapshots(g, "Observer.SnapshotReceived", o.SnapshotReceived)
	if f := o.SnapshotProgress; f != nil {
		o.SnapshotProgress = func(st SnapshotStatus) {
			defer g.End(g.Begin(callback.Call{Name: "Observer.SnapshotProgress", Peer: st.Peer}))
			f(st)
		}
	}
	return o
}

type snapshotHook = func(id types.ID, index uint64, bytes int64, took time.Duration, err error)

func guardSnapshots(g callback.Guard, name string, f snapshotHook) snapshotHook {
	if f == nil {
		return nil
	}
	return func(id types.ID, index uint64, bytes int64, took time.Duration, err error) {
		defer g.End(g.Begin(callback.Call{Name: name, Peer: id}))
		f(id, index, bytes, took, err)
	}
}
