package rafthttp

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.uber.org/zap"

	"github.com/seed-4d73690b/rafthttp/internal/callback"
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
	named := w.engine.cfg.guard.Calls.List()
	for _, c := range named {
		all = append(all, callback.Call{Name: c.Name, Peer: c.Peer}.String())
	}
	slowProcess := func(id types.ID, k queue.Kind) bool {
		return slices.ContainsFunc(named, func(c callback.Call) bool {
			return c.Name == callback.ObserverSlowProcess && c.Peer == id && queue.KindOf(c.Type) == k
		})
	}
	receiving := func(rs receivers) {
		for k, r := range rs {
			if r == nil {
				continue // of a guest, which has lanes of some kinds only
			}
			if r.lane.holds() && !slowProcess(r.member.remoteID, queue.Kind(k)) {
				all = append(all, callback.Call{Name: callback.RaftProcess, Lane: r.lane.name, Peer: r.member.remoteID}.String())
			}
			if r.lane.told.Load() > 0 {
				all = append(all, callback.Call{Name: "Observer.Received", Lane: r.lane.name, Peer: r.member.remoteID}.String())
			}
		}
	}
	sending := func(id types.ID, lanes ...*lane) {
		for _, ln := range lanes {
			if ln.told.Load() > 0 {
				all = append(all, callback.Call{Name: "Observer.Sent", Lane: ln.name, Peer: id}.String())
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
