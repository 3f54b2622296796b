package stream

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp/internal/wire"
)

// TestRefusalsTakeTurns: if there are more than are sent in an interval, those that were not come first in the next ones.
func TestRefusalsTakeTurns(t *testing.T) {
	for _, n := range []uint64{10, maxGroupRefusals, 600, maxTurnRefusals + 600} {
		var s refusals
		told := map[uint64]int{}
		rounds := 2 * int((n+maxGroupRefusals-1)/maxGroupRefusals)
		for range rounds {
			for range 2 { // the same again
				for group := range n {
					s.add(wire.GroupRefusal{Group: group})
				}
			}
			all := s.take()
			require.LessOrEqual(t, len(all), maxGroupRefusals)
			for _, r := range all {
				told[r.Group]++
			}
			s.reset()
		}
		require.GreaterOrEqual(t, len(told), int(min(n, maxTurnRefusals)))
		for group, times := range told {
			require.LessOrEqual(t, times, rounds, group)
		}
	}
}

// TestRefusalsThatWait: those that were not sent go on waiting, and others come after them.
func TestRefusalsThatWait(t *testing.T) {
	var s refusals
	for range 3 {
		for group := range uint64(600) {
			s.add(wire.GroupRefusal{Group: group})
		}
		s.reset()
	}
	all := s.take()
	require.Len(t, all, maxGroupRefusals)
	require.EqualValues(t, maxGroupRefusals-1, all[maxGroupRefusals-1].Group)
	require.False(t, s.add(wire.GroupRefusal{Group: 1}))
	require.False(t, s.add(wire.GroupRefusal{Group: 599}))
	s.reset()
	require.True(t, s.add(wire.GroupRefusal{Group: 599}))
	require.False(t, s.add(wire.GroupRefusal{Group: 1}), "it was sent in this turn")
}
