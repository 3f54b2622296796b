package conn

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestTimeOfALargePost: the time that a body may take does not overflow with its
// size.
func TestTimeOfALargePost(t *testing.T) {
	const mib = 1 << 20
	before := time.Duration(0)
	for size := uint64(mib); size < 1<<47; size *= 4 {
		got := TimeForBody(size)
		require.Greater(t, got, before)
		require.InEpsilon(t, float64(size)/(16<<10), got.Seconds(), 1e-3)
		before = got
	}
}
