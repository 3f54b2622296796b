package stacks_test

import (
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/seed-4d73690b/rafthttp/internal/stacks"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func sleeps()                  { time.Sleep(time.Second) }
func waits(free chan struct{}) { <-free }
func locks(mu *sync.Mutex)     { mu.Lock(); defer mu.Unlock() }

// find waits for a goroutine that is in a function of this file.
func find(t *testing.T, f, state string) stacks.Goroutine {
	t.Helper()
	for {
		for _, g := range stacks.All() {
			if strings.Contains(g.Frames, "stacks_test."+f+"(") && g.State == state {
				return g
			}
		}
	}
}

func TestGoroutines(t *testing.T) {
	free := make(chan struct{})
	defer close(free)
	go waits(free)
	outside := find(t, "waits", "chan receive")
	require.Empty(t, outside.Bubble)
	require.True(t, strings.HasPrefix(outside.Stack, "goroutine "+outside.ID+" [chan receive"), outside.Stack)
	require.True(t, strings.HasSuffix(outside.Stack, outside.Frames))

	self := stacks.Self()
	require.Equal(t, "running", self.State)
	require.Equal(t, self.ID, stacks.All()[0].ID, "the caller comes first")
	require.NotEqual(t, self.ID, outside.ID)

	synctest.Test(t, func(t *testing.T) {
		bubble := stacks.Self().Bubble
		require.NotEmpty(t, bubble)
		go sleeps()
		require.Equal(t, bubble, find(t, "sleeps", "sleep (durable)").Bubble)
		require.Empty(t, find(t, "waits", "chan receive").Bubble, "is in none")
		var mu sync.Mutex
		mu.Lock()
		go locks(&mu)
		require.Equal(t, bubble, find(t, "locks", "sync.Mutex.Lock").Bubble)
		mu.Unlock()
		time.Sleep(2 * time.Second)
	})
}

// TestInBubble: goroutines that others in the process begin and end meanwhile are not counted, nor those that
// have ended and are on their way to where the next are taken from.
func TestInBubble(t *testing.T) {
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			ended := make(chan struct{})
			for range 100 {
				go func() { ended <- struct{}{} }()
			}
			for range 100 {
				<-ended
			}
			select {
			case <-quit:
				return
			default:
			}
		}
	}()
	defer func() { <-done }()
	defer close(quit)
	synctest.Test(t, func(t *testing.T) {
		before := stacks.InBubble()
		free := make(chan struct{})
		defer close(free)
		for range 5 {
			go func() { <-free }()
		}
		for range 200 {
			require.Equal(t, before+5, stacks.InBubble())
		}
	})
}
