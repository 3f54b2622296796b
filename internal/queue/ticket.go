package queue

import (
	"context"
	"sync/atomic"
)

// Ticket represents the sender of a message that waits for its result. Either the worker
// that has taken the message claims the ticket, and finishes it, or the sender claims it, and so
// gives up: the message is not processed then. It is safe for concurrent use.
type Ticket struct {
	// Ctx is for processing the message; the sender gives up at its end.
	Ctx context.Context
	// Source names the path of the message. It does not change.
	Source string

	claimed atomic.Bool
	outcome chan Outcome // has room for the only outcome
}

// Outcome is the result of a message with a ticket.
type Outcome struct {
	Processed bool  // Err is the result of processing
	Err       error // nil: processed
}

// NewTicket returns an unclaimed ticket.
func NewTicket(ctx context.Context, source string) *Ticket {
	return &Ticket{Ctx: ctx, Source: source, outcome: make(chan Outcome, 1)}
}

// Claim reports whether the caller is the first to claim the ticket.
func (t *Ticket) Claim() bool { return t.claimed.CompareAndSwap(false, true) }

// Finish sends the result to the sender. Only a worker that has claimed the ticket
// calls it, once. It does not block.
func (t *Ticket) Finish(o Outcome) { t.outcome <- o }

// Outcome has the result of the message once the ticket is finished.
func (t *Ticket) Outcome() <-chan Outcome { return t.outcome }
