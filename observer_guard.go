package rafthttp

import (
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3/raftpb"
)

const callSlowProcess = "Observer.SlowProcess"

// guardObserver returns o with its hooks under guard. Those that are nil stay so.
func (c crasher) guardObserver(o Observer) Observer {
	if f := o.PeerState; f != nil {
		o.PeerState = func(id types.ID, active bool, cause error) {
			defer c.end(c.begin(callback{name: "Observer.PeerState", peer: id}))
			f(id, active, cause)
		}
	}
	if f := o.Sent; f != nil {
		o.Sent = func(id types.ID, lane string, messages int, bytes int64, took time.Duration) {
			defer c.guard(callback{name: "Observer.Sent", peer: id})
			f(id, lane, messages, bytes, took)
		}
	}
	if f := o.Received; f != nil {
		o.Received = func(id types.ID, lane string, messages int, bytes int64) {
			defer c.guard(callback{name: "Observer.Received", peer: id})
			f(id, lane, messages, bytes)
		}
	}
	if f := o.Dropped; f != nil {
		o.Dropped = func(id types.ID, lane string, n int, cause error) {
			defer c.end(c.begin(callback{name: "Observer.Dropped", peer: id}))
			f(id, lane, n, cause)
		}
	}
	if f := o.SlowProcess; f != nil {
		o.SlowProcess = func(id types.ID, lane string, kind raftpb.MessageType, took time.Duration) {
			defer c.end(c.begin(callback{name: callSlowProcess, peer: id, kind: kind}))
			f(id, lane, kind, took)
		}
	}
	if f := o.Probed; f != nil {
		o.Probed = func(id types.ID, rtt, clockOffset time.Duration, err error) {
			defer c.end(c.begin(callback{name: "Observer.Probed", peer: id}))
			f(id, rtt, clockOffset, err)
		}
	}
	o.SnapshotSent = c.guardSnapshots("Observer.SnapshotSent", o.SnapshotSent)
	o.SnapshotReceived = c.guardSnapshots("Observer.SnapshotReceived", o.SnapshotReceived)
	if f := o.SnapshotProgress; f != nil {
		o.SnapshotProgress = func(st SnapshotStatus) {
			defer c.end(c.begin(callback{name: "Observer.SnapshotProgress", peer: st.Peer}))
			f(st)
		}
	}
	return o
}

type snapshotHook = func(id types.ID, index uint64, bytes int64, took time.Duration, err error)

func (c crasher) guardSnapshots(name string, f snapshotHook) snapshotHook {
	if f == nil {
		return nil
	}
	return func(id types.ID, index uint64, bytes int64, took time.Duration, err error) {
		defer c.end(c.begin(callback{name: name, peer: id}))
		f(id, index, bytes, took, err)
	}
}
