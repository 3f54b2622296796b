package latency

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestBucketsAreThoseOfPrometheus: bucket i has what is over 2^((i-1)/4) s and up to 2^(i/4) s.
func TestBucketsAreThoseOfPrometheus(t *testing.T) {
	for d, want := range map[time.Duration]int{
		time.Second: 0, time.Second + 1: 1, 2 * time.Second: 4, 500 * time.Millisecond: -4, 500*time.Millisecond + 1: -3,
		-time.Second: lowest, 0: lowest, 1: lowest, 7 * time.Microsecond: lowest, time.Hour: highest, math.MaxInt64: highest,
	} {
		require.Equal(t, want-lowest, bucketOf(d), d)
	}
	for range 10_000 {
		d := time.Duration(math.Exp(rand.Float64()*16) * 10_000)
		i := bucketOf(d)
		if i > 0 && i < buckets-1 {
			require.Greater(t, d, upper(i-1)-1)
			require.LessOrEqual(t, d, upper(i)+1)
		}
	}
}

// TestQuantiles: to 10 %, of the last 90 s at most; sums and counts are of all.
func TestQuantiles(t *testing.T) {
	var h Histogram
	now := time.Now()
	require.Equal(t, Distribution{Buckets: map[int]uint64{}}, h.distribution(now))
	var all []time.Duration
	for range 1000 {
		d := time.Duration(math.Exp(rand.NormFloat64()) * float64(time.Millisecond))
		all = append(all, d)
		h.add(d, now)
	}
	slices.Sort(all)
	d := h.distribution(now)
	require.EqualValues(t, 1000, d.Count)
	require.InEpsilon(t, float64(all[499]), float64(d.P50), 0.11)
	require.InEpsilon(t, float64(all[989]), float64(d.P99), 0.11)
	var sum time.Duration
	for _, one := range all {
		sum += one
	}
	require.Equal(t, sum, d.Sum)

	now = now.Add(generation)
	h.add(time.Second, now)
	require.InEpsilon(t, float64(all[499]), float64(h.distribution(now).P50), 0.11, "30 s later all are recent")
	now = now.Add(generation)
	d = h.distribution(now)
	require.InEpsilon(t, float64(time.Second), float64(d.P50), 0.11, "a minute later the first are not")
	require.EqualValues(t, 1001, d.Count)
	require.Zero(t, h.distribution(now.Add(2*generation)).P50)

	h = Histogram{}
	h.add(time.Second, now)
	now = now.Add(2*generation - 1)
	h.add(time.Millisecond, now)
	require.InEpsilon(t, float64(time.Second), float64(h.distribution(now.Add(generation-1)).P99), 0.11, "90 s later, where samples are rare")
	require.InEpsilon(t, float64(time.Millisecond), float64(h.distribution(now.Add(generation)).P99), 0.11)
}
