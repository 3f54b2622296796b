package scenario_test

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp/bench/scenario"
	"github.com/seed-4d73690b/rafthttp/bench/system"
)

func TestSeriesNameWhatThereIs(t *testing.T) {
	for _, s := range scenario.AllSeries() {
		base, err := scenario.ByID(s.Base)
		require.NoError(t, err)
		for _, m := range s.Metrics {
			require.Contains(t, base.Metrics, m, s.ID)
		}
		for _, name := range s.Systems {
			sys, err := system.ByName(name)
			require.NoError(t, err)
			require.False(t, base.Skips(sys), "%s in %s", name, s.ID)
		}
		require.True(t, slices.IsSortedFunc(s.Points, func(a, b scenario.Point) int { return int(a.At - b.At) }))
	}
}

func TestPointsChangeTheScenario(t *testing.T) {
	series, err := scenario.SelectSeries("peers,size")
	require.NoError(t, err)
	require.Len(t, series, 2)
	base, err := scenario.ByID("A")
	require.NoError(t, err)
	last := base.At(series[1].Points[len(series[1].Points)-1])
	require.Equal(t, 16<<20, last.Size)
	require.Equal(t, base.Peers, last.Peers)
	require.Equal(t, 1000, base.At(series[0].Points[3]).Peers)
	require.Equal(t, "16 MiB", series[1].Points[len(series[1].Points)-1].Label)

	last.Window = 2 // one message is 16 MiB
	sys, err := system.ByName("ours")
	require.NoError(t, err)
	_, err = last.Run(sys, tiny)
	require.NoError(t, err)

	_, err = scenario.SelectSeries("nonsense")
	require.Error(t, err)
}
