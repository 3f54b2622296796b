package bubble

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-4d73690b/rafthttp/internal/stacks"
)

const (
	// patience is how long a bubble may make no progress.
	patience = 15 * time.Second
	// looks is the number of checks in that time.
	looks = 5
)

// watchdog fails a bubble without progress, in real time.
//
// A bubble's time moves only when all its goroutines wait durably: for each other, or for its time. A goroutine that
// waits for a sync.Mutex does not. If the owner of the mutex sleeps, or waits for a goroutine that sleeps, nothing
// moves any more, and package synctest does not notice.
//
// Elapsed real time is no proof: a busy machine may run none of the goroutines for long, and a bubble may compute for
// long at one moment of its time. So a bubble makes no progress while each of its goroutines is blocked, and in the
// same calls as before. One that runs, or could run, or is in a system call, is progress; so is every move of the
// bubble's time, since a goroutine of the bubble runs then. While a goroutine allocates, the runtime may show it
// without its bubble, so one that runs and is in no bubble is progress as well.
type watchdog struct {
	test   string
	limit  time.Duration
	fail   func(report string)
	bubble atomic.Pointer[string] // its number; nil until it begins
	quit   chan struct{}
	done   chan struct{}
}

// looking is held while a watchdog looks, for which it takes a mebibyte.
var looking sync.Mutex

// Unwatched calls f while no watchdog looks, for measuring the memory of the process.
func Unwatched(f func()) {
	looking.Lock()
	defer looking.Unlock()
	f()
}

// watch starts to watch the bubble of a test. The caller stops it when the bubble has ended.
func watch(test string, limit time.Duration, fail func(report string)) *watchdog {
	w := &watchdog{test: test, limit: limit, fail: fail, quit: make(chan struct{}), done: make(chan struct{})}
	go w.run()
	return w
}

// enter records the bubble. It is called in the bubble.
func (w *watchdog) enter() {
	number := stacks.Self().Bubble
	w.bubble.Store(&number)
}

func (w *watchdog) stop() {
	close(w.quit)
	<-w.done
}

func (w *watchdog) run() {
	defer close(w.done)
	tick := time.NewTicker(w.limit / looks)
	defer tick.Stop()
	var last string
	still := 0 // number of checks without a change
	for {
		select {
		case <-tick.C:
		case <-w.quit:
			return
		}
		all, running := w.look()
		now := fingerprint(all)
		if running || now != last {
			last, still = now, 0
			continue
		}
		if still++; still >= looks {
			w.fail(w.report(all))
			return
		}
	}
}

// look returns the goroutines of the bubble, and whether one of them runs, or could.
func (w *watchdog) look() (all []stacks.Goroutine, running bool) {
	looking.Lock()
	defer looking.Unlock()
	number := w.bubble.Load()
	if number == nil {
		return nil, true // it has not begun
	}
	for i, g := range stacks.All() {
		switch {
		case g.Bubble == *number:
			all = append(all, g)
			running = running || !isBlocked(g)
		case g.Bubble == "" && i > 0: // the first one is the watchdog
			running = running || !isBlocked(g) && g.State != "syscall"
		}
	}
	return all, running
}

// blocked are the states of goroutines that another goroutine has to wake. Others run, or will.
var blocked = []string{
	"chan receive", "chan send", "select", "sleep", "semacquire", "IO wait", "coroutine",
	"sync.Cond.Wait", "sync.Mutex.Lock", "sync.RWMutex.Lock", "sync.RWMutex.RLock", "sync.WaitGroup.Wait",
	"synctest.Run", "synctest.Wait",
}

func isBlocked(g stacks.Goroutine) bool {
	state, _, _ := strings.Cut(g.State, " (") // durable, nil chan, no cases
	return slices.Contains(blocked, state)
}

// fingerprint identifies the states and calls of the goroutines of a bubble.
func fingerprint(all []stacks.Goroutine) string {
	var b strings.Builder
	for _, g := range all {
		fmt.Fprintf(&b, "%s %s\n%s\n", g.ID, g.State, g.Frames)
	}
	return b.String()
}

// report shows the waiting goroutines: for locks first, then in callbacks.
func (w *watchdog) report(all []stacks.Goroutine) string {
	var locks, callbacks, others []stacks.Goroutine
	for _, g := range all {
		switch {
		case waitsForLock(g):
			locks = append(locks, g)
		case isInCallback(g):
			callbacks = append(callbacks, g)
		default:
			others = append(others, g)
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s: its bubble stands still: for %v of real time no goroutine ran, nor moved the bubble's time\n", w.test, w.limit)
	section(&b, "wait for a lock", locks)
	section(&b, "wait in a callback", callbacks)
	section(&b, "wait elsewhere", others)
	return b.String()
}

func waitsForLock(g stacks.Goroutine) bool {
	return strings.HasPrefix(g.State, "sync.Mutex.") || strings.HasPrefix(g.State, "sync.RWMutex.") || g.State == "semacquire"
}

// section lists goroutines with the same state and calls only once.
func section(b *strings.Builder, title string, all []stacks.Goroutine) {
	if len(all) == 0 {
		return
	}
	fmt.Fprintf(b, "\n=== %d %s\n", len(all), title)
	groups := make(map[string]int)
	for _, g := range all {
		groups[alike(g)]++
	}
	for _, g := range all {
		if n := groups[alike(g)]; n > 0 {
			fmt.Fprintf(b, "\n%d x [%s], such as goroutine %s\n%s\n", n, g.State, g.ID, g.Frames)
			groups[alike(g)] = 0
		}
	}
}

// alike returns the common part of goroutines that do the same: state, and calls without their arguments.
func alike(g stacks.Goroutine) string {
	var b strings.Builder
	b.WriteString(g.State)
	for _, c := range calls(g) {
		fmt.Fprintf(&b, "\n%s %s", c.function, c.at)
	}
	return b.String()
}
