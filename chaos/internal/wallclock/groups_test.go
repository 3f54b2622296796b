package wallclock_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// tries is how often a step is made: a machine under load may lose messages whatever the clock does.
const tries = 4

// groupsResult is Result of stepgroups.
type groupsResult struct {
	Sent, Processed, Unreachable int64
	Connects                     uint64
	Finished, Failed             int64
	Blocked, Oldest              time.Duration
}

// TestGroupsWhileTheClockIsSet: raft groups do not notice steps of the time of day, in either direction: no message is lost, no stream
// ends, a snapshot goes on, and what is said of times that have passed is right.
func TestGroupsWhileTheClockIsSet(t *testing.T) {
	clock, pid, in, scanner := start(t, "./stepgroups")
	began := time.Now()
	next := func() {
		t.Helper()
		_, err := in.Write([]byte("go\n"))
		require.NoError(t, err)
		require.True(t, scanner.Scan())
	}
	step := func(first, second time.Duration) (r groupsResult) {
		t.Helper()
		require.NoError(t, clock.Set(pid, first))
		next()
		require.Equal(t, "middle", scanner.Text())
		require.NoError(t, clock.Set(pid, second))
		next()
		require.NoError(t, json.Unmarshal(scanner.Bytes(), &r))
		return r
	}
	connects := step(0, 0).Connects
	for _, steps := range [][2]time.Duration{{36 * time.Hour, -36 * time.Hour}, {-90 * time.Second, 90 * time.Second}} {
		var r groupsResult
		for range tries {
			r = step(steps[0], steps[1])
			clean := r.Processed == r.Sent && r.Unreachable == 0 && r.Connects == connects && r.Finished == 1
			if connects = r.Connects; clean {
				break
			}
		}
		require.Equal(t, r.Sent, r.Processed, "%+v", r)
		require.Zero(t, r.Unreachable, "%+v", r)
		require.EqualValues(t, 1, r.Finished, "%+v", r)
		age := time.Since(began)
		require.Positive(t, r.Blocked, "%+v", r)
		require.LessOrEqual(t, r.Blocked, age+time.Minute, "%+v", r)
		require.LessOrEqual(t, r.Oldest, age+time.Minute, "%+v", r)
	}
}
