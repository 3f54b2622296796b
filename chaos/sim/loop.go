package sim

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
)

// loop is how a member runs its raft.
type loop int

const (
	loopPlain loop = iota // save, then send
	loopEarly             // the same, but a leader sends before it saves
	loopAsync             // AsyncStorageWrites
	loops                 // how many there are
)

// String implements fmt.Stringer.
func (l loop) String() string { return [loops]string{"plain", "early", "async"}[l] }

func (m *member) run() {
	defer close(m.ended)
	if m.loop == loopAsync {
		defer m.startThreads().Wait()
	}
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			m.Tick()
		case rd := <-m.Ready():
			if m.loop == loopAsync {
				m.split(rd)
			} else if m.handle(rd) {
				m.Advance()
				m.compact()
			}
		case step := <-m.nextSnapshot():
			step.result <- m.Step(m.ctx, step.msg)
		case <-m.async.idle: // nextSnapshot is not nil any more
		case err := <-m.told:
			m.hear(err)
		case <-m.ctx.Done():
			return
		}
	}
}

// snapshotStep is a MsgSnap that waits for its turn to be given to raft.
type snapshotStep struct {
	msg    *raftpb.Message
	result chan error // of Step
}

// stepSnapshot has the loop give raft a MsgSnap while no committed entry that raft has handed out is still to be applied: a
// change of the members among them would change those of the snapshot (etcd#11510).
func (m *member) stepSnapshot(ctx context.Context, msg *raftpb.Message) error {
	step := snapshotStep{msg, make(chan error, 1)}
	select {
	case m.snapshots <- step:
		return <-step.result
	case <-ctx.Done():
		return ctx.Err()
	case <-m.ctx.Done():
		return errStopped
	}
}

// nextSnapshot returns the snapshots that wait for raft; nil while there are entries with the apply thread.
func (m *member) nextSnapshot() <-chan snapshotStep {
	if m.async.applying.Load() > 0 {
		return nil
	}
	return m.snapshots
}

// async is what loopAsync has beside the rest.
type async struct {
	appends, applies chan *raftpb.Message

	applying atomic.Int64  // messages that the apply thread has not carried out yet
	idle     chan struct{} // holds a value when there are none any more
}

// threadMessages is how many messages wait for a thread at most.
const threadMessages = 64

// startThreads runs raft's two local threads, until the member ends.
func (m *member) startThreads() *sync.WaitGroup {
	m.async.appends, m.async.applies = make(chan *raftpb.Message, threadMessages), make(chan *raftpb.Message, threadMessages)
	m.async.idle = make(chan struct{}, 1)
	var wg sync.WaitGroup
	wg.Go(func() { m.thread(m.async.appends, m.write, func([]*raftpb.Message) {}) })
	wg.Go(func() { m.thread(m.async.applies, m.carryOut, m.carriedOut) })
	return &wg
}

// split gives each part of a Ready to whom it is for.
func (m *member) split(rd raft.Ready) {
	m.answer(rd.ReadStates)
	peers, appends, applies := rafthttp.SplitMessages(rd.Messages)
	m.send(peers)
	for _, msg := range appends {
		m.hand(m.async.appends, msg)
	}
	m.async.applying.Add(int64(len(applies)))
	for _, msg := range applies {
		m.hand(m.async.applies, msg)
	}
}

func (m *member) hand(thread chan<- *raftpb.Message, msg *raftpb.Message) {
	select {
	case thread <- msg:
	case <-m.ctx.Done():
	}
}

// thread does all that waits at once, then delivers the responses and calls done, until the member ends or do reports false.
func (m *member) thread(in <-chan *raftpb.Message, do func([]*raftpb.Message) bool, done func([]*raftpb.Message)) {
	step := func(msg *raftpb.Message) error { return m.Step(m.ctx, msg) }
	for {
		var msgs []*raftpb.Message
		select {
		case msg := <-in:
			msgs = append(msgs, msg)
		case <-m.ctx.Done():
			return
		}
		for len(in) > 0 {
			msgs = append(msgs, <-in)
		}
		if !do(msgs) {
			return
		}
		for _, msg := range msgs {
			if rafthttp.DeliverResponses(msg, step, m.net.Send) != nil {
				return // the member ends
			}
		}
		done(msgs)
	}
}

// write makes messages durable, with one sync.
func (m *member) write(msgs []*raftpb.Message) bool {
	if !m.diskWorks() {
		return false
	}
	for _, msg := range msgs {
		m.save(&raftpb.HardState{Term: msg.Term, Vote: msg.Vote, Commit: msg.Commit}, msg.GetEntries(), msg.GetSnapshot())
	}
	return true
}

// carryOut applies the entries of messages.
func (m *member) carryOut(msgs []*raftpb.Message) bool {
	for _, msg := range msgs {
		m.applyAll(msg.GetEntries())
	}
	return true
}

// carriedOut is called when raft has heard that messages were carried out.
func (m *member) carriedOut(msgs []*raftpb.Message) {
	m.compact()
	if m.async.applying.Add(-int64(len(msgs))) == 0 {
		select {
		case m.async.idle <- struct{}{}:
		default:
		}
	}
}
