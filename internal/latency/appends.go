package latency

import (
	"cmp"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/raft/v3/raftpb"
)

// silence is for how long after the last append or heartbeat to the peer a sample is followed:
// the local member may not be the leader any more, and then nobody answers.
const silence = 3 * time.Second

// Appends samples the appends to one peer. The zero value is ready, and it is safe for concurrent use.
// Only appends of one raft group may be given to it.
type Appends struct {
	index  atomic.Uint64 // where the append ends that is followed; 0: none is
	shared atomic.Bool   // groups whose messages have a Context use the connections as well

	mu      sync.Mutex
	sample  sample
	guessed bool                         // the parts of the last one
	high    struct{ term, index uint64 } // the end of the last append that was followed: what is sent again is not
	course  course
	probes  probes
	told    bool          // the system has told how far a connection has got
	least   time.Duration // the shortest round trip on it, as the system knows it; 0: not known

	answer, queue, wire, follower *Histogram // nil until there is something
}

// IsFollowing reports whether an append is followed.
func (a *Appends) IsFollowing() bool { return a.index.Load() != 0 }

// Begin follows the append m, which waited for so long and is about to be written to c, and reports whether it
// does: not if another one is followed, or if m has no entries, or none that were not followed before.
func (a *Appends) Begin(m *raftpb.Message, waited time.Duration, c Conn, now time.Time) bool {
	if a.IsFollowing() || len(m.Entries) == 0 {
		return false
	}
	term, end := m.GetTerm(), m.GetIndex()+uint64(len(m.Entries))
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.IsFollowing() || term < a.high.term || term == a.high.term && end <= a.high.index {
		return false
	}
	a.high.term, a.high.index = term, end
	a.sample = sample{term: term, prev: m.GetIndex(), waited: max(waited, 0), start: now, led: now, looked: now, conn: c}
	a.index.Store(end)
	return true
}

// Written says that the append that Begin has followed on c was written, without an error.
func (a *Appends) Written(c Conn, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.isOn(c) && !a.stoodStill(now) {
		a.sample.wrote, a.sample.led = now, now
		a.sample.look(now)
	}
}

// Failed says that it was not.
func (a *Appends) Failed(c Conn) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.isOn(c) {
		a.restart()
	}
}

// isOn is called with mu held: it reports whether the append that is followed is being written to c. A connection has one
// write at a time, so it is that of the caller.
func (a *Appends) isOn(c Conn) bool {
	return a.IsFollowing() && a.sample.wrote.IsZero() && a.sample.conn == c
}

// Sent says that m is about to be written to the peer while an append is followed. It takes the lock. A heartbeat of the group that is followed
// has a Context while a read is confirmed, an append never has.
func (a *Appends) Sent(m *raftpb.Message, now time.Time) {
	if m.Context != nil && (a.shared.Load() || m.GetType() == raftpb.MsgApp) {
		a.share()
		return // perhaps of another group
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case !a.IsFollowing(), a.stoodStill(now):
	case m.GetTerm() > a.sample.term:
		a.outdated(now)
	case m.GetTerm() == a.sample.term && (m.GetType() == raftpb.MsgApp || m.GetType() == raftpb.MsgHeartbeat):
		a.sample.led = now
		a.sample.lookIfDue(now)
	}
}

// Answered takes in a MsgAppResp of the peer. It takes no lock, and reads no clock, unless it rejects, or ends a sample.
func (a *Appends) Answered(m *raftpb.Message) {
	if m.Context != nil {
		a.share()
	} else if m.GetReject() {
		a.rejected(m)
	} else if end := a.index.Load(); end != 0 && m.GetIndex() >= end {
		a.end(m, end, time.Now())
	}
}

// share notes that there are other groups. Each message of theirs may be read here.
func (a *Appends) share() {
	if !a.shared.Load() {
		a.shared.Store(true)
	}
}

// rejected takes in that the peer has rejected an append: raft goes back, perhaps far, to what the peer has. Then an append
// from there may be followed while rejections of later ones still come in: they do not concern it.
func (a *Appends) rejected(m *raftpb.Message) {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := &a.sample
	if m.GetTerm() < a.high.term || a.IsFollowing() && m.GetTerm() == s.term && m.GetIndex() > s.prev {
		return
	}
	a.restart()
}

func (a *Appends) end(m *raftpb.Message, end uint64, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := &a.sample
	if a.index.Load() != end || m.GetTerm() < s.term || a.stoodStill(now) {
		return
	}
	if m.GetTerm() > s.term {
		a.outdated(now)
		return
	}
	if !s.told { // it is quicker than the return of the write
		s.ask()
	}
	t, guessed := s.times(now, &a.probes, true)
	if a.answer == nil {
		a.answer, a.queue, a.wire, a.follower = new(Histogram), new(Histogram), new(Histogram), new(Histogram)
	}
	a.answer.add(t.Total(), now)
	a.queue.add(t[Queue], now)
	a.wire.add(t[Wire], now)
	a.follower.add(t[Follower], now)
	a.course.add(t, a.usual(), s.begin(), now)
	a.guessed = guessed
	a.drop()
}

// Restart gives up what is followed, which will not be answered, since a stream has ended or the peer has taken a snapshot:
// what raft sends again is followed as if it was new.
func (a *Appends) Restart() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.restart()
}

// restart is called with mu held.
func (a *Appends) restart() {
	a.drop()
	a.high.term, a.high.index = 0, 0
}

// Moved says that the peer is elsewhere: what it was like before says nothing any more, nor does what is on its way there.
func (a *Appends) Moved() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.restart()
	a.course, a.told, a.least, a.probes = course{}, false, 0, probes{}
}

// Probed takes in the round-trip time of a probe.
func (a *Appends) Probed(rtt time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.probes.add(rtt)
}

// stoodStill is called with mu held while an append is followed. It reports whether the local member has sent nothing as the leader
// for so long that it has not led, or has stood still, and gives the append up then: it says nothing of the peer.
func (a *Appends) stoodStill(now time.Time) bool {
	if now.Sub(a.sample.led) <= silence {
		return false
	}
	a.drop()
	return true
}

// outdated is called with mu held while an append is followed of a term that is over: nobody answers it, but it knows how long the
// queue is. What a leader sends anew may wait behind many of its last term.
func (a *Appends) outdated(now time.Time) {
	s := &a.sample
	s.look(now)
	t, _ := s.times(now, &a.probes, false)
	t, usual := queueOnly(t), queueOnly(Times{})
	if a.course.isSlow(t, usual) {
		a.course.add(t, usual, s.begin(), s.start)
	}
	a.drop()
}

// drop is called with mu held.
func (a *Appends) drop() {
	a.index.Store(0)
	a.told = a.told || a.sample.told
	a.least = cmp.Or(a.sample.least, a.least)
	a.sample = sample{}
}

// usual is called with mu held: what can be told of the parts before anything is known of their past. Without a round trip, wire and
// follower cannot be told apart: the peer may be far away.
func (a *Appends) usual() (t Times) {
	if !a.told && !a.sample.told && a.probes.n == 0 {
		return Times{Wire: unknown, Follower: unknown}
	}
	least := cmp.Or(a.sample.least, a.least)
	t[Wire], _ = a.probes.correct(least, least)
	return t
}

// AppendTimes is what is known of the appends to a peer.
type AppendTimes struct {
	Answer, Queue, Wire, Follower Distribution
	// Pending is how long the append that is followed had taken when the local member was seen to lead last; 0: none is.
	Pending time.Duration
}

// Read returns what is known, and how it is now.
func (a *Appends) Read(now time.Time) (all AppendTimes, v View) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.answer != nil {
		all = AppendTimes{a.answer.distribution(now), a.queue.distribution(now), a.wire.distribution(now), a.follower.distribution(now), 0}
	}
	var pending *Times
	s, until, guessed := &a.sample, now, a.guessed
	if a.IsFollowing() && !a.stoodStill(now) {
		s.lookIfDue(now)
		until = s.led // we are not known to lead any more since
		var t Times
		t, guessed = s.times(until, &a.probes, false)
		pending, all.Pending = &t, t.Total()
	}
	v = a.course.view(pending, a.usual(), s.begin(), until, now)
	v.Guessed = guessed
	return all, v
}
