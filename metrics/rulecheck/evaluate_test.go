package rulecheck

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/stretchr/testify/require"
)

// TestPanelsShow: each query of the dashboard has an answer for members that are
// there, and none for others; its legend tells all lines of a panel apart.
func TestPanelsShow(t *testing.T) {
	s, end := live(t, true)
	known := families(t)
	for _, p := range dashboard(t).Panels {
		legends := map[string]bool{}
		for _, target := range p.Targets {
			at := func(instance, peer string) promql.Vector { return s.query(t, filled(target.Expr, instance, peer), end) }
			all := at("m1:9100|m2:9100|m3:9100", "1|2|3") // as Grafana writes "All"
			require.NotEmpty(t, all, "%s: nothing to see: %s", p.Title, target.Expr)
			for _, sample := range all {
				legend := expand(t, target.LegendFormat, sample.Metric)
				require.False(t, legends[legend], "%s: %q twice", p.Title, legend)
				legends[legend] = true
			}
			require.NotEmpty(t, at("m2:9100|m1:9100", "1|2"), p.Title)
			require.Empty(t, at("nobody", "1|2|3"), "%s does not heed the choice of a member", p.Title)
			if isOfPeers(t, known, filled(target.Expr, "m1", "2")) {
				require.Empty(t, at("m1:9100|m2:9100|m3:9100", "nobody"), "%s does not heed the choice of a peer", p.Title)
			}
		}
	}
}

var placeholder = regexp.MustCompile(`\{\{(\w+)\}\}`)

// expand fills in a legend. Each label must be there.
func expand(t *testing.T, format string, of labels.Labels) string {
	t.Helper()
	require.NotEmpty(t, format)
	return placeholder.ReplaceAllStringFunc(format, func(p string) string {
		value := of.Get(placeholder.FindStringSubmatch(p)[1])
		require.NotEmpty(t, value, "%s is not a label of %s", p, of)
		return value
	})
}

// sick is what goes wrong between m1 and peer 2, and the labels of the alert.
var sick = map[string]struct {
	series string
	change func(sample int, value float64) float64
	labels map[string]string
}{
	"RaftPeerInactive":    {`etcd_network_active_peers{instance="m1:9100",Remote="2"}`, always(0), both("Remote")},
	"RaftUnhealthy":       {`rafthttp_problems{instance="m1:9100",kind="no_majority"}`, always(1), map[string]string{"instance": "m1:9100", "kind": "no_majority"}},
	"RaftProblem":         {`rafthttp_problems{instance="m1:9100",kind="peer_inactive",peer="2",groups=""}`, always(1), both("peer", "kind", "peer_inactive")},
	"RaftStreamFlapping":  {`rafthttp_stream_connects_total{instance="m1:9100",peer="2",direction="in"}`, each(1), both("peer")},
	"RaftQueueOld":        {`rafthttp_lane_oldest_age_seconds{instance="m1:9100",peer="2",lane="append"}`, always(3), both("peer", "lane", "append")},
	"RaftAppendsSlow":     {`rafthttp_append_slow{instance="m1:9100",peer="2",part="follower"}`, always(1), both("peer", "part", "follower")},
	"RaftQueueFilling":    {`rafthttp_lane_queued_bytes{instance="m1:9100",peer="2",lane="append"}`, always(60 << 20), both("peer", "lane", "append")},
	"RaftMessagesDropped": {`rafthttp_lane_dropped_messages_total{instance="m1:9100",peer="2",lane="message",reason="queue_full"}`, each(10), both("peer", "reason", "queue_full")},
	"RaftIdentityRefused": {`rafthttp_identity_refused_total{instance="m1:9100",kind="dial"}`, each(1), map[string]string{"instance": "m1:9100", "kind": "dial"}},
	"RaftRoundTripSlow":   {`etcd_network_peer_round_trip_time_seconds_bucket{To="2",le=~"0.[01].*"}`, always(0), map[string]string{"To": "2"}},
	"RaftProbesFail":      {`rafthttp_probe_failures_total{instance="m1:9100",peer="2"}`, each(1), both("peer")},
	"RaftClockOffset":     {`rafthttp_peer_clock_offset_seconds{instance="m1:9100",peer="2"}`, always(-2), both("peer")},
	"RaftCertificateExpires": {certificates + `{instance="m1:9100",peer="2"}`,
		func(_ int, v float64) float64 { return v - 20*24*3600 }, both("peer")},
	"RaftSnapshotStuck":         {`rafthttp_snapshot_transferred_bytes{instance="m1:9100",peer="2",direction="out"}`, always(100), both("peer", "direction", "out")},
	"RaftGroupsNodeInactive":    {`rafthttp_groups_node_active{instance="m1:9100",node="2"}`, always(0), both("node")},
	"RaftGroupsBlocked":         {`rafthttp_groups_process_blocked_seconds{instance="m1:9100",kind="append"}`, always(11), map[string]string{"instance": "m1:9100", "kind": "append"}},
	"RaftGroupsQueueOld":        {`rafthttp_groups_node_lane_oldest_age_seconds{instance="m1:9100",node="2",lane="groupapp"}`, always(3), both("node", "lane", "groupapp")},
	"RaftGroupsReceivedDropped": {`rafthttp_groups_dropped_messages_total{instance="m1:9100",reason="queue_full"}`, each(10), map[string]string{"instance": "m1:9100", "reason": "queue_full"}},
	"RaftGroupsMessagesDropped": {`rafthttp_groups_node_lane_dropped_messages_total{instance="m1:9100",node="2",lane="group",reason="queue_full"}`, each(10), both("node", "reason", "queue_full")},
	"RaftGroupsSnapshotsFail":   {`rafthttp_groups_node_snapshots_total{instance="m1:9100",node="2",direction="out",result="failed"}`, each(1), both("node")},

	"RaftSnapshotsFail": {`etcd_network_snapshot_send_failures{instance="m2:9100",To="1"}`, each(1), map[string]string{"instance": "m2:9100", "To": "1"}},
}

func always(v float64) func(int, float64) float64 { return func(int, float64) float64 { return v } }
func each(v float64) func(int, float64) float64 {
	return func(i int, _ float64) float64 { return v * float64(i) }
}

// both are the labels of m1 and peer 2, and more.
func both(peer string, more ...string) map[string]string {
	all := map[string]string{"instance": "m1:9100", peer: "2"}
	for i := 0; i < len(more); i += 2 {
		all[more[i]] = more[i+1]
	}
	return all
}

// TestAlertsFire: each alert fires for what it is about, with labels that say where,
// and none for members that are well.
func TestAlertsFire(t *testing.T) {
	for _, r := range alerts(t) {
		t.Run(r.Alert, func(t *testing.T) {
			well, end := live(t, false)
			require.Empty(t, well.query(t, r.Expr, end), "members that are well")
			s, end := live(t, true) // else there is no series of failures
			s.change(t, "etcd_network_snapshot_send_failures", always(1))
			s.change(t, "rafthttp_problems", always(0))
			what, ok := sick[r.Alert]
			require.True(t, ok, "nothing here makes it fire")
			s.change(t, what.series, what.change)
			fires := s.query(t, r.Expr, end)
			require.Len(t, fires, 1, "%v", fires)
			for name, value := range what.labels {
				require.Equal(t, value, fires[0].Metric.Get(name), name)
			}
			for _, text := range r.Annotations {
				for _, l := range regexp.MustCompile(`\$labels\.(\w+)`).FindAllStringSubmatch(text, -1) {
					require.NotEmpty(t, fires[0].Metric.Get(l[1]), "%s in %q", l[1], text)
				}
			}
		})
	}
}

// TestDashboardIsWellFormed: what Grafana wants beside the queries.
func TestDashboardIsWellFormed(t *testing.T) {
	d := dashboard(t)
	require.Equal(t, 39, d.SchemaVersion, "of Grafana 10.4 and 11: newer ones migrate it")
	require.NotEmpty(t, d.UID)
	require.LessOrEqual(t, len(d.UID), 40)
	variables := map[string]bool{}
	all := families(t)
	for _, v := range d.Templating.List {
		variables[v.Name] = true
		if v.Type != "query" {
			continue
		}
		require.Equal(t, "${datasource}", v.Datasource.UID, v.Name)
		query := regexp.MustCompile(`^label_values\((\w+), (\w+)\)$`).FindStringSubmatch(v.Definition)
		require.NotNil(t, query, v.Definition)
		require.Contains(t, all, query[1])
		require.Contains(t, all[query[1]].labels, query[2])
		require.Contains(t, fmt.Sprint(v.Query), v.Definition, "definition and query differ")
	}
	require.Equal(t, map[string]bool{"datasource": true, "instance": true, "peer": true}, variables)
	units := []string{"", "none", "s", "Bps", "ops", "percentunit"} // ids that Grafana knows
	for _, p := range d.Panels {
		require.LessOrEqual(t, p.GridPos.X+p.GridPos.W, 24, p.Title)
		require.Contains(t, units, p.FieldConfig.Defaults.Unit, p.Title)
		if p.Type == "row" {
			continue
		}
		require.Contains(t, []string{"stat", "timeseries"}, p.Type)
		require.NotEmpty(t, p.Description, p.Title)
		require.Equal(t, "${datasource}", p.Datasource.UID, p.Title)
		for i, target := range p.Targets {
			require.Equal(t, string(rune('A'+i)), target.RefID, p.Title)
			require.Equal(t, "${datasource}", target.Datasource.UID, p.Title)
			for _, v := range regexp.MustCompile(`\$\{?(\w+)`).FindAllStringSubmatch(target.Expr, -1) {
				require.True(t, variables[v[1]] || v[1] == "__rate_interval", "%s: no variable %s", p.Title, v[1])
			}
		}
	}
}

// TestTypesOfMetrics: the types of metrics that docs/metrics.md states
// are those that are scraped.
func TestTypesOfMetrics(t *testing.T) {
	page, err := os.ReadFile("../../docs/metrics.md")
	require.NoError(t, err)
	s, _ := live(t, true)
	n := 0
	for _, row := range regexp.MustCompile(`(?m)^\| ([^|]*) \| (\w+) \|`).FindAllStringSubmatch(string(page), -1) {
		for _, m := range regexp.MustCompile("`(\\w+)`").FindAllStringSubmatch(row[1], -1) {
			typ, ok := s.types[m[1]]
			require.True(t, ok, "%s was not scraped", m[1])
			require.Equal(t, row[2], strings.ToLower(typ.String()), m[1])
			n++
		}
	}
	require.Equal(t, len(s.types), n)
}
