package report_test

import (
	"image/png"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp/bench/report"
	"github.com/seed-4d73690b/rafthttp/bench/scenario"
	"github.com/seed-4d73690b/rafthttp/bench/system"
)

func TestSaveGrowth(t *testing.T) {
	dir := t.TempDir()
	series, err := scenario.SelectSeries("idle,procsA") // of which the second was not measured
	require.NoError(t, err)
	var all []report.Sample
	for _, at := range []float64{1, 10, 100, 1000} {
		for _, v := range []float64{30 + at, 20, 40 + at} {
			all = append(all, report.Sample{Scenario: "idle", System: "ours", At: at, Figures: scenario.Figures{scenario.Heap: v, scenario.IdleCPU: 0}})
		}
	}
	require.NoError(t, report.SaveGrowth(dir, report.Here("make bench-growth", "0.10", system.All()), all, series))
	md, err := os.ReadFile(filepath.Join(dir, "growth.md"))
	require.NoError(t, err)
	require.Contains(t, string(md), "| heap KiB a peer | ours | 31.0 | 40.0 | 130 | 1030 |\n|  | etcd | – | – | – | – |\n")
	for _, name := range []string{"growth-idle.png", "growth-procsA.png"} {
		f, err := os.Open(filepath.Join(dir, name))
		require.NoError(t, err)
		_, err = png.Decode(f)
		require.NoError(t, err)
		require.NoError(t, f.Close())
	}
	_, got, err := report.Load(filepath.Join(dir, "growth.json"))
	require.NoError(t, err)
	require.Equal(t, all, got)
}
