package rafthttp

import (
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.uber.org/zap"

	"github.com/seed-4d73690b/rafthttp/internal/queue"
)

const (
	// stopPatience is how long Stop waits for callbacks before it says so; then it waits
	// twice as long, and so on up to maxStopPatience.
	stopPatience    = 5 * time.Second
	maxStopPatience = time.Minute
	// maxStacks bounds what is read of the stacks of all goroutines, and maxStackBytes
	// what is logged of those in callbacks.
	maxStacks     = 8 << 20
	maxStackBytes = 16 << 10
)

// calls are the callbacks under way that Stop may have to wait for, but for those that
// are called for each message or batch: these are seen by their lanes. A nil one keeps
// nothing. It is safe for concurrent use.
type calls struct {
	mu    sync.Mutex
	last  uint64
	under map[uint64]callback
}

// underway is a callback under way.
type underway struct {
	callback
	number uint64
}

// begin is to be given to a deferred end, in place of guard.
func (c crasher) begin(in callback) underway {
	if c.calls == nil {
		return underway{callback: in}
	}
	c.calls.mu.Lock()
	defer c.calls.mu.Unlock()
	if c.calls.under == nil {
		c.calls.under = map[uint64]callback{}
	}
	c.calls.last++
	c.calls.under[c.calls.last] = in
	return underway{in, c.calls.last}
}

// end is to be deferred.
func (c crasher) end(of underway) {
	if v := recover(); v != nil {
		c.crash(of.callback, v)
	}
	if c.calls != nil {
		c.calls.mu.Lock()
		defer c.calls.mu.Unlock()
		delete(c.calls.under, of.number)
	}
}

func (c *calls) list() []callback {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Collect(maps.Values(c.under))
}

// stopWatch says in the log what a Stop waits for, if it takes long.
type stopWatch struct {
	engine  *engine
	peers   []*peer
	remotes []*remote
	quit    chan struct{}
	done    chan struct{}
}

// watchStop begins to watch a Stop, with the members that there were. It ends with end.
func (e *engine) watchStop(peers []*peer, remotes []*remote) *stopWatch {
	w := &stopWatch{e, peers, remotes, make(chan struct{}), make(chan struct{})}
	go w.run() // joined by end
	return w
}

func (w *stopWatch) end() {
	close(w.quit)
	<-w.done
}

func (w *stopWatch) run() {
	defer close(w.done)
	began, patience := time.Now(), stopPatience
	for {
		timer := time.NewTimer(patience)
		select {
		case <-timer.C:
		case <-w.quit:
			timer.Stop()
			return
		}
		w.engine.cfg.log.Warn("Stop still waits for callbacks", zap.Duration("after", time.Since(began)),
			zap.Strings("callbacks", w.waitsFor()), zap.String("goroutines", goroutinesInCallbacks()))
		patience = min(2*patience, maxStopPatience)
	}
}

// waitsFor names the callbacks that have not returned. Lanes are closed: what they hold
// is in a worker's hands.
func (w *stopWatch) waitsFor() (all []string) {
	named := w.engine.cfg.guard.calls.list()
	for _, c := range named {
		all = append(all, nameOf(c.name, "", c.peer))
	}
	slowProcess := func(id types.ID, k queue.Kind) bool {
		return slices.ContainsFunc(named, func(c callback) bool {
			return c.name == callSlowProcess && c.peer == id && queue.KindOf(c.kind) == k
		})
	}
	receiving := func(rs receivers) {
		for k, r := range rs {
			if r == nil {
				continue // of a guest, which has lanes of some kinds only
			}
			if r.lane.holds() && !slowProcess(r.member.remoteID, queue.Kind(k)) {
				all = append(all, nameOf(callRaftProcess, r.lane.name, r.member.remoteID))
			}
			if r.lane.told.Load() > 0 {
				all = append(all, nameOf("Observer.Received", r.lane.name, r.member.remoteID))
			}
		}
	}
	sending := func(id types.ID, lanes ...*lane) {
		for _, ln := range lanes {
			if ln.told.Load() > 0 {
				all = append(all, nameOf("Observer.Sent", ln.name, id))
			}
		}
	}
	for _, p := range append(w.engine.endingPeers(), w.peers...) {
		receiving(p.receivers)
		sending(p.member.remoteID, p.pipeline.lanes[:]...)
		for _, s := range p.writers {
			sending(p.member.remoteID, s.lane)
		}
	}
	for _, r := range w.remotes {
		sending(r.member.remoteID, r.pipeline.lanes[:]...)
	}
	for _, rs := range w.engine.receiveLanes.ofGuests() {
		receiving(rs)
	}
	slices.Sort(all)
	return all
}

func nameOf(call, lane string, of types.ID) string {
	if lane != "" {
		call += ", " + lane + ","
	}
	if of != 0 {
		call += fmt.Sprintf(" of %s", of)
	}
	return call
}

// goroutinesInCallbacks returns the stacks of the goroutines that are inside a callback
// of a Transport, of any in the process.
func goroutinesInCallbacks() string {
	stacks := make([]byte, 64<<10)
	n := runtime.Stack(stacks, true)
	for n == len(stacks) && n < maxStacks {
		stacks = make([]byte, 2*n)
		n = runtime.Stack(stacks, true)
	}
	var found strings.Builder
	for one := range strings.SplitSeq(string(stacks[:n]), "\n\n") {
		if inCallback(one) && found.Len() < maxStackBytes {
			fmt.Fprintf(&found, "%.*s\n\n", maxStackBytes-found.Len(), one)
		}
	}
	return strings.TrimSpace(found.String())
}

// inCallback reports whether a stack has functions of the application inside of ours:
// those of a package whose path begins with a name that has a dot, or main.
func inCallback(stack string) bool {
	const module = "github.com/seed-4d73690b/rafthttp"
	application := false
	for line := range strings.Lines(stack) { // the innermost function comes first
		if strings.HasPrefix(line, "goroutine ") || strings.HasPrefix(line, "\t") || strings.HasPrefix(line, "created by ") {
			continue
		}
		if strings.HasPrefix(line, module+".") || strings.HasPrefix(line, module+"/internal/") {
			return application
		}
		name, _, _ := strings.Cut(line, "(")
		if strings.HasPrefix(name, "golang.org/x/") || strings.HasPrefix(name, "go.uber.org/zap") {
			continue // the transport uses them, too
		}
		first, _, isPath := strings.Cut(name, "/")
		application = application || strings.HasPrefix(name, "main.") || (isPath && strings.Contains(first, "."))
	}
	return false
}
