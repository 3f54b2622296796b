//go:build faultpoints

package snapshots_test

import (
	"flag"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp/internal/bubble"
	"github.com/seed-4d73690b/rafthttp/internal/faultpoint"
)

var (
	faultSeed  = flag.Uint64("faultseed", 1, "the first seed of the fault points; not 0")
	faultSeeds = flag.Uint64("faultseeds", 4, "how many seeds, one after another")
)

// TestFaultPoints: what the transport promises of messages, snapshots and its end holds while the fault points strike; and
// each of them is hit, and strikes.
func TestFaultPoints(t *testing.T) {
	hits, faults := map[string]uint64{}, map[string]uint64{}
	var ends [2]atomic.Int64 // of snapshots
	scenarios := map[string]func(t *testing.T, seed uint64){
		"messages": runWeather,
		"snapshots": func(t *testing.T, seed uint64) {
			dir := t.TempDir()
			bubble.Test(t, func(t *testing.T) {
				c := newChaos(t, dir, seed)
				faultpoint.Seed(seed)
				c.run()
				c.check(&ends)
			})
		},
	}
	for seed := *faultSeed; seed < *faultSeed+*faultSeeds; seed++ {
		for name, run := range scenarios {
			run(t, seed)
			for point, n := range faultpoint.Hits() {
				hits[point] += n
				faults[point] += faultpoint.Faults()[point]
			}
			faultpoint.Seed(0)
			if t.Failed() {
				t.Fatalf("%s: again with: go test -tags faultpoints -run TestFaultPoints ./tests/snapshots -faultseed %d -faultseeds 1", name, seed)
			}
		}
	}
	t.Logf("hits %v, of which something happened at %v; %d snapshots were sent, %d not", hits, faults, ends[1].Load(), ends[0].Load())
	if *faultSeeds < 4 {
		return // which may be too few to hit everything
	}
	for _, p := range faultpoint.Table() {
		if p.Groups {
			continue // chaos/promise has groups
		}
		require.NotZero(t, hits[p.Name], "%s was never hit", p.Name)
		require.NotZero(t, faults[p.Name], "nothing ever happened at %s", p.Name)
	}
}
