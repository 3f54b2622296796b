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

// TestRun: three processes exchange the heartbeats of a few groups, about as many as they should, and say what that took.
func TestRun(t *testing.T) {
	program, err := os.Executable()
	require.NoError(t, err)
	var out strings.Builder
	require.NoError(t, Run(t.Context(), &out, program, 6, time.Second))
	var beats, bytes float64
	for line := range strings.Lines(out.String()) {
		if name, value, ok := strings.Cut(strings.Trim(line, "|\n "), " | "); ok {
			switch name {
			case "heartbeats and answers that a node sends a second":
				_, err = fmt.Sscan(value, &beats)
			case "wire bytes of each":
				_, err = fmt.Sscan(value, &bytes)
			}
			require.NoError(t, err)
		}
	}
	require.Greater(t, beats, 20.0, out.String()) // of 80: two groups with two followers each, and four answers
	require.Greater(t, bytes, 15.0, out.String())
	require.Less(t, bytes, 100.0, out.String())
}
