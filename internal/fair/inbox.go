package fair

import (
	"math"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/internal/queue"
)

// Inbox has the received messages of one kind of one replica of one group, in order. The owner embeds it, by value, and
// does not copy it while it holds messages. It is ready once Share is set. It is of one Pool, whose lock guards
// it.
type Inbox struct {
	Group uint64 // for PoolStatus; the fields of the owner do not change while the inbox is used
	Owner any    // for Process
	Share *Share

	held     holding
	worker   *worker  // that has its turn; nil: none
	more     messages // that wait: after the first, which is in the ring, or after those of its worker
	releases uint32   // how often its messages were released
	took     uint8    // by calls of Process until now, in tookUnits: the longest, and less with each call since
	stands   bool     // it released nothing while an offer waited for it, nor since
	runnable bool     // it is in the ring of the pool
	removed  bool
}

const (
	// standsAfter is how long an inbox may release no message before an offer for it does not wait any more. The messages of the
	// others on the same stream are delayed as long.
	standsAfter = 5 * time.Millisecond
	// slowStandsAfter is the most for an inbox whose Process is known to be slow.
	slowStandsAfter = 10 * standsAfter

	tookUnit = slowStandsAfter / 2 / math.MaxUint8

	// Offers wait for an inbox whose Process is quick, or takes freeRate bytes a second or more. While offers for other inboxes of its Share
	// come, which are delayed, they wait for the rest for waitCredit together, and in the long run for 1/waitPart of the time. Others count
	// for sharedFor.
	freeRate   = 8 << 20
	waitCredit = 20 * standsAfter
	waitPart   = 10
	sharedFor  = time.Second
)

// processed is called with the lock of the pool held, after a call of Process. took is 0 unless it is the longest one since the last
// call of processed with another value.
func (in *Inbox) processed(took time.Duration) {
	if in.took > 0 {
		in.took -= in.took/8 + 1
	}
	in.took = max(in.took, uint8(min(took/tookUnit, math.MaxUint8)))
}

// patience returns how long an offer waits for the inbox to release a message: twice what a call of Process took lately. It is called with
// the lock of the pool held.
func (in *Inbox) patience() time.Duration {
	return min(max(standsAfter, 2*in.longest()), slowStandsAfter)
}

// longest is called with the lock of the pool held: it returns how long a call of Process took lately.
func (in *Inbox) longest() time.Duration {
	took := time.Duration(in.took) * tookUnit
	if w := in.worker; w != nil && w.current() == in {
		took = max(took, time.Duration(w.longest.Load()))
	}
	return took
}

// isSlow is called with the lock of the pool held: it reports whether a call of Process took a millisecond lately, or has done so now, or
// none has returned yet.
func (in *Inbox) isSlow(clock time.Duration) bool {
	w := in.worker
	return in.releases == 0 || in.longest() >= blockedAfter || w != nil && w.current() == in && clock-time.Duration(w.began.Load()) >= blockedAfter
}

// Share holds the inboxes of one sending node to limits, for the kind of messages of one Pool.
type Share struct {
	account  account
	releases uint32        // number of releases
	stands   bool          // it released nothing while an offer of an empty inbox waited for it, or for memory, nor since
	room     chan struct{} // closed when messages are released; nil while no offer waits
	oldest   time.Duration // age of the oldest message, when Pool.noteAges was called last
	late     lateness
	waited   bool // it is in Pool.waited

	group     uint64        // of the last offer
	sharedAt  time.Duration // by the clock of the pool, when an offer for another group came last; 0: never
	waits     time.Duration // for which offers have waited for inboxes that take little, less what has become free again since
	waitsSeen time.Duration // by the clock of the pool, when waits was right

	// Drops are for the owner's use: received messages of the node that were not processed. Only its counts of drops are used.
	Drops queue.Counters
}

// NewShare returns a Share with these limits.
func NewShare(limits queue.Limits) *Share { return &Share{account: newAccount(limits)} }

// offered is called with the lock of the pool held: it notes an offer for an inbox.
func (s *Share) offered(in *Inbox, clock time.Duration) {
	if in.Group == s.group {
		return
	}
	if s.group != 0 {
		s.sharedAt = clock
	}
	s.group = in.Group
}

// mayWait is called with the lock of the pool held: it returns for how long an offer of so many bytes may go on to wait for an inbox, after
// it has waited already.
func (s *Share) mayWait(in *Inbox, size int64, waited, clock time.Duration) time.Duration {
	if s.sharedAt == 0 || clock-s.sharedAt > sharedFor || !in.isSlow(clock) {
		return math.MaxInt64
	}
	s.noteWaits(clock)
	left := waitCredit - s.waits + freeWait(size) - waited
	if waited == 0 && left < standsAfter { // too little for most
		return 0
	}
	return left
}

// hasWaited is called with the lock of the pool held, after an offer has waited for an inbox.
func (s *Share) hasWaited(in *Inbox, size int64, waited, clock time.Duration) {
	if in.isSlow(clock) {
		s.noteWaits(clock)
		s.waits += max(0, waited-freeWait(size))
	}
}

func (s *Share) noteWaits(clock time.Duration) {
	s.waits = max(0, s.waits-(clock-s.waitsSeen)/waitPart)
	s.waitsSeen = clock
}

// freeWait is how long an inbox may take for so many bytes.
func freeWait(size int64) time.Duration {
	return time.Duration(float64(size) / freeRate * float64(time.Second))
}

// signalRoom is called with the lock of the pool held.
func (s *Share) signalRoom() {
	if s.room != nil {
		close(s.room)
		s.room = nil
	}
}

// settle is called with the lock of the pool held, after messages were released.
func (s *Share) settle(closed bool) {
	s.releases++
	s.stands = false
	if s.account.settle(closed); s.account.messages == 0 {
		s.oldest, s.late = 0, 0
	}
	s.signalRoom()
}

// Received is a message for an inbox, or of one.
type Received struct {
	Inbox     *Inbox
	Msg       *raftpb.Message
	Size      int64 // bytes of memory that the message occupies
	Coalesced bool  // it takes 1/CoalescedPerPlace of a place
}
