package fair

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestRing: entries leave in order, whatever is added and removed at either end and between.
func TestRing(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var r ring[Flow]
	var want []*Flow
	for range 20000 {
		f := new(Flow)
		switch k := rng.IntN(10); {
		case k < 3:
			r.push(entry[Flow]{of: f})
			want = append(want, f)
		case k < 4:
			r.pushFront(entry[Flow]{of: f})
			want = slices.Insert(want, 0, f)
		case k < 6 && len(want) > 0:
			require.Same(t, want[0], r.pop().of)
			want = want[1:]
		case k < 8 && len(want) > 0:
			i := rng.IntN(len(want))
			e, first := r.remove(want[i])
			require.Same(t, want[i], e.of)
			require.Equal(t, i == 0, first)
			want = slices.Delete(want, i, i+1)
		case rng.IntN(50) == 0:
			r.trim()
			r.trim()
			require.LessOrEqual(t, len(r.buf), max(minRing, 2*r.len))
		}
		require.Equal(t, len(want), r.n)
		if len(want) > 0 {
			require.Same(t, want[0], r.head().of)
		}
	}
	for _, f := range want {
		require.Same(t, f, r.pop().of)
	}
	for _, e := range r.buf {
		require.Zero(t, e, "no message is kept")
	}
	r.trim()
	r.trim()
	require.Nil(t, r.buf)
}
