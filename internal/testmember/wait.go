package testmember

import (
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp/internal/bubble"
)

// HeapBytes returns the size of all reachable objects.
func HeapBytes() int64 {
	var m runtime.MemStats
	bubble.Unwatched(func() {
		runtime.GC()
		runtime.GC() // what finalizers and pools let go of
		runtime.ReadMemStats(&m)
	})
	return int64(m.HeapAlloc)
}

// Eventually waits for cond, in real time.
func Eventually(t testing.TB, cond func() bool) {
	t.Helper()
	require.Eventually(t, cond, 20*time.Second, time.Millisecond)
}

// Within waits for cond, inside a bubble. It sees it within a millisecond, or a thousandth of the time that it has waited.
func Within(t *testing.T, d time.Duration, cond func() bool) {
	t.Helper()
	for start := time.Now(); !cond(); {
		waited := time.Since(start)
		if waited >= d {
			require.FailNow(t, "did not happen", "within %v", d)
		}
		time.Sleep(min(max(time.Millisecond, waited/1000), d-waited))
	}
}

// Always has cond hold for d, inside a bubble. It looks a thousand times, or every 5 ms if that is less often.
func Always(t *testing.T, d time.Duration, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(d); time.Now().Before(deadline); time.Sleep(max(5*time.Millisecond, d/1000)) {
		require.True(t, cond())
	}
}

// Soon has f return in no time, inside a bubble.
func Soon(t *testing.T, f func()) {
	t.Helper()
	start, done := time.Now(), make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
		require.Zero(t, time.Since(start), "it waited")
	case <-time.After(time.Hour):
		require.FailNow(t, "it blocks")
	}
}

// SkipWithTinyBuffers skips a test that moves so much that it takes minutes a few bytes at a time.
func SkipWithTinyBuffers(t *testing.T) {
	t.Helper()
	if TinyBuffers {
		t.Skip("moves hundreds of MiB")
	}
}
