package groups_test

import (
	"flag"
	"os"
	"runtime/debug"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/seed-4d73690b/rafthttp/chaos/groups"
	"github.com/seed-4d73690b/rafthttp/internal/bubble"
)

var (
	seed  = flag.Uint64("seed", 1, "the first seed")
	seeds = flag.Uint64("seeds", 1, "how many seeds, one after another")
	hours = flag.Float64("hours", 0.01, "hours to simulate with each seed")
)

// coveringTime is how long a simulation must be to contain everything.
const coveringTime = time.Hour

func TestMain(m *testing.M) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(400)
	}
	goleak.VerifyTestMain(m)
}

func TestGroups(t *testing.T) {
	var all groups.Report
	began := time.Now()
	for i := range *seeds {
		cfg := groups.Config{Seed: *seed + i, Duration: time.Duration(*hours * float64(time.Hour))}
		start := time.Now()
		var report groups.Report
		bubble.Test(t, func(t *testing.T) { report = groups.Run(t, cfg) })
		if t.Failed() {
			return
		}
		t.Logf("seed %d: %v: %v", cfg.Seed, time.Since(start).Round(time.Millisecond), report)
		all.Add(report)
	}
	took := time.Since(began)
	t.Logf("all in %v, %.1f simulated hours an hour: %v", took.Round(time.Second), all.Simulated.Hours()/took.Hours(), all)
	if all.Simulated >= coveringTime {
		require.Empty(t, all.Missing(), "so long a simulation must contain it")
	}
}
