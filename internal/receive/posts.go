package receive

import (
	"cmp"
	"context"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/internal/errs"
	"github.com/seed-4d73690b/rafthttp/internal/queue"
)

// Deliver queues the message of a request behind others of its kind, waits until
// Process has returned, and returns the result, or why it was not called: the queue
// is full, its owner has ended, or its turn did not come within that time. Process has
// the rest of that time. It calls queued once the queue accounts for the message.
func (r *Receiver) Deliver(m *raftpb.Message, source string, within time.Duration, queued func()) queue.Outcome {
	ctx, cancel := context.WithTimeoutCause(r.Member.Ctx, within, errs.ErrStalled)
	defer cancel()
	ticket := queue.NewTicket(ctx, source)
	if err := r.enqueue(ctx, queue.NewItem(m).WithTicket(ticket)); err != nil {
		r.DropPosts(1, err)
		return queue.Outcome{Err: err}
	}
	queued()
	select {
	case o := <-ticket.Outcome():
		return o
	case <-ctx.Done():
	}
	if !ticket.Claim() {
		return <-ticket.Outcome() // Process returns soon
	}
	r.DropPosts(1, context.Cause(ctx))
	return queue.Outcome{Err: context.Cause(ctx)}
}

// enqueue gives the message of a request to the queue. Only an append waits for room, like
// one from a stream.
func (r *Receiver) enqueue(ctx context.Context, it queue.Item) error {
	items, v := []queue.Item{it}, queue.Accepted
	var err error
	if queue.KindOf(it.Msg.GetType()) == queue.Append {
		items, err = r.Queue.OfferWait(ctx, items, r.Member.Cfg.ReadTimeout)
	} else {
		items, v = r.Queue.OfferAll(items)
	}
	if len(items) == 0 {
		return nil
	}
	return cmp.Or(r.Member.Cause(), err, v.Err(), errs.ErrQueueFull)
}

// processTicket calls Process for the message of a request that still waits. It
// returns false if the request has given up.
func (r *Receiver) processTicket(t *queue.Ticket, m *raftpb.Message) bool {
	if t.Ctx.Err() != nil || !t.Claim() {
		return false
	}
	t.Finish(queue.Outcome{Processed: true, Err: r.Member.Cfg.Process(t.Ctx, r.Member.RemoteID, t.Source, m)})
	return true
}

// Discard drops messages that the queue accepted and that Process does not get.
func (r *Receiver) Discard(items []queue.Item, cause error) {
	streamed, posted := 0, 0
	for _, it := range items {
		if t := it.Ticket(); t == nil {
			streamed++
		} else if t.Claim() {
			posted++
			t.Finish(queue.Outcome{Err: cause})
		}
	}
	if streamed > 0 {
		r.Member.Drop(r.Queue, streamed, cause)
	}
	r.DropPosts(posted, cause)
}

// DropPosts counts messages of requests that were not processed. Those of members that
// are not peers are reported to their senders only.
func (r *Receiver) DropPosts(n int, cause error) {
	if n > 0 && !r.Member.Guest {
		r.Member.Drop(r.Queue, n, cause)
	}
}
