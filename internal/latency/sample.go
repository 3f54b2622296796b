package latency

import (
	"time"

	"github.com/seed-4d73690b/rafthttp/internal/socket"
)

const (
	// look is the least time between two looks at a connection.
	look = 10 * time.Millisecond
	// delayed and delayedMost are for how long a system may delay the acknowledgement of what it has received: Linux 40 ms, or
	// a round trip if that is longer, up to 200 ms, and a tick of its clock.
	delayed, delayedMost = 50 * time.Millisecond, 200 * time.Millisecond
)

// Conn is a connection that an append is written to. It is safe for concurrent use.
type Conn interface {
	// SendState returns how far what was written has got; false: the system does not tell.
	SendState() (socket.SendState, bool)
}

// sample is an append on its way.
type sample struct {
	term   uint64
	prev   uint64        // the entry before it
	waited time.Duration // in the queue
	start  time.Time     // of its write
	wrote  time.Time     // the end of it; zero: not yet
	led    time.Time     // when the local member was seen to lead last
	conn   Conn

	told       bool  // the system tells how far the connection has got
	at         int64 // which byte of the connection has to be acknowledged; 0: not known
	rtt, least time.Duration

	looked  time.Time
	unsent  time.Duration // since start, when it was seen not to be sent last
	unacked time.Duration // when it was seen not to be acknowledged last
	acked   time.Duration // and when it was seen to be, first; 0: not yet
	shut    time.Duration // the part of that in which the peer took nothing
}

// begin is when the append was queued.
func (s *sample) begin() time.Time { return s.start.Add(-s.waited) }

// ask asks the system how far the connection has got.
func (s *sample) ask() (st socket.SendState) {
	if s.conn == nil {
		return st
	}
	st, s.told = s.conn.SendState()
	if s.told {
		s.rtt, s.least = st.RTT, st.MinRTT
	}
	return st
}

func (s *sample) lookIfDue(now time.Time) {
	if now.Sub(s.looked) >= look && s.acked == 0 {
		s.look(now)
	}
}

// look asks the system how far the append has got.
func (s *sample) look(now time.Time) {
	since := now.Sub(s.looked)
	s.looked = now
	st := s.ask()
	if !s.told {
		return
	}
	if s.at == 0 && !s.wrote.IsZero() {
		s.at = st.Acked + st.Unacked
	}
	took := now.Sub(s.start)
	if s.at > 0 && st.Acked >= s.at {
		s.acked = max(took, 1)
		return
	}
	s.unacked = took
	if s.at == 0 || st.Acked+st.Unacked-st.Unsent < s.at {
		s.unsent = took
	}
	if st.Shut {
		s.shut += since
	}
}

// times returns how long the append has been in each part until now, and whether wire and follower are told apart by probes
// only. An append that was answered was acknowledged before.
func (s *sample) times(now time.Time, p *probes, answered bool) (t Times, guessed bool) {
	total := now.Sub(s.start)
	wire := total
	if answered || s.acked > 0 || !s.told && !s.wrote.IsZero() {
		var trip time.Duration
		trip, guessed = s.trip(p)
		if wire = trip; !s.wrote.IsZero() {
			wire += s.wrote.Sub(s.start)
		}
		if s.acked > 0 && !guessed {
			wire = min(wire, s.acked)
		}
	}
	wire = min(max(wire, s.unsent, s.unacked-s.delay()), total)
	wire -= min(wire, s.shut)
	t[Queue], t[Wire], t[Follower] = s.waited, wire, total-wire
	if s.shut > total/2 { // the queue waits for the same
		t[Queue], t[Follower] = 0, t[Follower]+t[Queue]
	}
	return t, guessed
}

// delay is for how long the acknowledgement may have been delayed: an append that is not acknowledged may have arrived.
func (s *sample) delay() time.Duration { return min(max(s.least, delayed), delayedMost) }

// trip returns how long a round trip takes, and whether only probes tell. The smoothed round trip has delayed
// acknowledgements in it, the least one is that of the last minutes, and the line may have become longer.
func (s *sample) trip(p *probes) (rtt time.Duration, guessed bool) {
	if rtt = s.rtt; s.least > 0 {
		rtt = max(s.least, s.rtt-s.delay())
	}
	known := rtt
	if known == 0 {
		known = s.acked
	}
	rtt, guessed = p.correct(rtt, known)
	return rtt, guessed || !s.told
}

const (
	recentProbes = 4
	// behindProxy is by how much probes take longer, at least, where a proxy acknowledges what it has received.
	behindProxy = 5 * time.Millisecond
)

// probes are the round-trip times of the last probes, which the peer answers itself. The least of them counts: the peer, or we,
// may be busy.
type probes struct {
	last [recentProbes]time.Duration
	n    int // of all
}

func (p *probes) add(rtt time.Duration) {
	p.last[p.n%recentProbes] = rtt
	p.n++
}

// correct returns the round trip rtt, where the connection does not take longer than known; and instead that of probes, if
// rtt is 0, or if probes take much longer than known: then the other end of the connection is not the peer, but a proxy.
// In the latter case it is guessed what the peer's part is.
func (p *probes) correct(rtt, known time.Duration) (trip time.Duration, guessed bool) {
	if p.n == 0 {
		return rtt, false
	}
	least := p.last[0]
	for _, d := range p.last[:min(p.n, recentProbes)] {
		least = min(least, d)
	}
	guessed = known > 0 && least >= apart*known && least >= known+behindProxy
	if rtt == 0 || guessed {
		return least, guessed
	}
	return rtt, false
}
