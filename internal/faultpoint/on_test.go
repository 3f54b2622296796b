//go:build faultpoints

package faultpoint_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp/internal/faultpoint"
)

// outcome is what one hit brought.
type outcome struct {
	slept  time.Duration
	failed bool
}

// outcomes hits a point so often, from a seed, in virtual time.
func outcomes(t *testing.T, p faultpoint.Point, seed uint64, n int, only ...faultpoint.Point) (all []outcome) {
	t.Helper()
	synctest.Test(t, func(*testing.T) {
		faultpoint.Seed(seed, only...)
		for range n {
			start := time.Now()
			failed := faultpoint.Fails(p)
			all = append(all, outcome{time.Since(start), failed})
		}
	})
	return all
}

func TestOutcomesComeFromTheSeed(t *testing.T) {
	defer faultpoint.Seed(0)
	first := outcomes(t, faultpoint.StreamAttach, 1, 500)
	require.Equal(t, first, outcomes(t, faultpoint.StreamAttach, 1, 500))
	require.NotEqual(t, first, outcomes(t, faultpoint.StreamAttach, 2, 500))
	require.NotEqual(t, first, outcomes(t, faultpoint.StreamOpened, 1, 500))
}

func TestOutcomesOfEachPoint(t *testing.T) {
	defer faultpoint.Seed(0)
	for i, spec := range faultpoint.Table() {
		slept, failed, nothing, longest := 0, 0, 0, time.Duration(0)
		for _, o := range outcomes(t, faultpoint.Point(i), 7, 5000) {
			longest = max(longest, o.slept)
			switch {
			case o.failed:
				failed++
			case o.slept > 0:
				slept++
			default:
				nothing++
			}
		}
		require.Equal(t, spec.Waits, slept > 0, spec.Name)
		require.Equal(t, spec.Fails, failed > 0, spec.Name)
		require.Greater(t, nothing, 3*(slept+failed), "%s: mostly nothing", spec.Name)
		most := faultpoint.MaxSleep
		if spec.Often {
			most /= faultpoint.OftenShorter
		}
		require.LessOrEqual(t, longest, most)
		require.Equal(t, spec.Waits, longest > most/10, spec.Name)
		require.EqualValues(t, 5000, faultpoint.Hits()[spec.Name])
		require.GreaterOrEqual(t, faultpoint.Faults()[spec.Name], uint64(slept+failed))
		require.Len(t, faultpoint.Hits(), len(faultpoint.Table()))
	}
}

func TestSeed(t *testing.T) {
	defer faultpoint.Seed(0)
	require.NotContains(t, outcomes(t, faultpoint.StreamAttach, 0, 500), outcome{failed: true})
	require.EqualValues(t, 500, faultpoint.Hits()["stream-attach"])
	require.Zero(t, faultpoint.Faults()["stream-attach"])
	require.Contains(t, outcomes(t, faultpoint.StreamAttach, 1, 500, faultpoint.StreamAttach), outcome{failed: true})
	require.NotContains(t, outcomes(t, faultpoint.StreamAttach, 1, 500, faultpoint.StreamOpened), outcome{failed: true})
}

func TestTorn(t *testing.T) {
	defer faultpoint.Seed(0)
	faultpoint.Seed(1)
	whole, torn := 0, 0
	for range 300 {
		switch b := faultpoint.Torn(faultpoint.TLSFileRead, []byte("certificate")); {
		case len(b) == 11:
			whole++
		default:
			require.Equal(t, "certificate"[:len(b)], string(b))
			torn++
		}
	}
	require.NotZero(t, torn)
	require.Greater(t, whole, torn)
	require.Empty(t, faultpoint.Torn(faultpoint.TLSFileRead, nil))
}
