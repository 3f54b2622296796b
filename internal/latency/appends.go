package latency

import (
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/internal/socket"
)

const (
	// silence is for how long after the last append or heartbeat to the peer a sample is followed:
	// the local member may not be the leader any more, and then nobody answers.
	silence = 3 * time.Second
	// look is the least time between two looks at a connection.
	look = 10 * time.Millisecond
)

// Conn is a connection that an append is written to. It is safe for concurrent use.
type Conn interface {
	// SendState returns how far what was written has got; false: the system does not tell.
	SendState() (socket.SendState, bool)
}

// Appends samples the appends to one peer. The zero value is ready, and it is safe for concurrent use.
// Only appends of one raft group may be given to it.
type Appends struct {
	index  atomic.Uint64 // where the append ends that is followed; 0: none is
	shared atomic.Bool   // groups whose messages have a Context use the connections as well

	mu     sync.Mutex
	sample sample
	high   struct{ term, index uint64 } // the end of the last append that was followed: what is sent again is not
	course course
	rtt    time.Duration // of probes; 0: not known
	least  time.Duration // the shortest round trip on the connection, as the system knows it; 0: not known
	blind  bool          // the system did not tell the last time

	answer, queue, wire, follower *Histogram // nil until there is something
}

// sample is an append on its way.
type sample struct {
	term   uint64
	waited time.Duration // in the queue
	start  time.Time     // of its write
	wrote  time.Time     // the end of it; zero: not yet
	led    time.Time     // when the local member was seen to lead last
	conn   Conn

	at      int64 // which byte of the connection has to be acknowledged; 0: not known
	looked  time.Time
	rtt     time.Duration // as the system knows it
	unacked time.Duration // since start, when it was seen not to be acknowledged last
	acked   time.Duration // and when it was seen to be, first; 0: not yet
	shut    time.Duration // the part of that in which the peer took nothing
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
	a.sample = sample{term: term, waited: max(waited, 0), start: now, led: now, looked: now, conn: c}
	a.index.Store(end)
	return true
}

// Written says that the append that Begin has followed on c was written, without an error.
func (a *Appends) Written(c Conn, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.isOn(c) {
		a.sample.wrote, a.sample.led = now, now
		a.look(now)
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

// Sent says that m is about to be written to the peer while an append is followed. A heartbeat of the group that is followed
// has a Context while a read is confirmed, an append never has.
func (a *Appends) Sent(m *raftpb.Message, now time.Time) {
	if m.Context != nil && (a.shared.Load() || m.GetType() == raftpb.MsgApp) {
		a.share()
		return // perhaps of another group
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case !a.IsFollowing():
	case m.GetTerm() > a.sample.term:
		a.drop()
	case m.GetTerm() == a.sample.term && (m.GetType() == raftpb.MsgApp || m.GetType() == raftpb.MsgHeartbeat):
		a.sample.led = now
		a.lookIfDue(now)
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

// rejected takes in that the peer has rejected an append: raft goes back, perhaps far, to what the peer has.
func (a *Appends) rejected(m *raftpb.Message) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if m.GetTerm() >= a.high.term {
		a.restart()
	}
}

func (a *Appends) end(m *raftpb.Message, end uint64, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := &a.sample
	if a.index.Load() != end || m.GetTerm() < s.term {
		return
	}
	if m.GetTerm() > s.term {
		a.drop()
		return
	}
	a.lookIfDue(now)
	t := s.times(now, a.rtt, true)
	if a.answer == nil {
		a.answer, a.queue, a.wire, a.follower = new(Histogram), new(Histogram), new(Histogram), new(Histogram)
	}
	a.answer.add(t.Total(), now)
	a.queue.add(t[Queue], now)
	a.wire.add(t[Wire], now)
	a.follower.add(t[Follower], now)
	a.course.add(t, a.usual(), s.begin(), now)
	a.blind = s.at == 0
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

// Moved says that the peer is elsewhere: what it was like before says nothing any more.
func (a *Appends) Moved() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.course, a.least = course{}, 0
}

// Probed takes in the round-trip time of probes.
func (a *Appends) Probed(rtt time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.rtt = rtt
}

// drop is called with mu held.
func (a *Appends) drop() {
	a.index.Store(0)
	a.sample = sample{}
}

// usual is called with mu held: what can be told of the parts before anything is known of their past.
func (a *Appends) usual() (t Times) {
	if t[Wire] = a.least; a.least == 0 {
		t[Wire] = a.rtt
	}
	return t
}

func (a *Appends) lookIfDue(now time.Time) {
	if now.Sub(a.sample.looked) >= look {
		a.look(now)
	}
}

// look is called with mu held: it asks the system how far the append has got.
func (a *Appends) look(now time.Time) {
	s := &a.sample
	since := now.Sub(s.looked)
	s.looked = now
	if s.conn == nil || s.acked > 0 {
		return
	}
	st, ok := s.conn.SendState()
	if !ok {
		return
	}
	s.rtt = st.RTT
	if st.MinRTT > 0 {
		a.least = st.MinRTT
	}
	if s.at == 0 && !s.wrote.IsZero() {
		s.at = st.Acked + st.Unacked
	}
	switch {
	case s.at > 0 && st.Acked >= s.at:
		s.acked = max(now.Sub(s.start), 1)
	default:
		s.unacked = now.Sub(s.start)
		if st.Shut {
			s.shut += since
		}
	}
}

// begin is when the append was queued.
func (s *sample) begin() time.Time { return s.start.Add(-s.waited) }

// times returns how long the append has been in each part until now. Rtt is of probes, for a connection
// that does not know its own. An append that was answered was acknowledged before.
func (s *sample) times(now time.Time, rtt time.Duration, answered bool) (t Times) {
	total := now.Sub(s.start)
	wire := total
	if s.rtt > 0 {
		rtt = s.rtt
	}
	if wrote := s.wrote; answered || s.acked > 0 || s.at == 0 && !wrote.IsZero() {
		if wrote.IsZero() {
			wrote = s.start
		}
		wire = wrote.Sub(s.start) + rtt
		if s.acked > 0 {
			wire = min(wire, s.acked)
		}
	}
	wire = min(max(wire, s.unacked), total)
	wire -= min(wire, s.shut)
	t[Queue], t[Wire], t[Follower] = s.waited, wire, total-wire
	if s.shut > total/2 { // the queue waits for the same
		t[Queue], t[Follower] = 0, t[Follower]+t[Queue]
	}
	return t
}

// AppendTimes is what is known of the appends to a peer.
type AppendTimes struct {
	Answer, Queue, Wire, Follower Distribution
	// Pending is the age of the append that is followed; 0: none is.
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
	s, until := &a.sample, now
	if a.IsFollowing() {
		if now.Sub(s.led) > silence {
			a.drop()
		} else {
			a.lookIfDue(now)
			until = s.led // we are not known to lead any more since
			t := s.times(until, a.rtt, false)
			pending, all.Pending = &t, t.Total()
			a.blind = s.at == 0 && !s.wrote.IsZero()
		}
	}
	v = a.course.view(pending, a.usual(), s.begin(), until, now)
	v.Guessed = a.blind
	return all, v
}
