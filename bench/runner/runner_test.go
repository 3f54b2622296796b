package runner_test

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp/bench/runner"
	"github.com/seed-4d73690b/rafthttp/bench/scenario"
	"github.com/seed-4d73690b/rafthttp/bench/system"
)

// TestMain lets the test binary be its own child.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == runner.ChildArgument {
		if err := runner.Child(os.Stdin, os.Stdout); err != nil {
			fmt.Fprint(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func plan(t *testing.T, systems string) runner.Plan {
	t.Helper()
	scenarios, err := scenario.Select("D")
	require.NoError(t, err)
	all, err := system.Select(systems)
	require.NoError(t, err)
	return runner.Plan{
		Scenarios: scenarios, Systems: all, Rounds: 2, Progress: io.Discard,
		Settings: scenario.Settings{WarmUp: time.Millisecond, Measure: 5 * time.Millisecond},
	}
}

func TestSystemsTakeTurns(t *testing.T) {
	p := plan(t, "tcp,ours")
	p.Profiles = t.TempDir()
	samples, err := runner.Run(t.Context(), p)
	require.NoError(t, err)
	var order []string
	for _, s := range samples {
		order = append(order, s.Scenario+" "+s.System)
		require.NotEmpty(t, s.Figures)
	}
	require.Equal(t, "D ours,D tcp,D ours,D tcp", strings.Join(order, ","))
	require.FileExists(t, filepath.Join(p.Profiles, "D-ours-1.cpu.prof"))
	require.FileExists(t, filepath.Join(p.Profiles, "D-tcp-2.allocs.prof"))
}

func TestAFailingRunEndsAll(t *testing.T) {
	p := plan(t, "tcp")
	p.Systems = append(p.Systems, system.System{Name: "nonsense", Start: p.Systems[0].Start})
	samples, err := runner.Run(t.Context(), p)
	require.ErrorContains(t, err, `scenario D, nonsense: exit status 1: there is no system "nonsense"`)
	require.Len(t, samples, 1)
}
