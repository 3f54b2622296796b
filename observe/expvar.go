package observe

import (
	"expvar"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
)

// Status returns the transport's Status as a variable of expvar, taken at each
// read. It publishes nothing itself.
func Status(t *rafthttp.Transport) expvar.Var {
	return expvar.Func(func() any { return t.Status() })
}

// Counters returns an Observer that counts events of all peers together in m,
// under the names below. It publishes nothing itself, and costs a few atomic
// additions per batch. Several transports may share m: their counts are added.
//
//	peers_activated, peers_deactivated
//	sent_messages, sent_bytes, sent_batches, received_messages, received_batches
//	dropped_queue_full, dropped_disconnected, dropped_refused, dropped_paused, dropped_ended,
//	dropped_memory_limit, dropped_too_large, dropped_local
//	slow_process
//	snapshots_sent, snapshots_sent_failed, snapshots_received, snapshots_received_failed
func Counters(m *expvar.Map) *rafthttp.Observer {
	count := func(name string) *expvar.Int {
		m.Add(name, 0) // creates it, unless it exists
		return m.Get(name).(*expvar.Int)
	}
	good, bad := count("peers_activated"), count("peers_deactivated")
	sentMessages, sentBytes, sentBatches := count("sent_messages"), count("sent_bytes"), count("sent_batches")
	receivedMessages, receivedBatches := count("received_messages"), count("received_batches")
	drops := map[rafthttp.DropReason]*expvar.Int{}
	for reason := range (rafthttp.Drops{}).All() {
		drops[reason] = count("dropped_" + string(reason))
	}
	slow := count("slow_process")
	snapshot := func(name string) func(types.ID, uint64, int64, time.Duration, error) {
		done, failed := count(name), count(name+"_failed")
		return func(_ types.ID, _ uint64, _ int64, _ time.Duration, err error) {
			if err != nil {
				failed.Add(1)
				return
			}
			done.Add(1)
		}
	}
	return &rafthttp.Observer{
		PeerState: func(_ types.ID, active bool, _ error) {
			if active {
				good.Add(1)
				return
			}
			bad.Add(1)
		},
		Sent: func(_ types.ID, _ string, messages int, bytes int64, _ time.Duration) {
			sentMessages.Add(int64(messages))
			sentBytes.Add(bytes)
			sentBatches.Add(1)
		},
		Received: func(_ types.ID, _ string, messages int, _ int64) {
			receivedMessages.Add(int64(messages))
			receivedBatches.Add(1)
		},
		Dropped:          func(_ types.ID, _ string, n int, cause error) { drops[rafthttp.DropReasonOf(cause)].Add(int64(n)) },
		SlowProcess:      func(types.ID, string, raftpb.MessageType, time.Duration) { slow.Add(1) },
		SnapshotSent:     snapshot("snapshots_sent"),
		SnapshotReceived: snapshot("snapshots_received"),
	}
}
