package fair

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestMayHoldSoonAsLate: the answer for a queue that is less than half full is that for any other, for small limits and for the largest.
func TestMayHoldSoonAsLate(t *testing.T) {
	same := func(own, more, limit, left int64) {
		require.Equal(t, mayHoldOf(own, more, limit, left), mayHold(own, more, limit, left), "%d and %d more of %d, of which %d are left", own, more, limit, left)
	}
	for limit := range int64(40) {
		for left := range limit + 1 {
			for own := range limit - left + 1 {
				for more := range limit + 2 {
					same(own, more, limit, left)
				}
			}
		}
	}
	for range 100_000 {
		limit := rand.Int64N(math.MaxInt64/4) >> rand.IntN(60)
		left := rand.Int64N(limit + 1)
		own := rand.Int64N(limit - left + 1)
		same(own, rand.Int64N(limit+2), limit, left)
		same(own, limit/2-own, limit, left)
		same(own, limit/2-own+1, limit, left)
	}
}
