package callback_test

import (
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp/internal/callback"
)

// TestProgressIsBounded: while a hook is blocked, the progress of 64 transfers waits at most, the last state of each.
func TestProgressIsBounded(t *testing.T) {
	entered, blocked := make(chan struct{}), make(chan struct{})
	e := callback.NewEvents(2, callback.EventHooks{})
	e.Progress(new(int), func() { close(entered); <-blocked })
	<-entered
	var calls, last atomic.Int32
	for range 1000 {
		transfer := new(int)
		e.Progress(transfer, func() { t.Error("a state that was replaced") })
		e.Progress(transfer, func() { calls.Add(1) })
	}
	e.TransferEnded(func() { last.Store(calls.Load()) })
	close(blocked)
	e.Close()
	require.EqualValues(t, 64, calls.Load())
	require.EqualValues(t, 64, last.Load(), "the end of a transfer came before its progress")
}
