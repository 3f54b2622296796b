package bubble_test

import (
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp/internal/bubble"
	"github.com/seed-4d73690b/rafthttp/internal/closeconn"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
)

// limit is how long a bubble may stand still in these tests.
const limit = 200 * time.Millisecond

// sleepy is a connection of an application whose Close sleeps, in the bubble's time, with a lock.
type sleepy struct {
	net.Conn
	mu     sync.Mutex
	locked chan struct{} // closed when it sleeps
}

func (s *sleepy) Close() error {
	s.mu.Lock()
	close(s.locked)
	time.Sleep(time.Minute)
	return nil
}

func (s *sleepy) SetDeadline(time.Time) error { return nil }

func (s *sleepy) use() {
	s.mu.Lock()
	defer s.mu.Unlock()
}

func idles(free chan struct{}) { <-free }

// standStill has a bubble stand still until somebody unlocks s.mu.
func standStill(s *sleepy) {
	s.locked = make(chan struct{})
	var wg sync.WaitGroup
	free := make(chan struct{})
	wg.Go(func() { idles(free) })
	wg.Go(func() { closeconn.Close(s) }) // the library calls the application
	<-s.locked
	for range 3 {
		wg.Go(s.use)
	}
	wg.Go(func() { s.use(); close(free) })
	wg.Wait()
	time.Sleep(2 * time.Minute) // the sleeper's, too
}

const processVariable = "RAFTHTTP_TEST_STANDSTILL"

// TestStandstillProcess is the process of TestStandstillEndsTheProcess.
func TestStandstillProcess(t *testing.T) {
	if os.Getenv(processVariable) == "" {
		t.Skip("only for TestStandstillEndsTheProcess")
	}
	bubble.Within(t, limit, bubble.End, func(*testing.T) { standStill(&sleepy{}) })
}

// TestStandstillEndsTheProcess: nothing can be done for a bubble that stands still but to say why.
func TestStandstillEndsTheProcess(t *testing.T) {
	cmd := exec.Command(os.Args[0], "-test.run", "^TestStandstillProcess$", "-test.timeout", "1m")
	cmd.Env = append(os.Environ(), processVariable+"=1")
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit, "%s", out)
	require.Contains(t, string(out), "panic: TestStandstillProcess: its bubble stands still: for 200ms")
	require.Contains(t, string(out), "(*sleepy).use")
	require.NotContains(t, string(out), "test timed out")
}

// requireOrder requires that text has the parts one after the other.
func requireOrder(t *testing.T, text string, parts ...string) {
	t.Helper()
	rest := text
	for _, part := range parts {
		_, after, found := strings.Cut(rest, part)
		require.True(t, found, "no %q where it belongs in:\n%s", part, text)
		rest = after
	}
}

// TestStandstillReport: those that wait for the lock come first, and then the callback that has it.
func TestStandstillReport(t *testing.T) {
	s := &sleepy{}
	reports := make(chan string, 1)
	bubble.Within(t, limit, func(report string) {
		reports <- report
		s.mu.Unlock() // in place of the sleeper, so that the bubble ends
	}, func(*testing.T) { standStill(s) })
	report := <-reports
	requireOrder(t, report,
		"TestStandstillReport: its bubble stands still", "200ms of real time",
		"=== 4 wait for a lock", "(*sleepy).use",
		"=== 1 wait in a callback", "1 x [sleep (durable)]", "(*sleepy).Close", "closeconn.",
		"wait elsewhere", "idles",
	)
	require.Contains(t, report, "3 x [sync.Mutex.Lock]")
	require.Contains(t, report, "1 x [sync.Mutex.Lock]")
}

// never fails a test whose bubble is taken for one that stands still.
func never(t *testing.T) func(string) {
	return func(report string) { t.Error(report) }
}

// after returns what becomes true when so much real time has passed. It is called outside of bubbles.
func after(t *testing.T, d time.Duration) *atomic.Bool {
	passed := new(atomic.Bool)
	timer := time.AfterFunc(d, func() { passed.Store(true) })
	t.Cleanup(func() { timer.Stop() })
	return passed
}

// TestNoStandstill: bubbles that take longer than the limit, and are at work.
func TestNoStandstill(t *testing.T) {
	for name, work := range map[string]func(passed *atomic.Bool){
		"computes, its time stands still": func(passed *atomic.Bool) {
			for !passed.Load() {
				_ = strings.Repeat("x", 1000)
			}
		},
		"computes while others wait for its lock": func(passed *atomic.Bool) {
			var mu sync.Mutex
			var wg sync.WaitGroup
			mu.Lock()
			wg.Go(func() { mu.Lock(); defer mu.Unlock() })
			for !passed.Load() {
				_ = strings.Repeat("x", 1000)
			}
			mu.Unlock()
			wg.Wait()
		},
		"its time moves": func(passed *atomic.Bool) {
			var wg sync.WaitGroup
			free := make(chan struct{})
			wg.Go(func() { idles(free) })
			for !passed.Load() {
				time.Sleep(time.Second)
			}
			close(free)
			wg.Wait()
		},
		"is in system calls": func(passed *atomic.Bool) {
			for !passed.Load() {
				_, _ = os.Stat("/")
			}
		},
		"others go on": func(passed *atomic.Bool) {
			turns := make(chan int)
			var wg sync.WaitGroup
			wg.Go(func() {
				for range turns {
				}
			})
			for !passed.Load() {
				turns <- 1
			}
			close(turns)
			wg.Wait()
		},
	} {
		t.Run(name, func(t *testing.T) {
			passed := after(t, 4*limit)
			bubble.Within(t, limit, never(t), func(*testing.T) { work(passed) })
		})
	}
}

// TestNoStandstillWithoutAProcessor: goroutines of a busy machine that could run, and do not get to it, are at work.
func TestNoStandstillWithoutAProcessor(t *testing.T) {
	passed := after(t, 4*limit)
	var wg sync.WaitGroup
	for range 100 { // that want the processors
		wg.Go(func() {
			for !passed.Load() {
				_ = strings.Repeat("x", 1000)
			}
		})
	}
	bubble.Within(t, limit, never(t), func(*testing.T) {
		for !passed.Load() {
			time.Sleep(time.Second)
		}
	})
	wg.Wait()
}

// TestEndsOfTests: however a test ends, its watchdog does as well, which goleak sees.
func TestEndsOfTests(t *testing.T) {
	t.Run("skipped", func(t *testing.T) {
		bubble.Test(t, func(t *testing.T) { t.SkipNow() })
	})
	t.Run("returns", func(t *testing.T) { bubble.Test(t, func(*testing.T) {}) })
}

// TestHeapWithoutTheWatchdog: what tests measure of the heap does not depend on whether a watchdog looks.
func TestHeapWithoutTheWatchdog(t *testing.T) {
	bubble.Within(t, limit/10, bubble.End, func(t *testing.T) {
		least, most := testmember.HeapBytes(), int64(0)
		for range 100 {
			heap := testmember.HeapBytes()
			least, most = min(least, heap), max(most, heap)
		}
		require.Less(t, most-least, int64(1<<19))
	})
}
