package report_test

import (
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp/bench/report"
	"github.com/seed-4d73690b/rafthttp/bench/scenario"
	"github.com/seed-4d73690b/rafthttp/bench/system"
)

func samples(id, sys string, m scenario.Metric, values ...float64) []report.Sample {
	var all []report.Sample
	for i, v := range values {
		all = append(all, report.Sample{Scenario: id, System: sys, Round: i, Figures: scenario.Figures{m: v}})
	}
	return all
}

func TestSummarize(t *testing.T) {
	all := append(samples("A", "ours", scenario.Rate, 5, 1, 9), samples("A", "upstream", scenario.Rate, 4, 2, 1, 3)...)
	all = append(all, samples("D", "ours", scenario.Rate, 7)...)
	r := report.Summarize(all)
	for _, tc := range []struct {
		id, sys string
		want    report.Value
	}{
		{"A", "ours", report.Value{Median: 5, Min: 1, Max: 9}},
		{"A", "upstream", report.Value{Median: 2.5, Min: 1, Max: 4}},
		{"D", "ours", report.Value{Median: 7, Min: 7, Max: 7}},
	} {
		got, ok := r.Value(tc.id, tc.sys, scenario.Rate)
		require.True(t, ok)
		require.Equal(t, tc.want, got)
	}
	_, ok := r.Value("A", "ours", scenario.CPU)
	require.False(t, ok)
}

func TestRatio(t *testing.T) {
	all := append(samples("A", "ours", scenario.Rate, 10), samples("A", "upstream", scenario.Rate, 4)...)
	all = append(all, samples("A", "ours", scenario.Allocs, 0)...)
	all = append(all, samples("A", "upstream", scenario.Allocs, 0)...)
	r := report.Summarize(all)
	ratio, ok := r.Ratio("A", "ours", "upstream", scenario.Rate)
	require.True(t, ok)
	require.InDelta(t, 2.5, ratio, 1e-9)
	ratio, ok = r.Ratio("A", "ours", "upstream", scenario.Allocs)
	require.True(t, ok)
	require.InDelta(t, 1, ratio, 1e-9, "nothing against nothing")
	_, ok = report.Summarize(append(samples("A", "ours", scenario.Allocs, 2), samples("A", "tcp", scenario.Allocs, 0.001)...)).Ratio("A", "ours", "tcp", scenario.Allocs)
	require.False(t, ok, "against next to nothing")
	_, ok = r.Ratio("A", "ours", "tcp", scenario.Rate)
	require.False(t, ok)
}

func TestFormat(t *testing.T) {
	for v, want := range map[float64]string{
		0: "0", 0.004: "0", 0.0314: "0.03", 1.234: "1.23", 9.996: "10.0", 12.34: "12.3", 99.96: "100", 3456.7: "3457", 12345: "12.3 k", 123456: "123 k",
		999600: "1.00 M", 4_712_345: "4.71 M", 37e6: "37.0 M", -1.5: "-1.50", math.Inf(1): "–", math.NaN(): "–",
	} {
		require.Equal(t, want, report.Format(v), v)
	}
}

func TestTable(t *testing.T) {
	sc, err := scenario.ByID("D")
	require.NoError(t, err)
	all := append(samples("D", "ours", scenario.Median, 20, 30, 25), samples("D", "upstream", scenario.Median, 50)...)
	all = append(all, samples("D", "ours", scenario.Tail, 90)...)
	var b strings.Builder
	systems, err := system.Select("ours,ours-32MiB,upstream") // the second of which is not for this
	require.NoError(t, err)
	report.Table(&b, report.Summarize(all), []scenario.Scenario{sc}, systems)
	require.Equal(t, `|  |  | ours | etcd | ours / etcd |
| --- | --- | --: | --: | --: |
| **D** heartbeat and answer, idle | p50 µs | 25.0 (20.0–30.0) | 50.0 | 0.50 × |
|  | p99 µs | 90.0 | – | – |
`, b.String())
}
