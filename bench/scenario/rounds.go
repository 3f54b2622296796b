package scenario

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/bench/system"
)

// heartbeatEvery is how often the leader sends heartbeats beside rounds, as etcd does.
const heartbeatEvery = 100 * time.Millisecond

// connectTimeout bounds how long members take to connect to each other.
const connectTimeout = 30 * time.Second

// expectedRounds is how many rounds have room before a slice grows.
const expectedRounds = 1 << 19

// loop is the goroutine around raft of one member: messages that have arrived wait for it, and each is a step of its own,
// as with raft.Node.
type loop struct {
	step func(*raftpb.Message)

	mu      sync.Mutex
	waiting []*raftpb.Message
	wake    chan struct{} // has a value when the loop should look
	spare   []*raftpb.Message
}

func newLoop(step func(*raftpb.Message)) *loop {
	return &loop{step: step, wake: make(chan struct{}, 1)}
}

func (l *loop) push(m *raftpb.Message) {
	l.mu.Lock()
	first := len(l.waiting) == 0
	l.waiting = append(l.waiting, m)
	l.mu.Unlock()
	if first {
		select {
		case l.wake <- struct{}{}:
		default:
		}
	}
}

// run steps messages, and calls tick every heartbeatEvery, until stop is closed.
func (l *loop) run(stop <-chan struct{}, tick func()) {
	ticker := time.NewTicker(heartbeatEvery)
	defer ticker.Stop()
	for {
		select {
		case <-l.wake:
		case <-ticker.C:
			tick()
			continue
		case <-stop:
			return
		}
		l.mu.Lock()
		some := l.waiting
		l.waiting = l.spare[:0]
		l.mu.Unlock()
		for _, m := range some {
			l.step(m)
		}
		clear(some)
		l.spare = some
	}
}

// rounds is one run: a leader that appends an entry to both followers in each round, and starts the next when both have
// answered.
type rounds struct {
	window  int
	loops   map[uint64]*loop
	members map[uint64]system.Member

	appends [][]*raftpb.Message            // a pair for each round of a window, used in turns
	answers map[uint64][][]*raftpb.Message // of a follower, the same

	acked   map[uint64]uint64 // rounds that a follower has answered; owned by the leader's loop, as is what follows
	started []time.Time       // of the rounds under way
	took    []time.Duration   // all rounds since began
	done    atomic.Uint64
	over    atomic.Bool // it is

	failed chan error
}

// followers of a leader.
var followers = []uint64{2, 3}

func newRounds(window, size int) *rounds {
	r := &rounds{
		window: window, loops: map[uint64]*loop{}, members: map[uint64]system.Member{}, answers: map[uint64][][]*raftpb.Message{},
		acked: map[uint64]uint64{}, started: make([]time.Time, window), took: make([]time.Duration, 0, expectedRounds), failed: make(chan error, 1),
	}
	for i := range uint64(window) {
		data := system.Pattern(int(i), size)
		pair := make([]*raftpb.Message, 0, len(followers))
		for _, id := range followers {
			pair = append(pair, &raftpb.Message{
				Type: raftpb.MsgApp.Enum(), From: new(uint64(leaderID)), To: new(id), Term: new(uint64(1)), LogTerm: new(uint64(1)),
				Index: new(i), Commit: new(i), Entries: []*raftpb.Entry{{Term: new(uint64(1)), Index: new(i + 1), Data: data}},
			})
			r.answers[id] = append(r.answers[id], []*raftpb.Message{{
				Type: raftpb.MsgAppResp.Enum(), From: new(id), To: new(uint64(leaderID)), Term: new(uint64(1)), Index: new(i + 1),
			}})
		}
		r.appends = append(r.appends, pair)
	}
	r.loops[leaderID] = newLoop(r.lead)
	for _, id := range followers {
		r.loops[id] = newLoop(func(m *raftpb.Message) { r.follow(id, m) })
	}
	return r
}

// endpoint is the Raft of one member.
type endpoint struct {
	rounds *rounds
	id     uint64
}

// Process implements system.Raft.
func (e endpoint) Process(_ context.Context, m *raftpb.Message) error {
	e.rounds.loops[e.id].push(m)
	return nil
}

// ReportUnreachable implements system.Raft.
func (e endpoint) ReportUnreachable(id uint64) {
	if e.rounds.done.Load() > 0 && !e.rounds.over.Load() { // not while members connect, or part
		e.rounds.fail(fmt.Errorf("member %d has reported member %d unreachable", e.id, id))
	}
}

func (r *rounds) fail(err error) {
	select {
	case r.failed <- err:
	default:
	}
}

// start runs the members, and returns when they are connected.
func (r *rounds) start(sys system.System) error {
	for _, id := range voters {
		m, err := sys.StartMember(system.MemberConfig{ID: id, Raft: endpoint{r, id}})
		if err != nil {
			return err
		}
		r.members[id] = m
	}
	for _, id := range voters {
		for _, to := range voters {
			if id != to {
				if err := r.members[id].AddPeer(to, r.members[to].Address()); err != nil {
					return err
				}
			}
		}
	}
	deadline := time.Now().Add(connectTimeout)
	for _, m := range r.members {
		for !m.Connected(len(followers)) {
			if time.Now().After(deadline) {
				return fmt.Errorf("not all streams are up after %v", connectTimeout)
			}
			time.Sleep(poll)
		}
	}
	return nil
}

func (r *rounds) close() {
	for _, m := range r.members {
		m.Close()
	}
}

// follow answers one message at a follower.
func (r *rounds) follow(id uint64, m *raftpb.Message) {
	switch m.GetType() {
	case raftpb.MsgApp:
		r.members[id].Send(r.answers[id][m.GetIndex()])
	case raftpb.MsgHeartbeat:
		r.members[id].Send([]*raftpb.Message{{Type: raftpb.MsgHeartbeatResp.Enum(), From: new(id), To: new(uint64(leaderID)), Term: new(uint64(1))}})
	}
}

// lead takes one answer at the leader, and starts the rounds that it makes room for.
func (r *rounds) lead(m *raftpb.Message) {
	if m.GetType() != raftpb.MsgAppResp {
		return
	}
	from := m.GetFrom()
	if want := r.acked[from]%uint64(r.window) + 1; m.GetIndex() != want {
		r.fail(fmt.Errorf("member %d has answered round %d instead of %d", from, m.GetIndex(), want))
		return
	}
	r.acked[from]++
	if r.acked[from] != min(r.acked[2], r.acked[3]) || r.acked[from] == r.done.Load() {
		return // the other has not answered yet
	}
	slot := r.done.Add(1) - 1
	now := time.Now()
	r.took = append(r.took, now.Sub(r.started[slot%uint64(r.window)]))
	r.begin(int(slot%uint64(r.window)), now)
}

// begin starts a round.
func (r *rounds) begin(slot int, now time.Time) {
	r.started[slot] = now
	r.members[leaderID].Send(r.appends[slot])
}

// runRounds starts members that do nothing but rounds, and measures them.
func (s Scenario) runRounds(sys system.System, t Settings) (o Outcome, err error) {
	r := newRounds(s.Window, s.Size)
	if err := r.start(sys); err != nil {
		r.close()
		return o, fmt.Errorf("start: %w", err)
	}
	stop := make(chan struct{})
	var running sync.WaitGroup
	for id, l := range r.loops {
		running.Go(func() {
			if id != leaderID {
				l.run(stop, func() {})
				return
			}
			for slot := range r.window {
				r.begin(slot, time.Now())
			}
			l.run(stop, r.beat)
		})
	}
	first, last, used, err := r.measure(t)
	r.over.Store(true)
	close(stop)
	running.Wait()
	r.close()
	if err != nil {
		return o, err
	}
	took := r.took[first:last]
	slices.Sort(took)
	n := float64(len(took))
	return Outcome{Figures: Figures{
		RoundCPU: used.cpu.Seconds() / n * 1e6, Median: percentile(took, 0.5) * 1e6, Tail: percentile(took, 0.99) * 1e6,
		Rounds: n / used.elapsed.Seconds(), RoundAllocs: float64(used.mallocs) / n,
	}}, nil
}

// measure returns how many rounds had ended when it began and when it ended, and what was used meanwhile.
func (r *rounds) measure(t Settings) (first, last uint64, used usage, err error) {
	time.Sleep(t.WarmUp)
	runtime.GC()
	before := usageNow()
	first = r.done.Load()
	time.Sleep(t.Measure)
	if err := r.await(first + 1); err != nil { // none may have ended in so short a time
		return 0, 0, usage{}, err
	}
	last, used = r.done.Load(), usageNow().since(before)
	return first, last, used, r.await(last + uint64(r.window)) // all that was under way has not been lost
}

// await waits until n rounds have ended.
func (r *rounds) await(n uint64) error {
	for deadline := time.Now().Add(stallTimeout); r.done.Load() < n; time.Sleep(poll) {
		select {
		case err := <-r.failed:
			return err
		default:
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%d rounds have not ended within %v, but %d", n, stallTimeout, r.done.Load())
		}
	}
	return nil
}

// beat sends heartbeats to the followers.
func (r *rounds) beat() {
	var msgs []*raftpb.Message
	for _, id := range followers {
		msgs = append(msgs, &raftpb.Message{
			Type: raftpb.MsgHeartbeat.Enum(), From: new(uint64(leaderID)), To: new(id), Term: new(uint64(1)), Commit: new(uint64(1)),
		})
	}
	r.members[leaderID].Send(msgs)
}
