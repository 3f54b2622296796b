package sim_test

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/seed-4d73690b/rafthttp/chaos/sim"
	"github.com/seed-4d73690b/rafthttp/internal/bubble"
)

var (
	seed  = flag.Uint64("seed", 1, "the first seed")
	seeds = flag.Uint64("seeds", 2, "how many seeds, one after another")
	hours = flag.Float64("hours", 0.05, "hours to simulate with each seed")
)

// coveringTime is how long a simulation has to be so that nothing can be missing in it.
const coveringTime = 2 * time.Hour

func TestMain(m *testing.M) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(800) // what lives is a megabyte or two: it would be collected every ten simulated seconds
	}
	goleak.VerifyTestMain(m)
}

func TestSimulation(t *testing.T) {
	judge, end := sim.NewJudge()
	defer end()
	var all sim.Report
	began := time.Now()
	for i := range *seeds {
		cfg := sim.Config{Seed: *seed + i, Duration: time.Duration(*hours * float64(time.Hour))}
		var report sim.Report
		start := time.Now()
		bubble.Test(t, func(t *testing.T) { report = sim.Run(t, cfg, judge) })
		if t.Failed() {
			t.Fatalf("seed %d failed; again with: go test ./sim -run TestSimulation -seed %d -seeds 1 -hours %v", cfg.Seed, cfg.Seed, *hours)
		}
		t.Logf("seed %d, %v: %v", cfg.Seed, time.Since(start).Round(time.Millisecond), report)
		all.Add(report)
	}
	took := time.Since(began)
	t.Logf("all in %v, %.1f simulated hours a minute: %v", took.Round(time.Second), all.Simulated.Hours()/took.Minutes(), all)
	if all.Simulated >= coveringTime {
		require.Empty(t, all.Uncovered(), "what so long a simulation has to come by")
	}
}

func TestJudge(t *testing.T) {
	judge, end := sim.NewJudge()
	defer end()
	appended := func(seq int, call, ret int64) sim.Op { return sim.Op{Client: 1, Seq: seq, Call: call, Return: ret} }
	read := func(value string, call, ret int64) sim.Op { return sim.Op{Read: value, Call: call, Return: ret} }
	cases := map[string]struct {
		right bool
		final string
		ops   []sim.Op
	}{
		"nothing":                     {true, "", nil},
		"in order":                    {true, "1.1,1.2,", []sim.Op{appended(1, 1, 2), read("1.1,", 3, 4), appended(2, 5, 6), read("1.1,1.2,", 7, 8)}},
		"at once, either way":         {true, "1.2,1.1,", []sim.Op{appended(1, 1, 5), appended(2, 2, 4), read("1.2,", 3, 6)}},
		"in the wrong order":          {false, "1.2,1.1,", []sim.Op{appended(1, 1, 2), appended(2, 3, 4)}},
		"a stale read":                {false, "1.1,", []sim.Op{appended(1, 1, 2), read("", 3, 4)}},
		"a read of what was undone":   {false, "", []sim.Op{appended(1, 1, 0), read("1.1,", 3, 4)}},
		"back in time":                {false, "1.1,", []sim.Op{appended(1, 1, 0), read("1.1,", 3, 4), read("", 5, 6)}},
		"not known, and done":         {true, "1.1,", []sim.Op{appended(1, 1, 0), read("", 3, 4), read("1.1,", 5, 6)}},
		"not known, and not done":     {true, "1.2,", []sim.Op{appended(1, 1, 0), appended(2, 3, 4)}},
		"acknowledged, and lost":      {false, "", []sim.Op{appended(1, 1, 2)}},
		"there, and nobody's append":  {false, "1.1,1.2,", []sim.Op{appended(1, 1, 2)}},
		"there twice":                 {false, "1.1,1.1,", []sim.Op{appended(1, 1, 2)}},
		"a read before the beginning": {false, "1.1,", []sim.Op{read("1.1,", 1, 2), appended(1, 3, 4)}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) { require.Equal(t, c.right, judge.Linearizable(c.final, c.ops...)) })
	}
}

// fakeTB is a test whose failure is what the test wants.
type fakeTB struct {
	testing.TB
	failure  string
	cleanups []func()
}

func (f *fakeTB) Helper()          {}
func (f *fakeTB) Cleanup(c func()) { f.cleanups = append(f.cleanups, c) }
func (f *fakeTB) Failed() bool     { return false } // no transcript
func (f *fakeTB) Fatalf(format string, args ...any) {
	f.failure = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

// TestSabotageIsNoticed runs members that are wrong in a way that only faults bring to light.
func TestSabotageIsNoticed(t *testing.T) {
	judge, end := sim.NewJudge()
	defer end()
	cfg := sim.Config{Seed: 1, Duration: 10 * time.Hour}
	const illegal, lost = `the history is not linearizable \(Illegal\)`, `an acknowledged append is lost`
	for name, c := range map[string]struct {
		cfg  sim.Config
		want string
	}{
		"stale reads": {cfg.WithStaleReads(), illegal},
		"hasty acks":  {cfg.WithHastyAcks(), lost + "|" + illegal}, // which is told depends on who reads first
	} {
		t.Run(name, func(t *testing.T) {
			tb := &fakeTB{TB: t}
			bubble.Test(t, func(t *testing.T) {
				ended := make(chan struct{})
				go func() {
					defer close(ended)
					sim.Run(tb, c.cfg, judge)
				}()
				<-ended
				for i := range tb.cleanups {
					tb.cleanups[len(tb.cleanups)-1-i]()
				}
			})
			require.Regexp(t, c.want, tb.failure)
		})
	}
}
