package metrics_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/memnet"
	"github.com/seed-4d73690b/rafthttp/metrics"
	"github.com/seed-4d73690b/rafthttp/snap"
)

// addGroup adds a group to a member, with a replica on another one.
func addGroup(t *testing.T, m, other *member, id uint64, process raftFunc) *rafthttp.Group {
	t.Helper()
	if process == nil {
		process = func(context.Context, *raftpb.Message) error { return nil }
	}
	g, err := m.Group(id, rafthttp.GroupConfig{Raft: process, Snapshotter: saver{}})
	require.NoError(t, err)
	g.AddPeer(other.ID, []string{urlOf(other.ID)})
	return g
}

func valuesOf(t *testing.T, c prometheus.Collector, name string) map[string]float64 {
	t.Helper()
	got := map[string]float64{}
	for key, m := range series(gather(t, c)[name]) {
		got[key] = value(m)
	}
	return got
}

// TestGroupValues: what is collected of groups is what Status says, for nodes, and for single groups only on demand.
func TestGroupValues(t *testing.T) {
	simulate(t, func(t *testing.T, n *memnet.Network) {
		ids := []uint64{9, 13, 1000} // 9 is among the worst as well, and 1000 not here
		a := startMember(t, n, 1, nil, nil)
		b := startMember(t, n, 2, nil, &metrics.Options{WorstGroups: 2, Groups: func() []uint64 { return ids }})
		require.NotContains(t, gather(t, a.collector), "rafthttp_groups")
		blocked := make(chan struct{})
		defer close(blocked)
		of := map[uint64]raftFunc{
			9:  func(context.Context, *raftpb.Message) error { <-blocked; return nil },
			10: func(context.Context, *raftpb.Message) error { return errors.New("no luck") },
		}
		fromA := map[uint64]*rafthttp.Group{}
		for id := uint64(8); id < 16; id++ {
			fromA[id] = addGroup(t, a, b, id, nil)
			if id != 15 {
				addGroup(t, b, a, id, of[id])
			}
		}
		time.Sleep(time.Second)
		for id := uint64(8); id < 16; id++ {
			fromA[id].Send([]*raftpb.Message{message(raftpb.MsgApp, 2)})
		}
		for _, index := range []uint64{7, 13} {
			m := message(raftpb.MsgSnap, 2)
			m.Snapshot = &raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{Index: &index, Term: new(uint64(1))}}
			fromA[8].SendSnapshot(snap.NewMessage(m, nil, 0))
			time.Sleep(time.Second)
		}
		time.Sleep(3 * time.Second)

		for name, want := range map[string]map[string]float64{
			"rafthttp_groups":                              {"": 8},
			"rafthttp_groups_refused_messages_total":       {"": 1},
			"rafthttp_groups_unknown_messages_total":       {"": 0},
			"rafthttp_groups_node_active":                  {"2": 1},
			"rafthttp_groups_node_stream_up":               {"in,2,group": 1, "in,2,groupapp": 1, "out,2,group": 1, "out,2,groupapp": 1},
			"rafthttp_groups_node_lane_messages_total":     {"group,2": 0, "groupapp,2": 8, "grouppost,2": 0},
			"rafthttp_groups_node_lane_up":                 {"group,2": 1, "groupapp,2": 1, "grouppost,2": 1},
			"rafthttp_groups_node_lane_oldest_age_seconds": {"append,2": 0, "control,2": 0, "proposal,2": 0, "group,2": 0, "groupapp,2": 0, "grouppost,2": 0},
			"rafthttp_groups_node_lane_capacity_messages":  {"append,2": 4096, "control,2": 4096, "proposal,2": 4096, "group,2": 4096, "groupapp,2": 4096, "grouppost,2": 4096},
			"rafthttp_groups_node_snapshots_total":         {"in,2,failed": 0, "in,2,received": 0, "out,2,failed": 1, "out,2,sent": 1},
			"rafthttp_groups_node_snapshots":               {"in,2": 0, "out,2": 0},
			"rafthttp_groups_node_snapshots_waiting":       {"2": 0},
			"rafthttp_group_failing":                       {},
		} {
			require.Equal(t, want, valuesOf(t, a.collector, name), name)
		}
		for name, want := range map[string]map[string]float64{
			"rafthttp_groups":                          {"": 7},
			"rafthttp_groups_unknown_messages_total":   {"": 1},
			"rafthttp_groups_process_blocked":          {"append": 1, "control": 0, "proposal": 0},
			"rafthttp_groups_processed_messages_total": {"append": 7, "control": 0, "proposal": 0},
			"rafthttp_group_failing":                   {"9": 0, "10": 1, "13": 0},
			"rafthttp_group_replicas":                  {"9": 1, "10": 1, "13": 1},
			"rafthttp_group_inactive_replicas":         {"9": 0, "10": 0, "13": 0},
		} {
			require.Equal(t, want, valuesOf(t, b.collector, name), name)
		}
		require.Greater(t, valuesOf(t, b.collector, "rafthttp_group_blocked_seconds")["9"], 1.0)
		require.Greater(t, valuesOf(t, b.collector, "rafthttp_groups_process_blocked_seconds")["append"], 1.0)
	})
}

// TestGroupsCostNoSeries: the series of ten thousand groups are those of one, and a scrape does not look at each group.
func TestGroupsCostNoSeries(t *testing.T) {
	const groups = 10_000
	tr := &rafthttp.Transport{ID: 1, Raft: rafthttp.NoRaft{}}
	c := metrics.New(tr, nil)
	ofSome := metrics.New(tr, &metrics.Options{WorstGroups: 5})
	require.NoError(t, tr.Start())
	defer tr.Stop()
	add := func(id uint64) {
		g, err := tr.Group(id, rafthttp.GroupConfig{Raft: raftFunc(nil)})
		require.NoError(t, err)
		g.AddPeer(2, []string{"http://127.0.0.1:1"})
		g.AddPeer(3, []string{"http://127.0.0.1:1"})
	}
	scrape := func() { testutil.CollectAndCount(c) }
	add(1)
	one, allocs := testutil.CollectAndCount(c), testing.AllocsPerRun(10, scrape)
	for id := uint64(2); id <= groups; id++ {
		add(id)
	}
	require.Equal(t, one, testutil.CollectAndCount(c))
	require.Less(t, testing.AllocsPerRun(10, scrape), allocs+200)
	require.Equal(t, one+5*7, testutil.CollectAndCount(ofSome))
}

// TestAgesOfGroups: what waits long for a node is a problem, with its age.
func TestAgesOfGroups(t *testing.T) {
	simulate(t, func(t *testing.T, n *memnet.Network) {
		a, b := startMember(t, n, 1, nil, nil), startMember(t, n, 2, nil, nil)
		g := addGroup(t, a, b, 7, nil)
		addGroup(t, b, a, 7, nil)
		time.Sleep(time.Second)
		n.Link("m1", "m2").SetBandwidth(1 << 20)
		for i := range uint64(8) {
			m := message(raftpb.MsgApp, 2)
			m.Index, m.Entries = new(i), []*raftpb.Entry{{Index: new(i + 1), Term: new(uint64(1)), Data: make([]byte, 1<<20)}}
			g.Send([]*raftpb.Message{m})
		}
		time.Sleep(5 * time.Second)
		require.InDelta(t, 5, valuesOf(t, a.collector, "rafthttp_groups_node_lane_oldest_age_seconds")["groupapp,2"], 0.01)
		require.InDelta(t, 1, valuesOf(t, a.collector, "rafthttp_problems")["true,queue_old,2,warning"], 0)
	})
}
