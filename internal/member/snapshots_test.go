package member

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestSnapshotBackoffTakesNoTime: however many snapshots have failed in a row, the next time is computed at once, and grows to its
// bound.
func TestSnapshotBackoffTakesNoTime(t *testing.T) {
	require.Zero(t, snapshotBackoff(0, math.MaxInt))
	require.Equal(t, time.Minute, snapshotBackoff(1, math.MaxInt))
	require.Equal(t, time.Minute, snapshotBackoff(time.Second, math.MaxInt))
	require.Equal(t, time.Hour, snapshotBackoff(time.Hour, math.MaxInt))
	require.Equal(t, 4*time.Second, snapshotBackoff(time.Second, 3))
}
