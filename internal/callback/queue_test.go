package callback_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp/internal/callback"
)

// TestQueue: functions are called one after another in their order, at most so many wait, and Close waits for all of them.
func TestQueue(t *testing.T) {
	const limit = 3
	q := callback.NewQueue(limit)
	entered, blocked := make(chan struct{}), make(chan struct{})
	var called []int // without a lock: one after another
	q.Add(func() { close(entered); <-blocked })
	<-entered
	for n := range 2 * limit {
		q.Add(func() { called = append(called, n) })
	}
	close(blocked)
	q.Close()
	require.Equal(t, []int{0, 1, 2}, called)
	q.Add(func() { t.Error("called after Close") })
	q.Close()
	require.Len(t, called, limit)
}
