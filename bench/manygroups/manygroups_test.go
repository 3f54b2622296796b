package manygroups

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == NodeArgument {
		if err := Node(os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// TestRun: three processes exchange the heartbeats of a few groups, about as many as they should, whichever way, and say what that took.
func TestRun(t *testing.T) {
	program, err := os.Executable()
	require.NoError(t, err)
	var out strings.Builder
	require.NoError(t, Run(t.Context(), &out, Plan{Program: program, Groups: 6, Measure: 300 * time.Millisecond}))
	beats, bytes := columns(t, out.String(), rowBeats), columns(t, out.String(), rowBytes)
	require.Len(t, beats, 5)
	for way := range beats {
		require.Greater(t, beats[way], 20.0, out.String()) // of 80: two groups with two followers each, and four answers
	}
	require.Zero(t, bytes[0])
	for way := 1; way < 4; way++ {
		require.Greater(t, bytes[way], 2.0, out.String())
	}
	require.Greater(t, bytes[4], 15.0, out.String())
	require.Less(t, bytes[4], 100.0, out.String())
}

// columns returns the figures of a row.
func columns(t *testing.T, table, name string) (figures []float64) {
	for line := range strings.Lines(table) {
		if rest, ok := strings.CutPrefix(line, "| "+name+" |"); ok {
			for _, one := range strings.Fields(strings.ReplaceAll(rest, "|", " ")) {
				var f float64
				_, err := fmt.Sscan(one, &f)
				require.NoError(t, err)
				figures = append(figures, f)
			}
		}
	}
	return figures
}

// TestRunIsolation: a flood and the loss of a node are measured.
func TestRunIsolation(t *testing.T) {
	program, err := os.Executable()
	require.NoError(t, err)
	p := Plan{Program: program, Groups: 6, Measure: 300 * time.Millisecond}
	var out strings.Builder
	require.NoError(t, RunFlood(t.Context(), &out, p))
	require.NotContains(t, out.String(), " 0s ")
	out.Reset()
	require.NoError(t, RunLoss(t.Context(), &out, p))
	require.Equal(t, 2, strings.Count(out.String(), ": 4 of 6 groups were told within "), out.String())
}
