package sim

import (
	"sync"

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

// async is what loopAsync has beside the rest.
type async struct{ appends, applies chan *raftpb.Message }

// threadMessages is how many messages wait for a thread at most.
const threadMessages = 64

// startThreads runs raft's two local threads, until the member ends.
func (m *member) startThreads() *sync.WaitGroup {
	m.async = async{make(chan *raftpb.Message, threadMessages), make(chan *raftpb.Message, threadMessages)}
	var wg sync.WaitGroup
	wg.Go(func() { m.thread(m.async.appends, m.write) })
	wg.Go(func() {
		m.thread(m.async.applies, func(msgs []*raftpb.Message) bool {
			for _, msg := range msgs {
				m.applyAll(msg.GetEntries())
			}
			return true
		})
	})
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

// thread does all that waits at once, then delivers the responses, until the member ends or do reports false.
func (m *member) thread(in <-chan *raftpb.Message, do func([]*raftpb.Message) bool) {
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
