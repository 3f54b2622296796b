package metrics

import (
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"

	"github.com/seed-4d73690b/rafthttp"
)

// problem is a state of member 1 with peers 2, 3 and 4 in which Health finds a problem.
type problem struct {
	kind, severity, peer string
	change               func(st *rafthttp.Status, p *rafthttp.PeerStatus) // p is peer 2
}

// problemsOf are one for each kind and severity.
func problemsOf(now time.Time) []problem {
	lane := func(l rafthttp.LaneStatus) func(*rafthttp.Status, *rafthttp.PeerStatus) {
		l.Name, l.Capacity, l.CapacityBytes = "control", 100, 100
		return func(_ *rafthttp.Status, p *rafthttp.PeerStatus) { p.Lanes = append(p.Lanes, l) }
	}
	groups := func(g rafthttp.GroupsStatus) func(*rafthttp.Status, *rafthttp.PeerStatus) {
		return func(st *rafthttp.Status, _ *rafthttp.PeerStatus) { st.Groups = &g }
	}
	ended := &rafthttp.SnapshotStatus{Error: "disk full", Ended: now}
	return []problem{
		{"not_started", "critical", "0", func(st *rafthttp.Status, _ *rafthttp.PeerStatus) { *st = rafthttp.Status{} }},
		{"stopped", "critical", "1", func(st *rafthttp.Status, _ *rafthttp.PeerStatus) { st.Stopped = true }},
		{"no_majority", "critical", "1", func(st *rafthttp.Status, _ *rafthttp.PeerStatus) {
			st.Peers[0].Active, st.Peers[1].Active = false, false
		}},
		{"peer_inactive", "error", "2", func(_ *rafthttp.Status, p *rafthttp.PeerStatus) { p.Active = false }},
		{"stream_down", "warning", "2", func(_ *rafthttp.Status, p *rafthttp.PeerStatus) {
			p.Streams = []rafthttp.StreamStatus{{Name: "message", Direction: rafthttp.StreamOut, DownSince: now}}
		}},
		{"stream_flaps", "warning", "2", func(_ *rafthttp.Status, p *rafthttp.PeerStatus) {
			p.Streams = []rafthttp.StreamStatus{{Name: "message", Up: true, Since: now, Reconnects: 3, ReconnectsSince: now.Add(-time.Minute)}}
		}},
		{"queue_full", "warning", "2", lane(rafthttp.LaneStatus{Queued: 80})},
		{"queue_full", "error", "2", lane(rafthttp.LaneStatus{Queued: 100})},
		{"queue_old", "warning", "2", lane(rafthttp.LaneStatus{Queued: 1, OldestAge: time.Minute})},
		{"appends_slow", "warning", "2", func(_ *rafthttp.Status, p *rafthttp.PeerStatus) {
			p.Appends.Slow = &rafthttp.SlowStatus{Text: "slow", Since: now}
		}},
		{"drops", "warning", "2", lane(rafthttp.LaneStatus{DroppingSince: now, Dropping: rafthttp.Drops{QueueFull: 1}})},
		{"local_messages", "warning", "1", func(st *rafthttp.Status, _ *rafthttp.PeerStatus) {
			st.DroppingSince, st.Dropping = now, rafthttp.Drops{Local: 1}
		}},
		{"identity_refused", "warning", "1", func(st *rafthttp.Status, _ *rafthttp.PeerStatus) {
			st.RefusingSince, st.Refusing = now, rafthttp.IdentityStatus{OtherCluster: 1}
		}},
		{"identity_refused", "warning", "2", func(_ *rafthttp.Status, p *rafthttp.PeerStatus) {
			p.RefusingSince, p.Refusing = now, rafthttp.IdentityStatus{Dials: 1}
		}},
		{"snapshot_failed", "warning", "2", func(_ *rafthttp.Status, p *rafthttp.PeerStatus) { p.LastSnapshot = ended }},
		{"snapshot_failed", "warning", "2", func(_ *rafthttp.Status, p *rafthttp.PeerStatus) { p.LastReceived = ended }},
		{"probes_fail", "warning", "2", func(_ *rafthttp.Status, p *rafthttp.PeerStatus) { p.ProbeStale, p.ProbeError = true, "refused" }},
		{"clock", "warning", "2", func(_ *rafthttp.Status, p *rafthttp.PeerStatus) { p.ClockOffset = time.Minute }},
		{"certificate_expired", "error", "2", func(_ *rafthttp.Status, p *rafthttp.PeerStatus) { p.CertificateExpires = now.Add(-time.Hour) }},
		{"certificate_expires", "warning", "2", func(_ *rafthttp.Status, p *rafthttp.PeerStatus) { p.CertificateExpires = now.Add(time.Hour) }},
		{"handshake_failed", "warning", "1", func(st *rafthttp.Status, _ *rafthttp.PeerStatus) {
			st.Handshakes = []rafthttp.HandshakeStatus{{Reason: "expired", Failures: 1, Since: now, LastAt: now}}
		}},
		{"groups_blocked", "warning", "1", groups(rafthttp.GroupsStatus{Processing: []rafthttp.ProcessingStatus{{Name: "append", Blocked: 1, BlockedGroup: 7, BlockedFor: time.Minute}}})},
		{"groups_blocked", "error", "1", groups(rafthttp.GroupsStatus{Processing: []rafthttp.ProcessingStatus{{Name: "append", Blocked: 256, BlockedGroup: 7, BlockedFor: time.Minute}}})},
		{"peer_inactive", "error", "2", groups(rafthttp.GroupsStatus{Nodes: []rafthttp.PeerStatus{{ID: 2}}})},
		{"memory_limit", "warning", "1", func(st *rafthttp.Status, _ *rafthttp.PeerStatus) { st.QueuedBytes, st.MaxQueuedBytes = 80, 100 }},
	}
}

// TestProblemsAreInTheMetrics: each kind of problem that docs/operating.md lists is in what is scraped, with its severity and peer,
// and is not there before. Package faults does the same with problems that real faults cause.
func TestProblemsAreInTheMetrics(t *testing.T) {
	now := time.Now()
	documented, tried := documentedProblems(t), map[string]map[string]bool{}
	for _, p := range problemsOf(now) {
		st := rafthttp.Status{ID: 1, Time: now, Started: now}
		for id := types.ID(2); id <= 4; id++ {
			st.Peers = append(st.Peers, rafthttp.PeerStatus{ID: id, Active: true})
		}
		series := `groups="",kind="` + p.kind + `",peer="` + p.peer + `",severity="` + p.severity + `"`
		require.Zero(t, scraped(t, st)[series], p.kind)
		p.change(&st, &st.Peers[0])
		if st.Groups != nil {
			require.Zero(t, scraped(t, st)[series])
			series = strings.Replace(series, `groups=""`, `groups="true"`, 1)
		}
		require.Equal(t, 1, scraped(t, st)[series], "%s: %v", p.kind, scraped(t, st))
		if tried[p.kind] == nil {
			tried[p.kind] = map[string]bool{}
		}
		tried[p.kind][p.severity] = true
	}
	require.Equal(t, documented, tried)
}

// scraped returns the values of rafthttp_problems by their labels.
func scraped(t *testing.T, st rafthttp.Status) map[string]int {
	t.Helper()
	ch := make(chan prometheus.Metric, 1000)
	collectProblems(ch, st)
	close(ch)
	values := map[string]int{}
	for m := range ch {
		require.Contains(t, m.Desc().String(), `"rafthttp_problems"`)
		var out dto.Metric
		require.NoError(t, m.Write(&out))
		var labels []string
		for _, l := range out.GetLabel() {
			labels = append(labels, l.GetName()+`="`+l.GetValue()+`"`)
		}
		values[strings.Join(labels, ",")] = int(out.GetGauge().GetValue())
	}
	return values
}

// documentedProblems returns the severities of each kind in the table of docs/operating.md.
func documentedProblems(t *testing.T) map[string]map[string]bool {
	t.Helper()
	document, err := os.ReadFile("../docs/operating.md")
	require.NoError(t, err)
	_, section, _ := strings.Cut(string(document), "\n### Health\n")
	section, _, _ = strings.Cut(section, "\n### ")
	all := map[string]map[string]bool{}
	for _, row := range regexp.MustCompile("(?m)^\\| (`[^|]*`) \\| ([a-z, ]+) \\|").FindAllStringSubmatch(section, -1) {
		kinds := regexp.MustCompile("`([a-z_]+)`").FindAllStringSubmatch(row[1], -1)
		severities := strings.Split(row[2], ", ")
		for i, kind := range kinds {
			of := severities
			if len(kinds) == len(severities) { // one for each
				of = severities[i : i+1]
			}
			all[kind[1]] = map[string]bool{}
			for _, s := range of {
				all[kind[1]][s] = true
			}
		}
	}
	return all
}
