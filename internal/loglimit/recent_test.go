package loglimit

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// TestRecent: one line in each interval for each key, and 64 for all.
func TestRecent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r Recent[int]
		lines := 0
		for key := range 2 * maxRefusals {
			if r.First(key) {
				lines++
			}
			require.False(t, r.First(key))
		}
		require.Equal(t, maxRefusals, lines)
		time.Sleep(Interval)
		require.True(t, r.First(0))
		require.True(t, r.First(maxRefusals))
	})
}
