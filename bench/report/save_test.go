package report_test

import (
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp/bench/report"
	"github.com/seed-4d73690b/rafthttp/bench/scenario"
	"github.com/seed-4d73690b/rafthttp/bench/system"
)

func TestSaveAndLoad(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "results")
	scenarios, err := scenario.Select("A,D,G")
	require.NoError(t, err)
	all := append(samples("A", "ours", scenario.Rate, 9, 8, 7), samples("A", "tcp", scenario.Rate, 900)...)
	all = append(all, samples("D", "upstream", scenario.Median, 0.5)...) // G has none
	env := report.Here("make bench", "0.10", system.All())
	require.NotEmpty(t, env.Go)
	require.Contains(t, env.String(), "load average 0.10 before, ")
	require.NoError(t, report.Save(dir, env, all, scenarios, system.All()))

	gotEnv, got, err := report.Load(filepath.Join(dir, "results.json"))
	require.NoError(t, err)
	require.Equal(t, env, gotEnv)
	require.Equal(t, all, got)

	blue, _ := countPixels(t, filepath.Join(dir, "results.png")) // the bar of ours in A is some hundred pixels
	require.Greater(t, blue, 1000)

	require.NoFileExists(t, filepath.Join(dir, "summary.png"), "E was not run")

	md, err := os.ReadFile(filepath.Join(dir, "results.md"))
	require.NoError(t, err)
	require.Contains(t, string(md), "| **A** MsgApp, one entry of 64 B | messages/s | 8.00 (7.00–9.00) | – | – | – | 900 | – | 0.01 × |")
	require.Contains(t, string(md), "**missed**")
}

func TestSummaryIsDrawn(t *testing.T) {
	dir := t.TempDir()
	scenarios, err := scenario.Select("A,E,G")
	require.NoError(t, err)
	all := append(samples("A", "ours", scenario.Rate, 9), samples("A", "upstream", scenario.Rate, 3)...)
	require.NoError(t, report.Save(dir, report.Environment{}, all, scenarios, system.All()))
	blue, orange := countPixels(t, filepath.Join(dir, "summary.png"))
	require.Greater(t, blue, 1000)
	require.Greater(t, orange, 300)
}

func TestGoodputIsDrawn(t *testing.T) {
	dir := t.TempDir()
	scenarios, err := scenario.Select("slow-line,near-rejoin,D")
	require.NoError(t, err)
	all := []report.Sample{
		{Scenario: "slow-line", System: "ours", Figures: scenario.Figures{scenario.Goodput: 20}, Goodput: []float64{18, 20, 20, 20}},
		{Scenario: "slow-line", System: "upstream", Figures: scenario.Figures{scenario.Goodput: 10}, Goodput: []float64{9, 11, 10}},
	}
	require.NoError(t, report.Save(dir, report.Environment{}, all, scenarios, system.All()))
	_, again, err := report.Load(filepath.Join(dir, "results.json"))
	require.NoError(t, err)
	require.Equal(t, all, again)
	blue, orange := countPixels(t, filepath.Join(dir, "goodput.png"))
	require.Greater(t, blue, 500)
	require.Greater(t, orange, 100)
	md, err := os.ReadFile(filepath.Join(dir, "results.md"))
	require.NoError(t, err)
	for _, want := range []string{"## Transports", "## Slow followers", "(goodput.png)", "| **slow-line** a follower behind 20 MB/s, 40 ms | MB/s to the follower | 20.0 | – | 10.0 |"} {
		require.Contains(t, string(md), want)
	}
	none, err := scenario.Select("D")
	require.NoError(t, err)
	other := t.TempDir()
	require.NoError(t, report.Save(other, report.Environment{}, nil, none, system.All()))
	require.NoFileExists(t, filepath.Join(other, "goodput.png"))
}

// countPixels counts those in the colors of ours and of etcd.
func countPixels(t *testing.T, path string) (blue, orange int) {
	t.Helper()
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	img, err := png.Decode(f)
	require.NoError(t, err)
	for x := range img.Bounds().Dx() {
		for y := range img.Bounds().Dy() {
			switch r, g, b, _ := img.At(x, y).RGBA(); [3]uint32{r >> 8, g >> 8, b >> 8} {
			case [3]uint32{0x0b, 0x6e, 0x99}:
				blue++
			case [3]uint32{0xd9, 0x82, 0x2b}:
				orange++
			}
		}
	}
	return blue, orange
}

func TestCheck(t *testing.T) {
	scenarios, err := scenario.Select("A,D")
	require.NoError(t, err)
	all := append(samples("A", "ours", scenario.Rate, 10), samples("A", "upstream", scenario.Rate, 4)...)
	all = append(all, samples("A", "ours", scenario.Allocs, 2)...)
	r := report.Summarize(all)
	for name, tc := range map[string]struct {
		floor  report.Floor
		missed int
	}{
		"at least, reached":          {report.Floor{Scenario: "A", Metric: scenario.Rate, To: "upstream", Limit: 2.5}, 0},
		"at least, missed":           {report.Floor{Scenario: "A", Metric: scenario.Rate, To: "upstream", Limit: 2.6}, 1},
		"at most, reached":           {report.Floor{Scenario: "A", Metric: scenario.Allocs, AtMost: true, Limit: 2}, 0},
		"at most, missed":            {report.Floor{Scenario: "A", Metric: scenario.Allocs, AtMost: true, Limit: 1.9}, 1},
		"not measured":               {report.Floor{Scenario: "D", Metric: scenario.Median, AtMost: true, Limit: 1}, 1},
		"the other was not measured": {report.Floor{Scenario: "A", Metric: scenario.Rate, To: "grpc", Limit: 1}, 1},
		"a scenario not in this run": {report.Floor{Scenario: "H", Metric: scenario.Rate, Limit: 1}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			var b strings.Builder
			require.Equal(t, tc.missed, report.Check(&b, r, scenarios, []report.Floor{tc.floor}))
			require.Equal(t, tc.missed, strings.Count(b.String(), "**missed**"))
		})
	}
}

func TestFloorsNameWhatThereIs(t *testing.T) {
	for _, f := range report.Floors {
		sc, err := scenario.ByID(f.Scenario)
		require.NoError(t, err)
		require.Contains(t, sc.Metrics, f.Metric)
		require.Equal(t, f.AtMost, f.Metric.LessIsBetter(), "%s %s", f.Scenario, f.Metric)
		if f.To != "" {
			_, err := system.ByName(f.To)
			require.NoError(t, err)
		}
	}
}
