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

	next, prev *Inbox // in the run queue
	waiting    messages
	held       holding
	worker     *worker // that has its turn; nil: none
	releases   uint32  // how often its messages were released
	stands     bool    // it released nothing while an offer waited for it, nor since
	runnable   bool    // it is in the run queue
	removed    bool
}

// Share holds the inboxes of one sending node to limits, for the kind of messages of one Pool.
type Share struct {
	account  account
	releases uint32        // number of releases
	stands   bool          // it released nothing while an offer of an empty inbox waited for it, nor since
	room     chan struct{} // closed when messages are released; nil while no offer waits
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

// Received is a message that was accepted and that Process does not get.
type Received struct {
	Inbox *Inbox
	Msg   *raftpb.Message
	Size  int64 // bytes of memory that the message occupies

	units int32 // of places
}

// runQueue has the inboxes whose messages wait for a worker, each once: so Process gets the messages of an inbox one
// after another.
type runQueue struct {
	first, last *Inbox
	n           int
}

func (r *runQueue) push(in *Inbox) {
	in.runnable = true
	r.n++
	in.prev, in.next = r.last, nil
	if r.last == nil {
		r.first = in
	} else {
		r.last.next = in
	}
	r.last = in
}

func (r *runQueue) remove(in *Inbox) {
	in.runnable = false
	r.n--
	if in.prev == nil {
		r.first = in.next
	} else {
		in.prev.next = in.next
	}
	if in.next == nil {
		r.last = in.prev
	} else {
		in.next.prev = in.prev
	}
	in.next, in.prev = nil, nil
}
