package rafthttp

import (
	"cmp"
	"context"
	"sync/atomic"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/internal/queue"
)

// pending is a message in a receive lane whose request waits for what Process
// returns. Either the lane's worker claims it, and sends a result, or the request
// does, which so gives up: the message is not processed then.
type pending struct {
	ctx     context.Context // of Process; the request gives up at its end
	source  string          // for the observer: lanePost or laneSnapshot
	claimed atomic.Bool
	result  chan outcome // has room for the one that there is
}

// outcome is what became of a pending message.
type outcome struct {
	processed bool  // err is what Process returned
	err       error // nil: processed
}

func (p *pending) claim() bool { return p.claimed.CompareAndSwap(false, true) }

// deliver queues the message of a request behind others of its kind, waits until
// Process has returned, and returns what that did, or why it was not called: the lane
// is full, its owner has ended, or there was no turn within that time. Process has
// what is left of it. It calls queued once the lane accounts for the message.
func (r *receiver) deliver(m *raftpb.Message, source string, within time.Duration, queued func()) outcome {
	ctx, cancel := context.WithTimeoutCause(r.member.ctx, within, ErrStalled)
	defer cancel()
	it := newItem(m)
	it.pending = &pending{ctx: ctx, source: source, result: make(chan outcome, 1)}
	if err := r.queue(ctx, it); err != nil {
		r.dropPosts(1, err)
		return outcome{err: err}
	}
	queued()
	select {
	case o := <-it.pending.result:
		return o
	case <-ctx.Done():
	}
	if !it.pending.claim() {
		return <-it.pending.result // Process returns soon
	}
	r.dropPosts(1, context.Cause(ctx))
	return outcome{err: context.Cause(ctx)}
}

// queue gives the message of a request to the lane. Only an append waits for room, as
// one of a stream does.
func (r *receiver) queue(ctx context.Context, it item) error {
	items, v := []item{it}, accepted
	var err error
	if queue.KindOf(it.m.GetType()) == queue.Append {
		items, err = r.lane.offerWait(ctx, items, r.member.cfg.readTimeout)
	} else {
		items, v = r.lane.offerAll(items)
	}
	if len(items) == 0 {
		return nil
	}
	return cmp.Or(r.member.cause(), err, v.refusal(), ErrQueueFull)
}

// processPending has Process take the message of a request that still waits for it. It
// reports false if the request has given up.
func (r *receiver) processPending(it item) bool {
	p := it.pending
	if p.ctx.Err() != nil || !p.claim() {
		return false
	}
	p.result <- outcome{true, r.member.cfg.process(p.ctx, r.member.remoteID, p.source, it.m)}
	return true
}

// discard drops messages that the lane has taken and Process does not get.
func (r *receiver) discard(items []item, cause error) {
	streamed, posted := 0, 0
	for _, it := range items {
		switch {
		case it.pending == nil:
			streamed++
		case it.pending.claim():
			posted++
			it.pending.result <- outcome{err: cause}
		}
	}
	if streamed > 0 {
		r.member.drop(r.lane, streamed, cause)
	}
	r.dropPosts(posted, cause)
}

// dropPosts counts messages of requests that were not processed. Those of members that
// are no peers are told to their senders only.
func (r *receiver) dropPosts(n int, cause error) {
	if n > 0 && !r.member.guest {
		r.member.drop(r.lane, n, cause)
	}
}
