package scenario

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestPace takes pieces of 10 ms from an application that stalls for 2 s in every 5, and is never later than it must be.
func TestPace(t *testing.T) {
	const rate, piece = 1000, 10
	p := &pace{rate: rate, every: 5 * time.Second, stall: 2 * time.Second}
	start := time.Now()
	taken := 0.0
	for now := start; now.Sub(start) < 20*time.Second; {
		done := p.done(now, piece)
		require.False(t, done.Before(now))
		now = done
		if at := now.Sub(start) % p.every; at > p.every-p.stall {
			t.Fatalf("done while it stalls, %v into it", at)
		}
		taken += piece
		if now.Sub(start) <= 19*time.Second {
			require.InDelta(t, p.capacity(now.Sub(start)), taken, 5*piece)
		}
	}
	require.InDelta(t, 12*rate, taken, 5*piece)
	require.InDelta(t, 12*rate, p.capacity(20*time.Second), 1)
	require.InDelta(t, 3*rate, p.capacity(4*time.Second), 1)
}

// TestPaceMakesUpForLateTimers is as fast as it should be although each wait is a millisecond too long, and saves nothing
// up while nobody asks.
func TestPaceMakesUpForLateTimers(t *testing.T) {
	p := &pace{rate: 1000}
	start := time.Now()
	now := start
	taken := 0
	for ; now.Sub(start) < 10*time.Second; taken++ {
		now = later(now, p.done(now, 1).Add(time.Millisecond))
	}
	require.InDelta(t, 10_000, taken, 30)
	now = now.Add(time.Minute)
	require.Equal(t, now.Add(time.Millisecond), p.done(now, 1))
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
