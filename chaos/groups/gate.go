package groups

import (
	"context"
	"sync"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/internal/queue"
)

// gate blocks Process for messages of one kind.
type gate struct {
	mu   sync.Mutex
	kind queue.Kind
	open chan struct{} // nil: nothing is blocked
}

// shut blocks messages of a kind until the returned function is called.
func (g *gate) shut(k queue.Kind) (open func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.open != nil {
		return func() {}
	}
	c := make(chan struct{})
	g.kind, g.open = k, c
	return func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		close(c)
		g.open = nil
	}
}

// pass waits while messages like m are blocked.
func (g *gate) pass(ctx context.Context, m *raftpb.Message) error {
	g.mu.Lock()
	c := g.open
	if g.kind != queue.KindOf(m.GetType()) {
		c = nil
	}
	g.mu.Unlock()
	if c == nil {
		return nil
	}
	select {
	case <-c:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
