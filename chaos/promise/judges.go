package promise

import (
	"slices"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
)

// judge is one who looks whether a promise is kept.
type judge struct{ name, promise string }

// judges are all of them.
var judges = []judge{
	{"send", "Send and SendSnapshot take no time, and no callback comes from inside a method"},
	{"reported", "each message is processed, reported or counted as dropped by its receiver"},
	{"order", "what one lane took is processed in its order, one message of a kind after another"},
	{"once", "no message of a stream, and no proposal, is processed twice"},
	{"invented", "what is processed was sent"},
	{"addressee", "what is processed is for the member"},
	{"snapshot ends", "each snapshot ends in one report, one Close and one value, which agree"},
	{"snapshot bytes", "a database is whole when its message is processed, and when its sender is told that it was sent"},
	{"snapshot arrives", "a snapshot whose bytes move arrives in time"},
	{"healthy link", "a link that is well loses no heartbeat, and raft is told of no loss"},
	{"recovery", "heartbeats arrive 2 s after the last fault"},
	{"streams", "streams are up again soon after the last fault, also where posts carry what is sent"},
	{"noticed", "a peer that is silent is inactive within twice the read timeout"},
	{"active", "a peer of which a stream brings something is active"},
	{"removed", "ErrorC has a value once the member has left, and not before"},
	{"stop", "Stop returns within its bound"},
	{"silence", "no callback comes once Stop has returned"},
	{"isolation", "a group without a fault loses no heartbeat on a link that is well, whatever other groups do"},
	{"revoked", "nothing is processed of a member whose certificate was revoked a TLSRecheck ago"},
	{"refused", "nothing is processed of a member that VerifyPeer refuses since a TLSRecheck, nor of who refuses it"},
	{"coalesced", "raft is told of no more losses than there are"},
	{"in turn", "reports, lines of the log and hooks about a member come one after another, in order"},
	{"bounds", "queues, memory and connections are bounded"},
	{"goroutines", "there are so many goroutines for each peer, and none once all are stopped"},
	{"log lines", "each message of the log has a limit"},
}

// addressed looks at whom a message is for. It reports true if it is nobody's business further.
func (s *simulation) addressed(m *member, msg *raftpb.Message) bool {
	s.checked("addressee")
	if msg.GetType() == raftpb.MsgForgetLeader || raft.IsLocalMsgTarget(msg.GetFrom()) {
		s.violate("addressee", "member %d processes a message that is for its own raft to send: %v", m.id, msg)
		return true
	}
	if w := s.book.way(msg.GetFrom(), m.id); w != nil && s.isDeaf(w) {
		s.violate("addressee", "member %d processes a message of %d, which it has cut: %v", m.id, w.from, msg)
	}
	s.lookAtRevoked(m, msg)
	if msg.GetTo() != m.id {
		s.violate("addressee", "member %d processes a message for %d: %v", m.id, msg.GetTo(), msg)
		return true
	}
	return false
}

// isDeaf reports whether the receiver has cut the sender for some time.
func (s *simulation) isDeaf(w *way) bool {
	s.book.mu.Lock()
	defer s.book.mu.Unlock()
	return w.deaf > 0 && s.now()-w.deaf > time.Second
}

// alone looks whether Process runs once at a time for each kind of messages of a member. What it returns ends the call.
func (s *simulation) alone(w *way, k kind) func() {
	b := s.book
	b.mu.Lock()
	defer b.mu.Unlock()
	if w.busy[k]++; w.busy[k] > 1 {
		s.violate("order", "%s processes two %v messages of %d at once", w.receiver(), k, w.from)
	}
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		w.busy[k]--
		w.tookAt = s.now()
	}
}

// arrived notes a message that is processed.
func (s *simulation) arrived(there int, w *way, msg *raftpb.Message) {
	b, k, n := s.book, kindOf(msg.GetType()), numberOf(msg)
	b.mu.Lock()
	defer b.mu.Unlock()
	s.checkedOf(w, "invented")
	if n == 0 || n >= uint64(len(w.msgs[k])) {
		s.violate("invented", "%s processes a %v message of %d that was not sent: %v", w.receiver(), k, w.from, msg)
		return
	}
	x := &w.msgs[k][n]
	if why := b.differs(w, msg, x, n); why != "" {
		s.violate("invented", "%s processes %v message %d of %d, but %s", w.receiver(), k, n, w.from, why)
		return
	}
	s.countOf(w, "messages processed", 1)
	x.times++
	b.seq++
	if back := b.back(w); x.typ == raftpb.MsgAppResp && back != nil {
		back.answered(x)
	}
	w.processed(x)
	if x.times == 1 {
		x.came, x.there = b.seq, there
		return
	}
	if x.again {
		return
	}
	if x.lane != 0 || k == proposals {
		s.violate("once", "%s processes %v message %d of %d a second time", w.receiver(), k, n, w.from)
	}
}

// look is what judges do at each tick.
func (s *simulation) look(now time.Duration) {
	for _, w := range s.book.all {
		s.lookAtMessages(w, now)
		s.lookAtHealth(w, now)
	}
	s.lookAtGroups(now)
	for _, m := range s.running() {
		s.lookAtStatus(m)
		s.lookAtErrors(m)
	}
	s.lookAtTransfers()
	s.lookAtPeers(now)
	s.lookAtGoroutines()
}

// lookAtMessages looks at what became of messages, in their order.
func (s *simulation) lookAtMessages(w *way, now time.Duration) {
	b := s.book
	b.mu.Lock()
	defer b.mu.Unlock()
	life := s.lifeOf(w)
	for k := range kinds {
		for w.settled[k] < len(w.msgs[k]) {
			x := &w.msgs[k][w.settled[k]]
			if !s.settles(w, k, x, life, now) {
				break
			}
			s.lookAtOrder(w, k, x)
			if !x.again && x.at > w.dropAt[k] { // what was dropped until then was sent before, and is settled
				w.dropped[k] = 0
				if k == appends {
					w.full = 0
				}
			}
			w.settled[k]++
		}
	}
}

const (
	// reportTime is how long a message may be neither processed nor reported while its way is well.
	reportTime = 30 * time.Second
	// afterReport is how long one may still arrive that was reported.
	afterReport = 10 * time.Second
)

// reportBound is how long a message may be neither processed nor reported.
func (s *simulation) reportBound() time.Duration {
	d := reportTime + s.plan.lineTime()
	if !s.inTime() {
		d += 2 * window
	}
	return d
}

// settles reports whether it is known what became of a message, whose sender has this life now. It is called with the book's
// mutex held.
func (s *simulation) settles(w *way, k kind, x *sent, life int, now time.Duration) bool {
	switch {
	case x.times > 0 || x.failed:
		s.checkedOf(w, "reported")
		return true
	case k == appends && uint64(w.settled[k]) <= w.covered && x.at <= w.coverAt:
		return true // it need not be sent behind the snapshot
	case life != x.life || !w.isPeer || x.seq < w.parted:
		return true // there is no raft to be told any more, or it knows by itself
	case w.reported > x.seq:
		if now-x.at < afterReport {
			return false
		}
		s.countOf(w, "messages reported", 1)
		s.checkedOf(w, "reported")
		return true
	case now-x.at < s.reportBound() || !w.well(now-reportTime) || s.stands(w, k):
		return false
	case s.excuses(w, k, x):
		s.checkedOf(w, "reported")
		return true
	}
	s.violate("reported", "%v message %d from %d to %s, sent %v ago, was neither processed nor reported",
		k, w.settled[k], w.from, w.receiver(), now-x.at)
	return true
}

// lookAtOrder looks whether a message has come behind those that its lane took before. It is called with the book's mutex
// held.
func (s *simulation) lookAtOrder(w *way, k kind, x *sent) {
	if x.times == 0 || x.lane == 0 || x.ordered {
		return
	}
	x.ordered = true
	s.checkedOf(w, "order")
	s.checkedOf(w, "once")
	first, second := w.order[k][x.lane], arrival{x.came, x.there, w.settled[k]}
	if second.n < first.n { // it was looked at late: when its lane was not known yet, it had come already
		first, second = second, first
	}
	if first.there == second.there && first.came > second.came {
		s.violate("order", "%v message %d from %d to %s was processed before message %d, which the same lane took first: sent at %v and %v, lane %x",
			k, second.n, w.from, w.receiver(), first.n, w.msgs[k][second.n].at, w.msgs[k][first.n].at, x.lane)
		return
	}
	w.order[k][x.lane] = second
}

const (
	window   = 10 * time.Second // in which heartbeats are counted
	arriving = 2 * time.Second  // that the last of them has to arrive
)

// lookAtHealth looks whether a way that is well delivers.
func (s *simulation) lookAtHealth(w *way, now time.Duration) {
	if !s.inTime() {
		return
	}
	b := s.book
	b.mu.Lock()
	defer b.mu.Unlock()
	if !w.isPeer || w.faults > 0 || w.closed || s.member(w.from) == nil || s.member(w.to) == nil || s.chokes(w) {
		w.checked = now
		return
	}
	late := s.late(w)
	if !w.delivered && now > w.wellAt+late {
		s.checked("recovery")
		w.delivered = true
		if got, all := w.heartbeats(w.wellAt, w.wellAt+time.Second); all > 0 && got == 0 {
			s.violate("recovery", "nothing from %d to %d arrives that was sent within a second, %v after the last fault", w.from, w.to, now-w.wellAt)
		}
	}
	if from := now - window - late; from >= max(w.wellAt, w.checked) {
		w.checked = from + time.Second
		s.checked("healthy link")
		if got, all := w.heartbeats(from, from+window); all > 0 && got*100 < all*99 {
			s.violate("healthy link", "%d of %d heartbeats from %d to %d have arrived, which were sent %v to %v ago", got, all, w.from, w.to, now-from, now-from-window)
		}
	}
	if w.unexplained > 0 {
		s.violate("healthy link", "member %d is told that %d is unreachable, but the link is well since %v", w.from, w.to, now-w.wellAt)
	}
}

// chokes reports whether there are more posts than can be made: of appends that are sent again and again, and their answers, on a narrow
// or a long line, or if each needs a connection of its own on a long line. Four of a kind are made at a time, and with TLS each takes
// three round trips then: 17 a second with a delay of 40 ms.
func (s *simulation) chokes(w *way) bool {
	if !s.byPosts(w) {
		return false
	}
	from, to := s.member(w.from).opt, s.member(w.to).opt
	long := s.plan.Delay > 20*time.Millisecond
	return (s.plan.Rate > 0 || long) && (from.Resends || to.Resends) || to.NoKeepAlive && long
}

// late is how long a heartbeat may take.
func (s *simulation) late(w *way) time.Duration {
	d := arriving + 4*s.plan.Delay
	if s.byPosts(w) {
		d += 2 * time.Second
	}
	if s.plan.Rate > 0 { // what is on the line before it
		ahead := aheadWindows * s.plan.window()
		for _, e := range s.plan.Events {
			if e.Do == Burst && e.How == kindNames[proposals] {
				ahead = max(ahead, aheadWindows*s.plan.window()+4*e.Size) // a message is not interrupted, and others have a part of the line
			}
		}
		d += time.Duration(ahead) * time.Second / time.Duration(s.plan.Rate)
	}
	return d
}

// aheadWindows is what is written before a control message that waits: a window of each stream and of a few posts.
const aheadWindows = 5

// heartbeats returns how many control messages were sent between two times, and how many of them have arrived.
func (w *way) heartbeats(from, to time.Duration) (got, all int) { return w.arrivals(control, from, to) }

// arrivals returns it of any kind.
func (w *way) arrivals(k kind, from, to time.Duration) (got, all int) {
	msgs := w.msgs[k]
	i, _ := slices.BinarySearchFunc(msgs, from, func(x sent, at time.Duration) int {
		if x.seq == 0 || x.at < at {
			return -1
		}
		return 1
	})
	for _, x := range msgs[i:] {
		if x.at >= to {
			break
		}
		if all++; x.times > 0 || x.failed {
			got++
		}
	}
	return got, all
}

// lastLook is what judges do when a member has stopped.
func (s *simulation) lastLook(m *member) {
	s.lookAtErrors(m)
	s.lookAtEnds(m)
}

// finalLook is what judges do when all members have stopped.
func (s *simulation) finalLook() {
	for _, t := range s.transfers {
		s.lookAtEnd(t)
	}
	for id, mc := range s.states {
		if n := mc.disk.unused(); n > 0 {
			s.violate("snapshot bytes", "member %d keeps %d databases whose messages were not processed", id, n)
		}
	}
	for _, st := range s.seats {
		if n := st.disk.unused(); n > 0 {
			s.violate("snapshot bytes", "group %d, member %d keeps %d databases whose messages were not processed", st.group, st.member, n)
		}
	}
}

var _ rafthttp.Raft = (*member)(nil)
