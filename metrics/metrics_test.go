package metrics_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/bubble"
	"github.com/seed-4d73690b/rafthttp/memnet"
	"github.com/seed-4d73690b/rafthttp/metrics"
)

// simulate runs a test where time passes in no time.
func simulate(t *testing.T, body func(t *testing.T, n *memnet.Network)) {
	t.Helper()
	bubble.Test(t, func(t *testing.T) { body(t, memnet.New()) })
}

// lived is a pair of members after some of everything.
func lived(t *testing.T, n *memnet.Network) (a, b *member) {
	t.Helper()
	n.Link("m1", "m2").SetDelay(time.Millisecond)
	a, b = startMember(t, n, 1, nil, nil), startMember(t, n, 2, nil, nil)
	connect(t, a, b)
	a.Send([]*raftpb.Message{message(raftpb.MsgHeartbeat, 2), message(raftpb.MsgHeartbeat, 2), message(raftpb.MsgSnap, 2)})
	require.True(t, sendSnapshot(a, 2, 7, 1000))
	require.True(t, sendSnapshot(a, 2, 8, 1000))
	require.False(t, sendSnapshot(a, 2, 13, 1000))
	a.CutPeer(2)
	a.Send([]*raftpb.Message{message(raftpb.MsgHeartbeat, 2)})
	a.MendPeer(2)
	a.Send([]*raftpb.Message{message(raftpb.MsgStorageAppend, types.ID(raft.LocalAppendThread))})
	time.Sleep(time.Second)
	return a, b
}

// TestMetricsOfEtcd: names, types, labels, help texts and buckets are etcd's. The
// tests in compat hold the list against etcd's own registry.
func TestMetricsOfEtcd(t *testing.T) {
	file, err := os.ReadFile("testdata/etcd-3.7.3.txt")
	require.NoError(t, err)
	var want []string
	for line := range strings.Lines(string(file)) {
		if !strings.HasPrefix(line, "#") {
			want = append(want, strings.TrimSpace(line))
		}
	}
	simulate(t, func(t *testing.T, n *memnet.Network) {
		a, b := lived(t, n)
		seen := map[string]bool{}
		for _, m := range []*member{a, b} {
			for name, f := range gather(t, m.collector) {
				if strings.HasPrefix(name, "etcd_") {
					seen[describe(f)] = true
				}
				if f.GetType() == dto.MetricType_HISTOGRAM && strings.HasPrefix(name, "etcd_") {
					seen[buckets(f)] = true
				}
			}
		}
		got := make([]string, 0, len(seen))
		for line := range seen {
			got = append(got, line)
		}
		require.ElementsMatch(t, want, got)
	})
}

func describe(f *dto.MetricFamily) string {
	var labels []string
	for _, l := range f.GetMetric()[0].GetLabel() {
		labels = append(labels, l.GetName())
	}
	return fmt.Sprintf("%s %s %s %s", strings.ToLower(f.GetType().String()), f.GetName(), strings.Join(labels, ","), f.GetHelp())
}

func buckets(f *dto.MetricFamily) string {
	line := "buckets " + f.GetName()
	for _, b := range f.GetMetric()[0].GetHistogram().GetBucket() {
		line += fmt.Sprintf(" %.6g", b.GetUpperBound())
	}
	return line
}

// TestValues: what is collected is what Status says, and what happened.
func TestValues(t *testing.T) {
	simulate(t, func(t *testing.T, n *memnet.Network) {
		a, b := lived(t, n)
		all, p := gather(t, a.collector), a.Status().Peers[0]
		want := map[string]map[string]float64{
			"etcd_network_active_peers":             {"1,2": 1},
			"etcd_network_disconnected_peers_total": {"1,2": 0},
			"etcd_network_peer_sent_bytes_total":    {"2": float64(p.SentBytes)},
			"etcd_network_peer_received_bytes_total": {
				"2": float64(p.ReceivedBytes),
			},
			"etcd_network_peer_sent_failures_total":             {"2": 2}, // one cut, one snapshot
			"etcd_network_peer_received_failures_total":         {"2": 0},
			"etcd_network_snapshot_send_success":                {"2": 2},
			"etcd_network_snapshot_send_failures":               {"2": 1},
			"etcd_network_snapshot_send_inflights_total":        {"2": 0},
			"etcd_network_snapshot_send_total_duration_seconds": {"2": 2},
			"etcd_network_peer_round_trip_time_seconds":         {"2": float64(p.Probes)},
			"rafthttp_peer_info":                                {"2,3.7.0": 1},
			"rafthttp_peer_rtt_seconds":                         {"2": p.RTT.Seconds()},
			"rafthttp_peer_clock_offset_seconds":                {"2": p.ClockOffset.Seconds()},
			"rafthttp_peer_clock_offset_error_seconds":          {"2": p.ClockWithin.Seconds()},
			"rafthttp_peer_active_since_timestamp_seconds":      {"2": float64(p.ActiveSince.UnixNano()) / 1e9},
			"rafthttp_probes_total":                             {"2": float64(p.Probes)},
			"rafthttp_stream_up":                                {"in,2,message": 1, "in,2,msgapp": 1, "out,2,message": 1, "out,2,msgapp": 1},
			"rafthttp_stream_connects_total":                    {"in,2,message": 1, "in,2,msgapp": 1, "out,2,message": 1, "out,2,msgapp": 1},
			"rafthttp_stream_dial_failures_total":               {"2,message": float64(p.Streams[2].DialFailures), "2,msgapp": float64(p.Streams[3].DialFailures)},
			"rafthttp_lane_messages_total":                      {"append,2": 0, "control,2": 0, "proposal,2": 0, "message,2": 2, "msgapp,2": 0, "pipeline,2": 1},
			"rafthttp_lane_up":                                  {"append,2": 1, "control,2": 1, "proposal,2": 1, "message,2": 1, "msgapp,2": 1, "pipeline,2": 1},
			"rafthttp_lane_capacity_messages":                   {"append,2": 4096, "control,2": 4096, "proposal,2": 4096, "message,2": 4096, "msgapp,2": 4096, "pipeline,2": 64},
			"rafthttp_snapshots":                                {"in,2": 0, "out,2": 0},
		}
		for name, values := range want {
			got := map[string]float64{}
			for key, m := range series(all[name]) {
				got[key] = value(m)
			}
			require.Equal(t, values, got, name)
		}
		requireValue(t, 1, series(all["rafthttp_lane_dropped_messages_total"])["message,2,paused"])
		require.Len(t, all["rafthttp_lane_dropped_messages_total"].GetMetric(), 6*7+1)
		requireValue(t, 1, series(all["rafthttp_lane_dropped_messages_total"])["local,1,local"])
		batches := series(all["rafthttp_lane_batch_messages"])["message,2"].GetHistogram()
		require.InDelta(t, 2, batches.GetSampleSum(), 0)
		require.NotContains(t, all, "rafthttp_process_slow_total")
		require.NotContains(t, all, "rafthttp_peer_certificate_expiry_timestamp_seconds", "no TLS")

		ofB := gather(t, b.collector)
		requireValue(t, 2, series(ofB["etcd_network_snapshot_receive_success"])["1"])
		requireValue(t, 1, series(ofB["etcd_network_snapshot_receive_failures"])["1"])
		requireValue(t, 2, series(ofB["etcd_network_snapshot_receive_total_duration_seconds"])["1"])
		requireValue(t, 2, series(ofB["rafthttp_lane_messages_total"])["control,1"])
	})
}

// TestRemovedPeersAreGone: no series of a removed peer is left, and one that
// comes back starts anew.
func TestRemovedPeersAreGone(t *testing.T) {
	simulate(t, func(t *testing.T, n *memnet.Network) {
		a, _ := lived(t, n)
		a.AddPeer(3, []string{urlOf(3)})
		require.Contains(t, text(gather(t, a.collector)), `value:"2"`)
		a.RemovePeer(2)
		time.Sleep(time.Second) // the last of its events
		left := text(gather(t, a.collector))
		require.NotContains(t, left, `value:"2"`)
		require.Contains(t, left, `value:"3"`)
		a.AddPeer(2, []string{urlOf(2)})
		time.Sleep(time.Second)
		require.Zero(t, value(series(gather(t, a.collector)["etcd_network_peer_sent_failures_total"])["2"]))
		require.Empty(t, series(gather(t, a.collector)["etcd_network_snapshot_send_success"]))
	})
}

func text(all map[string]*dto.MetricFamily) string {
	var b strings.Builder
	for _, f := range all {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				fmt.Fprintf(&b, "%s{%s value:%q}\n", f.GetName(), l.GetName(), l.GetValue())
			}
		}
	}
	return b.String()
}

// TestStrangersMakeNoSeries: whoever sends snapshots under ids that nobody knows
// costs neither memory nor series.
func TestStrangersMakeNoSeries(t *testing.T) {
	tr := &rafthttp.Transport{ID: 1, Raft: raftFunc(nil)}
	c := metrics.New(tr, nil)
	require.NoError(t, tr.Start())
	defer tr.Stop()
	before := testutil.CollectAndCount(c)
	for id := range types.ID(100_000) {
		tr.Observer.SnapshotReceived(id+2, 1, 1, time.Second, nil)
	}
	require.Equal(t, before, testutil.CollectAndCount(c))
	tr.AddPeer(2, []string{"http://127.0.0.1:1"})
	tr.Observer.SnapshotReceived(2, 1, 1, time.Second, nil) // there is room again
	requireValue(t, 1, series(gather(t, c)["etcd_network_snapshot_receive_success"])["2"])
}

// TestSeveralTransports: one registry can have many, each with a label.
func TestSeveralTransports(t *testing.T) {
	simulate(t, func(t *testing.T, n *memnet.Network) {
		a, b := lived(t, n)
		c := startMember(t, n, 3, nil, nil)
		c.AddPeer(2, []string{urlOf(2)}) // as has a: the metrics of etcd would collide
		reg := prometheus.NewPedanticRegistry()
		for name, m := range map[string]*member{"a": a, "b": b, "c": c} {
			prometheus.WrapRegistererWith(prometheus.Labels{"member": name}, reg).MustRegister(m.collector)
		}
		all, err := reg.Gather()
		require.NoError(t, err)
		for _, f := range all {
			if f.GetName() == "etcd_network_active_peers" {
				require.Len(t, f.GetMetric(), 3)
			}
		}
		require.True(t, prometheus.WrapRegistererWith(prometheus.Labels{"member": "a"}, reg).Unregister(a.collector))
	})
}

func TestBeforeStartAndAfterStop(t *testing.T) {
	tr := &rafthttp.Transport{ID: 1, Raft: raftFunc(nil)}
	c := metrics.New(tr, nil)
	gather(t, c)
	require.NoError(t, tr.Start())
	tr.AddPeer(2, []string{"http://127.0.0.1:1"})
	require.Contains(t, gather(t, c), "rafthttp_lane_up")
	tr.Stop()
	require.NotContains(t, gather(t, c), "rafthttp_lane_up")
}

// TestObserverIsKept: the application's hooks are called as before.
func TestObserverIsKept(t *testing.T) {
	simulate(t, func(t *testing.T, n *memnet.Network) {
		called := make(chan bool, 10)
		a := startMember(t, n, 1, func(tr *rafthttp.Transport) {
			tr.Observer = &rafthttp.Observer{PeerState: func(_ types.ID, active bool, _ error) { called <- active }}
		}, nil)
		connect(t, a, startMember(t, n, 2, nil, nil))
		require.True(t, <-called)
	})
}

func TestSlowProcess(t *testing.T) {
	simulate(t, func(t *testing.T, n *memnet.Network) {
		a := startMember(t, n, 1, nil, nil)
		b := startMember(t, n, 2, func(tr *rafthttp.Transport) {
			tr.Raft = raftFunc(func(_ context.Context, m *raftpb.Message) error {
				time.Sleep(time.Duration(m.GetCommit()) * time.Second)
				return nil
			})
		}, &metrics.Options{SlowProcess: 2 * time.Second})
		connect(t, a, b)
		for commit := range uint64(4) {
			m := message(raftpb.MsgHeartbeat, 2)
			m.Commit = &commit
			a.Send([]*raftpb.Message{m})
		}
		time.Sleep(time.Minute)
		requireValue(t, 2, series(gather(t, b.collector)["rafthttp_process_slow_total"])["control,1"])
	})
}

func TestSentAllocatesNothing(t *testing.T) {
	tr := &rafthttp.Transport{ID: 1, Raft: raftFunc(nil)}
	metrics.New(tr, nil)
	tr.Observer.Sent(2, "msgapp", 1, 1, time.Second)
	require.Zero(t, testing.AllocsPerRun(1000, func() { tr.Observer.Sent(2, "msgapp", 100, 1, time.Second) }))
	require.Nil(t, tr.Observer.Received, "what is not needed is not hooked")
	require.Nil(t, tr.Observer.SlowProcess)
}

// TestOwnNames: ours follow the rules of Prometheus; those of etcd do not all.
func TestOwnNames(t *testing.T) {
	simulate(t, func(t *testing.T, n *memnet.Network) {
		a, _ := lived(t, n)
		problems, err := testutil.CollectAndLint(a.collector)
		require.NoError(t, err)
		problems = slices.DeleteFunc(problems, func(p promlint.Problem) bool { return !strings.HasPrefix(p.Metric, "rafthttp_") })
		require.Empty(t, problems)
	})
}
