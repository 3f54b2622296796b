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

	tookUnit = blockedAfter / 10 // so slowStandsAfter / 2 can be told
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

// call is called with the lock of the pool held: it returns how long a call of Process has taken until now, if the worker of the inbox
// is at it, or 0.
func (in *Inbox) call(clock time.Duration) time.Duration {
	if w := in.worker; w != nil && w.current() == in {
		return clock - time.Duration(w.began.Load())
	}
	return 0
}

// isSlow is called with the lock of the pool held: it reports whether a call of Process took a millisecond lately, or has done so now, or
// none has returned yet.
func (in *Inbox) isSlow(clock time.Duration) bool {
	return in.releases == 0 || max(in.call(clock), in.longest()) >= blockedAfter
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

	// Drops are for the owner's use: received messages of the node that were not processed. Only its counts of drops are used.
	Drops queue.Counters
}

// NewShare returns a Share with these limits.
func NewShare(limits queue.Limits) *Share { return &Share{account: newAccount(limits)} }

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
