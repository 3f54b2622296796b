// Package routing picks the queue of each message to a peer: that of a stream, or the pipeline
// (PROTOCOL.md, section 10).
package routing

import (
	"slices"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/internal/errs"
	"github.com/seed-4d73690b/rafthttp/internal/member"
	"github.com/seed-4d73690b/rafthttp/internal/pipeline"
	"github.com/seed-4d73690b/rafthttp/internal/queue"
	"github.com/seed-4d73690b/rafthttp/internal/stream"
	"github.com/seed-4d73690b/rafthttp/internal/wire"
)

// Routes are the queues to one peer. It is safe for concurrent use.
type Routes struct {
	member   *member.Member
	writers  [stream.Kinds]*stream.Writer
	pipeline *pipeline.Pipeline
}

// New returns the routes over these queues.
func New(m *member.Member, writers [stream.Kinds]*stream.Writer, p *pipeline.Pipeline) *Routes {
	return &Routes{m, writers, p}
}

// Send sends the first of msgs, and the following ones with the same member and
// route, so that they cost one lock. It returns their number, and false if the
// peer has ended: then those after them were neither accepted nor reported.
func (r *Routes) Send(msgs []*raftpb.Message) (n int, alive bool) {
	first, posts := r.queueFor(msgs[0]), r.pipeline.QueueOf(msgs[0].GetType())
	if n = r.sameWay(msgs); first == posts { // which only MsgSnap are
		r.member.SnapshotsBegan(n)
	}
	if r.member.Paused.Load() {
		if !r.member.Enter() {
			return 0, false
		}
		defer r.member.Wait.Done()
		r.member.LoseCounted(first, n, queue.CountSnapshots(msgs[:n]), errs.ErrPaused)
		return n, true
	}
	rest := msgs[:n]
	for _, q := range [...]*queue.Queue{first, r.writers[stream.Message].Queue, posts} {
		if q != first && q != posts && r.mayBreakStreams(rest) {
			continue
		}
		if rest = r.Offer(q, rest); len(rest) == 0 {
			return n, true
		}
		// Try the next queue; the pipeline is down only when the peer has ended.
	}
	return n - len(rest), false
}

// mayBreakStreams reports whether one of msgs, which are appends whose own stream is
// down, is larger than all that the peer has accepted by POST since it last dialled that
// stream. The peer may have closed it because of such a message, and would close the message
// stream as well. It refuses a POST with the reason.
func (r *Routes) mayBreakStreams(msgs []*raftpb.Message) bool {
	if !r.writers[stream.MsgAppV2].WasGiven() {
		return false
	}
	taken := r.pipeline.Taken.Load()
	return slices.ContainsFunc(msgs, func(m *raftpb.Message) bool { return wire.MemorySize(m) > taken })
}

// Offer offers msgs to a queue, reports those without room as lost, and
// returns the rest when the queue is down.
func (r *Routes) Offer(q *queue.Queue, msgs []*raftpb.Message) (rest []*raftpb.Message) {
	refused, snapshots, last := 0, 0, queue.Accepted
	lose := func() {
		if refused > 0 {
			r.member.LoseCounted(q, refused, snapshots, last.Err())
			r.member.Wait.Done()
		}
		refused, snapshots = 0, 0
	}
	for rest = msgs; len(rest) > 0; {
		n, lost, v, why := q.OfferRun(rest)
		r.member.Drop(q, lost, why) // raft is told once the queue has drained
		rest = rest[n:]
		if v.Err() == nil {
			break // all are handled, or the queue is down
		}
		if v != last {
			lose()
		}
		if refused == 0 && !r.member.Enter() { // the peer has ended since
			break
		}
		last, refused, snapshots = v, refused+1, snapshots+queue.CountSnapshots(rest[:1])
		rest = rest[1:] // a smaller one may fit
	}
	lose()
	return rest
}

// queueFor returns the queue for m (PROTOCOL.md, section 10).
func (r *Routes) queueFor(m *raftpb.Message) *queue.Queue {
	switch m.GetType() {
	case raftpb.MsgSnap:
		return r.pipeline.Queues[queue.Append]
	case raftpb.MsgApp:
		return r.writers[stream.MsgAppV2].Queue
	default:
		return r.writers[stream.Message].Queue
	}
}

// StreamsBusy reports whether messages wait for a stream, or are being written.
func (r *Routes) StreamsBusy() bool {
	for _, w := range r.writers {
		if w.Queue.HasMessages() {
			return true
		}
	}
	return false
}

// sameWay returns how many of msgs go to one member by the same route, one after another, up to
// queue.RunMessages.
func (r *Routes) sameWay(msgs []*raftpb.Message) int {
	to, kind := msgs[0].GetTo(), msgs[0].GetType()
	for n, m := range msgs[:min(len(msgs), queue.RunMessages)] {
		t := m.GetType()
		if m.GetTo() != to || t != kind && (r.queueFor(m) != r.queueFor(msgs[0]) || r.pipeline.QueueOf(t) != r.pipeline.QueueOf(kind)) {
			return n
		}
	}
	return min(len(msgs), queue.RunMessages)
}

// AppendsAnswered updates the windows by a response of the peer to appends.
func (r *Routes) AppendsAnswered(m *raftpb.Message) {
	if m.GetFrom() != uint64(r.member.RemoteID) {
		return
	}
	r.member.Latency.Out.Answered(m)
	if m.Context != nil {
		return
	}
	for _, w := range r.writers {
		w.Queue.AppendAnswered(m)
	}
	r.pipeline.Queues[queue.Append].AppendAnswered(m)
}

// SnapshotTaken updates the windows after the peer has accepted the snapshot of m. Raft is told afterwards.
func (r *Routes) SnapshotTaken(m *raftpb.Message) {
	for _, w := range r.writers {
		w.Queue.SnapshotTaken(m)
	}
	r.pipeline.Queues[queue.Append].SnapshotTaken(m)
	r.member.Latency.Out.Restart()
}
