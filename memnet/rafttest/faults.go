package rafttest

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/memnet"
)

// swapPatience is how long a message waits for the next one, to be processed after it.
const swapPatience = time.Second

// Faults loses, duplicates, delays and reorders messages between transports and the Raft they deliver to. All methods
// may be called concurrently.
type Faults struct {
	seed uint64
	net  *memnet.Network // records events; may be nil

	mu    sync.Mutex
	rules []*Rule
	rands map[[2]uint64]*rand.Rand // by sender and receiver, so that traffic elsewhere does not change the events
}

// NewFaults returns Faults without rules, which do nothing. Events are added to the transcript of the network, if it
// is not nil.
func NewFaults(seed uint64, n *memnet.Network) *Faults {
	return &Faults{seed: seed, net: n, rands: make(map[[2]uint64]*rand.Rand)}
}

// Apply adds a rule for messages that arrive from now on, until undo is called. If several rules match a
// message, all are applied.
func (f *Faults) Apply(r Rule) (undo func()) {
	rule := &r
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rules = append(f.rules, rule)
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		for i := range f.rules {
			if f.rules[i] == rule {
				f.rules = append(f.rules[:i:i], f.rules[i+1:]...)
				return
			}
		}
	}
}

// judge returns the fate of a message that reached a member.
func (f *Faults) judge(m *raftpb.Message, to uint64) fate {
	f.mu.Lock()
	rules := f.rules
	f.mu.Unlock()
	var matching []*Rule
	for _, r := range rules {
		if r.matches(m, to) {
			matching = append(matching, r)
		}
	}
	if len(matching) == 0 {
		return fate{}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	key := [2]uint64{m.GetFrom(), to}
	if f.rands[key] == nil {
		f.rands[key] = rand.New(rand.NewPCG(f.seed, m.GetFrom()<<32^to))
	}
	return decide(matching, f.rands[key])
}

func (f *Faults) note(m *raftpb.Message, what string) {
	if f.net != nil {
		f.net.Note("message %s %s", raft.DescribeMessage(m, func([]byte) string { return "…" }), what)
	}
}

// Wrap returns a Raft for the transport of a member, in front of r. Close it after the transport was stopped and
// before r is.
func (f *Faults) Wrap(id uint64, r rafthttp.Raft) *Raft {
	w := &Raft{Raft: r, faults: f, id: id, swapped: make(map[uint64]*raftpb.Message)}
	w.ctx, w.cancel = context.WithCancel(context.Background())
	return w
}

// Raft passes messages to another Raft, subject to [Faults]. [Faults.Wrap] makes it.
type Raft struct {
	rafthttp.Raft
	faults *Faults
	id     uint64
	ctx    context.Context // ends with Close
	cancel context.CancelFunc

	mu      sync.Mutex
	closed  bool
	swapped map[uint64]*raftpb.Message // by sender: waits for the next
	wg      sync.WaitGroup             // messages held back
}

// Process implements rafthttp.Raft. A lost or delayed message is not an error.
func (r *Raft) Process(ctx context.Context, m *raftpb.Message) error {
	from := m.GetFrom() // the Raft owns m once it was processed
	f := r.faults.judge(m, r.id)
	if f.lost {
		r.faults.note(m, "is lost")
		return nil
	}
	if len(f.delays) == 0 {
		return r.now(ctx, m, from)
	}
	var copies []*raftpb.Message // delivered at once
	for _, d := range f.delays[1:] {
		r.faults.note(m, "is doubled")
		double := proto.CloneOf(m)
		if d > 0 {
			r.later(double, d, nil)
		} else {
			copies = append(copies, double)
		}
	}
	var err error
	switch {
	case f.delays[0] > 0:
		r.later(m, f.delays[0], nil)
	case f.swapped && r.swap(m, from):
		r.faults.note(m, "waits for the next")
	default:
		err = r.now(ctx, m, from)
	}
	for _, double := range copies {
		_ = r.now(ctx, double, from)
	}
	return err
}

// now processes m, and the message that waited for it.
func (r *Raft) now(ctx context.Context, m *raftpb.Message, from uint64) error {
	err := r.Raft.Process(ctx, m)
	if before := r.take(from, nil); before != nil {
		_ = r.Raft.Process(ctx, before) // its sender no longer waits for the answer
	}
	return err
}

// swap makes m wait for the next message, unless one does already.
func (r *Raft) swap(m *raftpb.Message, from uint64) bool {
	r.mu.Lock()
	if r.swapped[from] != nil {
		r.mu.Unlock()
		return false
	}
	r.swapped[from] = m
	r.mu.Unlock()
	r.later(m, swapPatience, func() bool { return r.take(from, m) == m })
	return true
}

// take returns the message that waits for the next one of a member, if it is m or m is nil.
func (r *Raft) take(from uint64, m *raftpb.Message) *raftpb.Message {
	r.mu.Lock()
	defer r.mu.Unlock()
	waits := r.swapped[from]
	if m != nil && waits != m {
		return nil
	}
	delete(r.swapped, from)
	return waits
}

// later processes m after a time, if still returns true then, or is nil.
func (r *Raft) later(m *raftpb.Message, d time.Duration, still func() bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return
	}
	r.wg.Go(func() {
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-r.ctx.Done():
			return
		}
		if still == nil || still() {
			_ = r.Raft.Process(r.ctx, m)
		}
	})
}

// Close drops the messages held back, and returns when they can no longer cause calls of the Raft behind.
func (r *Raft) Close() {
	r.mu.Lock()
	r.closed = true
	clear(r.swapped)
	r.mu.Unlock()
	r.cancel()
	r.wg.Wait()
}
