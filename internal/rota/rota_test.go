package rota

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type id uint64

func membersOf(n int) map[id]*int {
	all := map[id]*int{}
	for i := range n {
		all[id(i+1)] = new(int)
	}
	return all
}

// TestEachOnceInAnInterval: every member is due once in each interval, at the same time of it, and about as many together as
// was asked for where there are slots for that.
func TestEachOnceInAnInterval(t *testing.T) {
	const interval, together = 32 * time.Second, 4
	for members, most := range map[int]int{1: 1, 3: 3, 20: 2 * together, 100: 2 * together, 1000: 1000/rotaSlots + 2*together} {
		synctest.Test(t, func(t *testing.T) {
			r, all := New[id, *int](interval, together), membersOf(members)
			last := map[*int]time.Time{}
			for begun := time.Now(); time.Since(begun) < 4*interval; {
				wait := r.Wait(all)
				require.Positive(t, wait)
				require.LessOrEqual(t, wait, interval)
				time.Sleep(wait)
				due := r.Due(all, all)
				require.NotEmpty(t, due)
				require.LessOrEqual(t, len(due), most, "of %d", members)
				for _, m := range due {
					if before, ok := last[m]; ok {
						require.Equal(t, interval, time.Since(before))
					}
					last[m] = time.Now()
				}
			}
			require.Len(t, last, members)
		})
	}
}

// TestNewMembersWait: a member that was not known at the last call, or is another one with its id, waits for its slot. With no
// member there is nothing to wake up for.
func TestNewMembersWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New[id, *int](time.Minute, 1)
		require.Equal(t, time.Minute, r.Wait(nil))
		time.Sleep(2 * time.Minute)
		known, now := membersOf(2), membersOf(3)
		now[1] = known[1]
		require.Equal(t, []*int{known[1]}, r.Due(now, known))
		require.Empty(t, r.Due(now, now), "no slot has begun since")
	})
}
