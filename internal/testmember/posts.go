package testmember

import (
	"context"
	"io"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/memnet"
)

// HoldingRaft is a Raft whose Process holds messages until they are released.
type HoldingRaft struct {
	Recorder
	hold func(m *raftpb.Message) bool

	mu      sync.Mutex
	calls   []*raftpb.Message // those that have begun
	running int
	Release chan struct{}
}

// Process holds the message, if it is one of those to hold.
func (h *HoldingRaft) Process(ctx context.Context, m *raftpb.Message) error {
	h.mu.Lock()
	h.calls = append(h.calls, m)
	h.running++
	h.mu.Unlock()
	defer func() {
		*m = raftpb.Message{} // it is raft's, which may do with it what it likes
		h.mu.Lock()
		h.running--
		h.mu.Unlock()
	}()
	if !h.hold(m) {
		return nil
	}
	select {
	case <-h.Release:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Begun returns how many messages Process was given, and how many it has.
func (h *HoldingRaft) Begun() (calls, running int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.calls), h.running
}

// NewHoldingRaft returns a HoldingRaft for the messages for which hold is true.
func NewHoldingRaft(hold func(m *raftpb.Message) bool) *HoldingRaft {
	return &HoldingRaft{hold: hold, Release: make(chan struct{})}
}

// Posts are requests that are under way.
type Posts struct {
	T     *testing.T
	M     *rafthttp.Transport
	Codes chan int
	N     int
}

// Post sends a message in a POST.
func (p *Posts) Post(h http.Header, m *raftpb.Message) {
	p.Send("/raft", h, PostBody(p.T, m))
}

// Send sends a request, and waits until nothing else happens in the bubble.
func (p *Posts) Send(path string, h http.Header, body io.Reader) {
	p.N++
	go func() { p.Codes <- Ask(p.T, p.M, "POST", path, h, body).Code }()
	synctest.Wait()
}

// All returns how many answers there were, by status, once all requests were answered.
func (p *Posts) All() map[int]int {
	n := map[int]int{}
	for range p.N {
		n[<-p.Codes]++
	}
	p.N = 0
	return n
}

// OnHolding starts member 1 with a Raft that holds messages.
func OnHolding(t *testing.T, n *memnet.Network, h *HoldingRaft, tune func(*rafthttp.Transport)) (*Member, *Posts) {
	t.Helper()
	a := StartSimulated(t, n, 1, Tuned(Receives(SavesAll), func(tr *rafthttp.Transport) { tr.Raft = h }, tune))
	return a, &Posts{T: t, M: a.Transport, Codes: make(chan int)}
}
