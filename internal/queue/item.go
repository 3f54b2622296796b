package queue

import (
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/internal/errs"
	"github.com/seed-4d73690b/rafthttp/internal/wire"
)

// Item is a message in a queue, or about to be queued.
type Item struct {
	Msg  *raftpb.Message
	Size int64 // bytes of memory that the message occupies

	at     time.Duration // the clock of the queue when the message was accepted
	ticket *Ticket       // of a sender that waits for the result; nil: none; or windowTracks
}

// windowTracks marks an item tracked by the append window of its queue: then no sender
// waits for the result. A fifth field would keep items out of registers, which costs
// each message more than all work of the window.
var windowTracks = new(Ticket)

// IsTracked reports whether the append window of the queue that the item was taken from tracks it: it is an append of the one
// raft group that has the queue to itself, as its leader makes it.
func (it Item) IsTracked() bool { return it.tracked() }

func (it Item) tracked() bool { return it.ticket == windowTracks }

// NewItem returns the item of m, with its size.
func NewItem(m *raftpb.Message) Item { return Item{Msg: m, Size: wire.MemorySize(m)} }

// WithTicket returns the item with the ticket of its sender. A queue that tracks appends accepts no
// tickets with them.
func (it Item) WithTicket(t *Ticket) Item {
	it.ticket = t
	return it
}

// Ticket returns the ticket of the item; nil if no sender waits for the result.
func (it Item) Ticket() *Ticket {
	if it.tracked() {
		return nil
	}
	return it.ticket
}

// Verdict is the result of an offer to a queue.
type Verdict int

// The verdicts.
const (
	Accepted    Verdict = iota // the queue has the message now
	Full                       // a limit of the queue is reached
	OutOfMemory                // the limit of all queues together is reached
	TooLarge                   // the message is larger than the limit of one message
	Down                       // the queue is shut, or closed
	Withheld                   // a limit was reached before; raft is told once the queue has drained
	Duplicate                  // the queue has had the entries, and they are in transit
)

// Err returns why a message with this verdict is lost: ErrQueueFull, ErrMemoryLimit or
// ErrExceedSizeLimit. It returns nil if the message is not lost, if the queue is down, or if raft
// will be told.
func (v Verdict) Err() error {
	switch v {
	case Full:
		return errs.ErrQueueFull
	case OutOfMemory:
		return errs.ErrMemoryLimit
	case TooLarge:
		return wire.ErrExceedSizeLimit
	default:
		return nil
	}
}
