package rafthttp

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.etcd.io/etcd/client/pkg/v3/types"

	ours "github.com/seed-4d73690b/rafthttp"
)

// The few of etcd's metrics that tell whether this transport is at work.
var (
	activePeers      = gauge("active_peers", "Local", "Remote")
	snapshotsSent    = counter("snapshot_send_success", "To")
	snapshotsFailed  = counter("snapshot_send_failures", "To")
	snapshotsGot     = counter("snapshot_receive_success", "From")
	snapshotsRefused = counter("snapshot_receive_failures", "From")
)

func init() {
	prometheus.MustRegister(activePeers, snapshotsSent, snapshotsFailed, snapshotsGot, snapshotsRefused)
}

func gauge(name string, labels ...string) *prometheus.GaugeVec {
	return prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "etcd", Subsystem: "network", Name: name, Help: name}, labels)
}

func counter(name string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "etcd", Subsystem: "network", Name: name, Help: name}, labels)
}

// observer counts what happens to the transport of the member.
func observer(local types.ID) *ours.Observer {
	one := func(good, bad *prometheus.CounterVec) func(types.ID, uint64, int64, time.Duration, error) {
		return func(id types.ID, _ uint64, _ int64, _ time.Duration, err error) {
			if err == nil {
				good.WithLabelValues(id.String()).Inc()
			} else {
				bad.WithLabelValues(id.String()).Inc()
			}
		}
	}
	return &ours.Observer{
		PeerState: func(id types.ID, active bool, _ error) {
			n := 0.0
			if active {
				n = 1
			}
			activePeers.WithLabelValues(local.String(), id.String()).Set(n)
		},
		SnapshotSent:     one(snapshotsSent, snapshotsFailed),
		SnapshotReceived: one(snapshotsGot, snapshotsRefused),
	}
}
