package memnet_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp/internal/bubble"
	"github.com/seed-4d73690b/rafthttp/memnet"
)

// fakeTB is a test of which the test decides how it ends.
type fakeTB struct {
	testing.TB
	failed   bool
	logged   string
	cleanups []func()
}

func (f *fakeTB) Helper()                           {}
func (f *fakeTB) Cleanup(c func())                  { f.cleanups = append(f.cleanups, c) }
func (f *fakeTB) Failed() bool                      { return f.failed }
func (f *fakeTB) Logf(format string, args ...any)   { f.logged += fmt.Sprintf(format, args...) }
func (f *fakeTB) Errorf(format string, args ...any) { f.failed = true; f.Logf(format, args...) }

func (f *fakeTB) end() {
	for i := range f.cleanups {
		f.cleanups[len(f.cleanups)-1-i]()
	}
}

func TestTranscriptOfAFailure(t *testing.T) {
	for _, failed := range []bool{false, true} {
		bubble.Test(t, func(t *testing.T) {
			tb := &fakeTB{failed: failed}
			n := memnet.New(memnet.WithSeed(42), memnet.WithTranscript(tb))
			a, _ := connect(t, n)
			n.Link("a", "b").SetDelay(time.Second)
			time.Sleep(1500 * time.Millisecond)
			n.Partition([]string{"a"}, []string{"b"})
			n.Note("the test's own %d", 7)
			n.Heal()
			n.Reset("a", "b")
			n.Host("b").Crash()
			n.Host("b").PowerLoss()
			require.NoError(t, a.Close())
			tb.end()
			if !failed {
				require.Empty(t, tb.logged)
				return
			}
			require.Equal(t, `what happened on the network, seed 42:
    0.000000s  a:32768 connects to b:80
    0.000000s  a to b: delay 1s
    1.500000s  partition [[a] [b]]
    1.500000s  the test's own 7
    1.500000s  heal
    1.500000s  reset the connections between a and b
    1.500000s  a:32768: its connection with b:80 is reset
    1.500000s  b:80: its connection with a:32768 is reset
    1.500000s  b crashes
    1.500000s  b:80 closes its connection with a:32768
    1.500000s  b loses power
    1.500000s  a:32768 closes its connection with b:80
`, tb.logged)
		})
	}
}

func TestTranscriptKeepsTheLastEvents(t *testing.T) {
	n := memnet.New(memnet.WithTranscript(t))
	for i := range 2003 {
		n.Note("event %d", i)
	}
	lines := strings.Split(n.Transcript(), "\n")
	require.Len(t, lines, 2002, "the events, a line before, and nothing behind the last")
	require.Equal(t, "(3 events before these are not kept)", lines[0])
	require.True(t, strings.HasSuffix(lines[1], "  event 3"), lines[1])
	require.True(t, strings.HasSuffix(lines[2000], "  event 2002"), lines[2000])
	without := memnet.New()
	without.Note("to nobody")
	require.Empty(t, without.Transcript())
}

// waits is what the stack of a goroutine shows.
func waits(c chan struct{}) { <-c }

func TestCheckGoroutines(t *testing.T) {
	check := func(t *testing.T) {
		stop, before := make(chan struct{}), make(chan struct{})
		go waits(before)
		defer close(before)
		tb := &fakeTB{}
		memnet.CheckGoroutines(tb)
		go waits(stop)
		go time.Sleep(time.Millisecond) // ends by itself
		tb.Cleanup(func() { close(stop) })
		tb.end()
		require.False(t, tb.failed, tb.logged)
	}
	t.Run("in real time", check)
	t.Run("in a bubble", func(t *testing.T) { bubble.Test(t, check) })

	bubble.Test(t, func(t *testing.T) {
		tb, stop, start := &fakeTB{}, make(chan struct{}), time.Now()
		memnet.CheckGoroutines(tb)
		go waits(stop)
		tb.end()
		require.True(t, tb.failed)
		require.Contains(t, tb.logged, "1 goroutines of the test still run")
		require.Contains(t, tb.logged, "memnet_test.waits")
		require.GreaterOrEqual(t, time.Since(start), 5*time.Second)
		close(stop)
	})
}

// TestCheckGoroutinesOfABubble: those outside of it do not count.
func TestCheckGoroutinesOfABubble(t *testing.T) {
	start, started, stop := make(chan func()), make(chan struct{}), make(chan struct{})
	defer close(start)
	defer close(stop)
	go func() {
		for f := range start {
			go f()
		}
	}()
	bubble.Test(t, func(*testing.T) {
		tb := &fakeTB{}
		memnet.CheckGoroutines(tb)
		start <- func() { close(started); waits(stop) }
		<-started
		tb.end()
		require.False(t, tb.failed, tb.logged)
	})
}
