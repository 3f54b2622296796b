package followers_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/bubble"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/memnet/rafttest"
)

// A storm is many events, one after another, on a line so slow, and with queues so
// small, that they are full nearly all the time.
const (
	stormEvents = 30
	stormEntry  = 32 << 10
	stormQueue  = 2 << 20
)

var stormLine = line{rate: 2e6, rtt: 20 * time.Millisecond, window: 256 << 10}

// TestCongestedStorm: whatever happens to a follower whose queue is full, in whatever
// order, it recovers.
func TestCongestedStorm(t *testing.T) {
	testmember.SkipWithTinyBuffers(t)
	for seed := range uint64(bubble.Runs(5, 2)) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				s := newStorm(t, seed)
				for range stormEvents {
					s.next()
				}
				s.end()
			})
		})
	}
}

// TestLongFailure: a follower whose Process fails for long, say for want of disk space,
// goes on soon after that has ended.
func TestLongFailure(t *testing.T) {
	testmember.SkipWithTinyBuffers(t)
	for _, d := range []time.Duration{10 * time.Second, time.Minute, 3 * time.Minute}[:bubble.Runs(3, 1)] {
		t.Run(d.String(), func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				s := newStorm(t, 0)
				s.c.follower().drop(errDisk, func(*raftpb.Message) bool { return true })
				require.NoError(t, s.c.leader().load(t.Context(), 200, stormEntry, 0))
				time.Sleep(d)
				s.end()
			})
		})
	}
}

type storm struct {
	t    *testing.T
	c    *raftCluster
	rand *rand.Rand
	over chan struct{} // closed at the end
}

// stormBounds are what makes appends find no room.
var stormBounds = []func(*rafthttp.Transport){
	func(tr *rafthttp.Transport) { tr.SendQueueBytes = stormQueue },
	func(tr *rafthttp.Transport) { tr.SendQueueMessages = 8 },
	func(tr *rafthttp.Transport) { tr.MaxQueuedBytes = stormQueue },
	func(tr *rafthttp.Transport) { tr.SendQueueBytes, tr.ReceiveQueueBytes = stormQueue, stormEntry },
}

func newStorm(t *testing.T, seed uint64) *storm {
	t.Helper()
	c := newRaftCluster(t, stormLine.window, nil, stormBounds[seed%uint64(len(stormBounds))])
	c.connect(nearLine, stormLine)
	return &storm{t: t, c: c, rand: rand.New(rand.NewPCG(seed, 0)), over: make(chan struct{})}
}

// end is the end of all events. What is queued may all be of no use.
func (s *storm) end() {
	s.t.Helper()
	s.c.follower().slow(nil)
	close(s.over)
	stale := transmission(2*(stormQueue+stormLine.window), stormLine.rate)
	s.c.requireRecovery(s.t, stormEntry, stormLine.rate, stale)
}

// wait lets up to d pass.
func (s *storm) wait(d time.Duration) time.Duration {
	return time.Duration(s.rand.Int64N(int64(d)))
}

// member is one of those that may lead, or any.
func (s *storm) member(n int) uint64 { return 1 + s.rand.Uint64N(uint64(n)) }

// next has one more event happen.
func (s *storm) next() {
	events := []func(){
		s.propose, s.propose, s.propose, s.propose,
		s.loseAnswers, s.cutStream, s.cutWay, s.partition, s.reset, s.loseAppend, s.failAppends, s.stall,
		s.restart, s.compact, s.pause, s.changeLeader,
	}
	events[s.rand.IntN(len(events))]()
	time.Sleep(s.wait(time.Second))
}

func (s *storm) propose() {
	// Proposals of a leader that is deposed meanwhile are lost.
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Second)
	defer cancel()
	m := s.c.leading(s.t)
	for range 1 + s.rand.IntN(200) {
		if m.node.Propose(ctx, payload[:stormEntry]) != nil {
			return
		}
	}
}

func (s *storm) loseAnswers() {
	undo := s.c.Apply(rafttest.Rule{From: theFollower, Types: []raftpb.MessageType{raftpb.MsgAppResp}, Loss: s.rand.Float64()})
	time.Sleep(s.wait(4 * time.Second))
	undo()
}

func (s *storm) cutStream() {
	kinds := []string{"message", "msgapp"}
	from, to := s.member(2), uint64(theFollower)
	if s.rand.IntN(2) == 0 {
		from, to = to, from
	}
	s.c.streams.cut(kinds[s.rand.IntN(2)], from, to)
}

func (s *storm) cutWay() {
	from, to := s.member(2), uint64(theFollower)
	if s.rand.IntN(2) == 0 {
		from, to = to, from
	}
	s.c.Link(from, to).Cut()
	time.Sleep(s.wait(8 * time.Second))
	s.c.Heal()
}

func (s *storm) partition() {
	s.c.Partition([]uint64{theFollower}, []uint64{1, 2})
	time.Sleep(s.wait(8 * time.Second))
	s.c.Heal()
}

func (s *storm) reset() {
	s.c.Network().Reset(rafttest.Host(s.member(2)), rafttest.Host(theFollower))
}

func (s *storm) loseAppend() { s.c.follower().drop(nil, once(hasEntries)) }

func (s *storm) failAppends() {
	undo := s.c.follower().drop(errDisk, func(*raftpb.Message) bool { return true })
	time.Sleep(s.wait(3 * time.Second))
	undo()
}

func (s *storm) stall() {
	d, first := s.wait(8*time.Second), once(hasEntries)
	s.c.follower().slow(func(ctx context.Context, msg *raftpb.Message) error {
		if msg.GetType() == raftpb.MsgApp && first(msg) {
			select {
			case <-time.After(d):
			case <-s.over:
			case <-ctx.Done():
			}
		}
		return nil
	})
}

func (s *storm) restart() {
	s.c.restart(theFollower, s.c.crash(theFollower)).startClock()
}

func (s *storm) compact() { s.c.leading(s.t).compact(s.t) }

func (s *storm) pause() {
	p := s.c.members[s.member(3)].transport
	id := p.ID%raftMembers + 1
	peer := p.Get(id).(rafthttp.Pausable)
	peer.Pause()
	time.Sleep(s.wait(3 * time.Second))
	peer.Resume()
}

func (s *storm) changeLeader() {
	from := s.c.leading(s.t)
	to := 3 - from.id
	if from.id == theFollower {
		to = 1
	}
	from.node.TransferLeadership(s.t.Context(), from.id, to)
	time.Sleep(s.wait(2 * time.Second))
	require.NotNil(s.t, s.c.leading(s.t))
}
