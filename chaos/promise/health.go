package promise

import (
	"time"

	"github.com/seed-4d73690b/rafthttp"
)

// health says from when on a way has to deliver.
type health struct {
	faults int           // that hold
	closed bool          // there is no way at all: it can neither be dialled nor be streamed on
	wellAt time.Duration // of the run: from then on, if there is no fault
	cuts   int           // what holds back all bytes on the way
	cutAt  time.Duration // when that began
	crowd  time.Duration // until then, more is sent than there is room for
	deaf   time.Duration // when the receiver cut the sender; 0: it has not
	barred time.Duration // when the certificate of the sender was on the revocation list; 0: it is not
	// refused is since when VerifyPeer of the sender refuses the receiver, and that of the receiver the sender; 0: it does not.
	refused [2]time.Duration
	flaps   time.Duration // until then, streams may end
	ends    uint64        // streams that the receiver has begun to read, in this life
	moving  int           // snapshots that have not ended: if one fails, raft is told of the peer as well
	linger  int           // connections whose dialler has given up, which the receiver does not know

	checked   time.Duration // when its heartbeats were looked at last
	delivered bool          // the way has delivered since wellAt
}

// well reports whether the way has to deliver, and has had to since a time.
func (h *health) well(since time.Duration) bool {
	return h.faults == 0 && !h.closed && h.wellAt <= since
}

// well reports it of the link as well, if the way is that of a group.
func (w *way) well(since time.Duration) bool {
	return w.health.well(since) && (w.link == nil || w.link.health.well(since))
}

// hurt begins a fault of a way.
func (s *simulation) hurt(w *way) {
	s.book.mu.Lock()
	defer s.book.mu.Unlock()
	w.faults++
}

// heal ends it. The way has to deliver after some time.
func (s *simulation) heal(w *way, after time.Duration) {
	s.book.mu.Lock()
	defer s.book.mu.Unlock()
	w.faults--
	w.unwell(s.now(), after)
}

// shock is a fault that is over at once.
func (s *simulation) shock(w *way, after time.Duration) {
	s.hurt(w)
	s.heal(w, after)
}

func (h *health) unwell(now, after time.Duration) {
	h.wellAt, h.delivered = max(h.wellAt, now+after), false
}

// between returns the ways between two members, both of them.
func (s *simulation) between(a, b uint64) (ways []*way) {
	for _, w := range []*way{s.book.way(a, b), s.book.way(b, a)} {
		if w != nil {
			ways = append(ways, w)
		}
	}
	return ways
}

// around returns the ways from and to a member.
func (s *simulation) around(id uint64) (ways []*way) {
	for _, w := range s.book.all {
		if w.from == id || w.to == id {
			ways = append(ways, w)
		}
	}
	return ways
}

// noDial returns what the plan says of dials on a way, or nil.
func (s *simulation) noDial(from, to uint64) *Way {
	for i := range s.plan.NoDial {
		if d := &s.plan.NoDial[i]; d.From == from && d.To == to {
			return d
		}
	}
	return nil
}

// byPosts reports whether all that goes this way is posted: who would read the stream cannot dial, or the sender's handler
// cannot serve one.
func (s *simulation) byPosts(w *way) bool {
	if s.noDial(w.to, w.from) != nil {
		return true
	}
	m := s.member(w.from)
	return m != nil && m.noStreams()
}

const (
	recovery = 2 * time.Second // once a link is mended
	// postRecovery is the same for what goes by posts: a post may stand still for 10 s.
	postRecovery = 12 * time.Second
	// synTimeout is how long a socket waits for the answer to a SYN before it sends the next.
	synTimeout = time.Second
)

// lookAtStreams looks whether the streams of a peer are up again, although what it sends arrives by posts as well.
func (s *simulation) lookAtStreams(m *member, p rafthttp.PeerStatus, now time.Duration) {
	from, id := s.member(uint64(p.ID)), uint64(p.ID)
	if !s.inTime() || from == nil || from.noStreams() || s.noDial(m.id, id) != nil {
		return
	}
	due := true
	s.book.mu.Lock()
	for _, w := range s.between(m.id, id) {
		due = due && w.isPeer && w.well(now-lateReport) && now > w.flaps
	}
	s.book.mu.Unlock()
	if !due {
		return
	}
	s.checked("streams")
	for _, st := range p.Streams {
		if st.Direction == rafthttp.StreamIn && (!st.Up || s.sabotaged("streams")) {
			s.violate("streams", "stream %s from %d to %d is down, %v after the last fault", st.Name, id, m.id, lateReport)
		}
	}
}

// resumes reports whether a transfer goes on after its connection broke.
func (s *simulation) resumes(t *transfer) bool {
	to := s.member(t.w.to)
	seeks := t.source == "seeks" || t.source == "file" || t.source == "slow, seeks" || t.source == "decrypts"
	saver := ""
	if t.replica != nil {
		saver = t.replica.plan.Saver
	} else if to != nil {
		saver = to.opt.Saver
	}
	return seeks && to != nil && (saver == "" || saver == "store") && to.opt.Wrapper == "" && !to.opt.NoKeepAlive &&
		!to.opt.Stock && !t.sender.opt.Stock && to.opt.DiskHang == 0 && !to.opt.Torn
}

// recovers returns how long a way may take until it delivers, once nothing is in the way.
func (s *simulation) recovers(w *way) time.Duration {
	d := recovery + 8*s.plan.Delay
	if s.byPosts(w) {
		d = postRecovery + 8*s.plan.Delay
	}
	if s.plan.Sockets != (Buffers{}) { // a SYN that was lost is sent again after so long, not at the moment when its link is mended
		d += synTimeout
	}
	if s.isNarrow() { // what is on the line before
		d += s.plan.lineTime()
	}
	return d
}
