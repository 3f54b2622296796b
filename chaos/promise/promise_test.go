// Handshakes are not what is looked at, and the hybrid key exchange is half of what they cost.
//
//go:debug tlsmlkem=0

package promise_test

import (
	"flag"
	"fmt"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/seed-4d73690b/rafthttp/chaos/promise"
	"github.com/seed-4d73690b/rafthttp/internal/bubble"
	"github.com/seed-4d73690b/rafthttp/internal/faultpoint"
)

var (
	seed   = flag.Uint64("seed", 1, "the first seed")
	seeds  = flag.Uint64("seeds", uint64(bubble.Runs(8, 3)), "how many seeds, one after another")
	stars  = flag.Int("stars", 0, "how many stars of 200 peers, after that")
	shrink = flag.Bool("shrink", false, "cut a plan that fails to the shortest that still does")
	on     = flag.String("on", "", "only plans with these dimensions, separated by commas: seeds without are left out, and do not count")
	judge  = flag.String("judge", "", "let nothing count but what this judge, or scene, notices")
)

// many is how many seeds must have covered everything.
const many = 400

func TestMain(m *testing.M) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(400)
	}
	goleak.VerifyTestMain(m)
}

// run runs a plan in a bubble.
func run(t *testing.T, p promise.Plan, cfg promise.Config) (report promise.Report, v *promise.Violation) {
	t.Helper()
	cfg.Dir = t.TempDir()
	bubble.Test(t, func(*testing.T) {
		report, v = promise.Run(p, cfg)
		if v != nil && v.Judge == "goroutines" {
			fmt.Println(v) // what is left may keep the bubble from ending
			time.Sleep(2 * time.Hour)
		}
	})
	return report, v
}

// TestPromises runs the plans of seeds, one after another, up to the first that fails.
func TestPromises(t *testing.T) {
	var all promise.Report
	began := time.Now()
	one := func(s uint64, p promise.Plan, again string) {
		start := time.Now()
		report, v := run(t, p, promise.Config{Judge: *judge})
		if v != nil {
			fails(t, s, p, v, again)
		}
		if testing.Verbose() {
			t.Logf("seed %d: %v simulated in %v", s, report.Simulated.Round(time.Second), time.Since(start).Round(time.Millisecond))
		}
		all.Add(report)
	}
	for s, left := *seed, *seeds; left > 0; s++ {
		if p := promise.Draw(s); hasAll(p.On, *on) {
			one(s, p, "")
			left--
		}
	}
	for i := range uint64(*stars) {
		one(*seed+i, promise.DrawStar(*seed+i, 200), " -seeds 0 -stars 1")
	}
	t.Logf("all in %v: %v", time.Since(began).Round(time.Second), all)
	if *seeds >= many {
		require.Empty(t, all.Missing(), "what a larger number of seeds has to cover")
	}
}

// hasAll reports whether all dimensions of a list are among those of a plan.
func hasAll(on []string, list string) bool {
	for name := range strings.SplitSeq(list, ",") {
		if list != "" && !slices.Contains(on, name) {
			return false
		}
	}
	return true
}

// fails fails the test, with how to see it again.
func fails(t *testing.T, s uint64, p promise.Plan, v *promise.Violation, again string) {
	t.Helper()
	if again == "" {
		again = " -seeds 1"
	}
	if *shrink {
		p = promise.Shrink(p, 3, func(q promise.Plan) bool {
			_, other := run(t, q, promise.Config{Judge: v.Judge})
			return other != nil && other.Judge == v.Judge
		})
	}
	t.Log("what happened before:\n" + strings.Join(v.Log, "\n"))
	if faultpoint.Enabled {
		again += " -tags faultpoints"
	}
	t.Fatalf("%v\nseed %d; again with: go test ./promise -run TestPromises -v -seed %d%s; shorter with -shrink\n%s",
		v, s, s, again, goTest(p, v.Judge))
}

// goTest returns a test of a plan.
func goTest(p promise.Plan, judge string) string {
	return fmt.Sprintf("func TestPlan(t *testing.T) { // %s\n\trequireKept(t, %v)\n}", judge, p)
}

// requireKept requires that nothing is wrong with a plan.
func requireKept(t *testing.T, p promise.Plan) {
	t.Helper()
	_, v := run(t, p, promise.Config{})
	if v != nil {
		t.Log(strings.Join(v.Log, "\n"))
		t.Fatal(v)
	}
}
