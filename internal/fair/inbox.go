package fair

import (
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
	stands   bool     // it released nothing while an offer waited for it, nor since
	runnable bool     // it is in the ring of the pool
	removed  bool
}

// Share holds the inboxes of one sending node to limits, for the kind of messages of one Pool.
type Share struct {
	account  account
	releases uint32        // number of releases
	stands   bool          // it released nothing while an offer of an empty inbox waited for it, nor since
	room     chan struct{} // closed when messages are released; nil while no offer waits

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
	s.account.settle(closed)
	s.signalRoom()
}

// Received is a message for an inbox, or of one.
type Received struct {
	Inbox     *Inbox
	Msg       *raftpb.Message
	Size      int64 // bytes of memory that the message occupies
	Coalesced bool  // it takes 1/CoalescedPerPlace of a place
}
