package stream

import (
	"cmp"
	"sync/atomic"
	"time"

	"github.com/seed-4d73690b/rafthttp/internal/errs"
	"github.com/seed-4d73690b/rafthttp/internal/fair"
	"github.com/seed-4d73690b/rafthttp/internal/faultpoint"
	"github.com/seed-4d73690b/rafthttp/internal/member"
	"github.com/seed-4d73690b/rafthttp/internal/wire"
)

// GroupWriter sends the messages of many raft groups over the stream that a node
// dialled last (extensions: groups). Without a stream its queue is down.
type GroupWriter struct {
	member *member.Member
	Queue  *fair.SendQueue
	events GroupEvents

	beat     atomic.Bool // a link heartbeat is due
	refusals refusals
	conn     *attachment

	lastWritten *Conn      // owned by the one worker of the queue, like the next
	batch       wire.Batch // encoded and not written
	encodeStart time.Time  // of batch
}

// GroupEvents are called by a GroupWriter, without a lock.
type GroupEvents struct {
	Lose func(q *fair.SendQueue, items []fair.Item, cause error) // messages will not be sent
	// Released is told of messages that a worker had taken and that have left the queue, written or lost; nil: not.
	Released func(q *fair.SendQueue, items []fair.Item)
	// Refusal returns what is told in place of a refusal that has waited; nil: the same.
	Refusal func(r wire.GroupRefusal) wire.GroupRefusal
	// Interrupted is told that messages that were written may be lost; nil: not.
	Interrupted func()
}

// NewGroupWriter returns a writer that is down until a connection is attached.
func NewGroupWriter(m *member.Member, kind Kind, events GroupEvents) *GroupWriter {
	w := &GroupWriter{member: m, events: events}
	w.conn = newAttachment(m, kind, w)
	w.Queue = fair.NewSendQueue(fair.SendConfig{Name: kind.String(), Limits: m.Cfg.SendLimits, Workers: 1, Work: w.work, Wait: m.Wait})
	return w
}

// Attach takes over c, which the node dialled, as Writer.Attach does.
func (w *GroupWriter) Attach(c *Conn) bool { return w.conn.attach(c) }

// Detach ends c, if it is still the connection of the writer: the messages of the queue
// are lost.
func (w *GroupWriter) Detach(c *Conn, cause error) { w.conn.detach(c, cause) }

// Close ends the writer. The node's context has ended.
func (w *GroupWriter) Close() { w.conn.close() }

// State returns the current state.
func (w *GroupWriter) State() State { return w.conn.state(State{Bytes: w.Queue.Status().Bytes}) }

// Recheck checks the connection that the node dialled.
func (w *GroupWriter) Recheck() { w.conn.recheck() }

// open implements attachedQueue.
func (w *GroupWriter) open() {
	w.beat.Store(true)
	w.Queue.Open()
}

// shut implements attachedQueue.
func (w *GroupWriter) shut(forever bool) (int, func(cause error)) {
	shut := w.Queue.Shut
	if forever {
		shut = w.Queue.Close
	}
	lost := shut()
	return len(lost), func(cause error) { w.loseSome(lost, cause) }
}

// interrupted implements attachedQueue.
func (w *GroupWriter) interrupted() {
	if w.events.Interrupted != nil {
		w.events.Interrupted()
	}
}

// loseSome accounts for messages that are not sent.
func (w *GroupWriter) loseSome(items []fair.Item, cause error) {
	if len(items) > 0 {
		w.events.Lose(w.Queue, items, cause)
	}
}

// Heartbeat makes the worker write a link heartbeat, if the stream is up.
func (w *GroupWriter) Heartbeat() {
	if w.Queue.IsOpen() {
		w.beat.Store(true)
		w.Queue.Wake()
	}
}

// Refuse makes the worker tell the node that a message of it was not processed, if the stream is up: the same at most once
// until Tidy is called, and no more than maxGroupRefusals. One that came again is sent again then. While the stream is down, TakeRefusals
// has them.
func (w *GroupWriter) Refuse(r wire.GroupRefusal) {
	if w.refusals.add(r) {
		w.Queue.Wake()
	}
}

// TakeRefusals takes the refusals that wait if there is no stream for them.
func (w *GroupWriter) TakeRefusals() []wire.GroupRefusal {
	if w.Queue.IsOpen() {
		return nil
	}
	return w.takeRefusals()
}

func (w *GroupWriter) takeRefusals() []wire.GroupRefusal {
	all := w.refusals.take()
	if w.events.Refusal != nil {
		for i, r := range all {
			all[i] = w.events.Refusal(r)
		}
	}
	return all
}

// ReturnRefusals has refusals wait again that were taken and did not arrive.
func (w *GroupWriter) ReturnRefusals(all []wire.GroupRefusal) {
	if len(all) > 0 {
		w.refusals.lost(all)
		w.Queue.Wake()
	}
}

// Tidy releases the buffers of an idle writer. Only the goroutine of housekeeping calls it.
func (w *GroupWriter) Tidy() {
	w.refusals.reset()
	w.Queue.TrimIfIdle(func() {
		w.batch.Shrink()
		if c := w.lastWritten; c != nil {
			c.groups.Shrink()
		}
	})
}

// work is the queue's worker: it encodes queued messages and writes them.
func (w *GroupWriter) work() {
	var items []fair.Item
	for {
		var ok bool
		if items, ok = w.Queue.Take(items, takeGroupMessages, flushBytes); !ok {
			return
		}
		w.writeItems(items)
		clear(items)
	}
}

// writeItems writes the taken messages, and a heartbeat that is due.
func (w *GroupWriter) writeItems(items []fair.Item) {
	faultpoint.Hit(faultpoint.GroupWrite)
	c := w.conn.current()
	if w.lastWritten != c && w.lastWritten != nil {
		w.lastWritten.Stream.Close() // it was replaced, and its last batch is written
	}
	w.lastWritten = c
	switch {
	case c == nil:
		w.loseSome(items, cmp.Or(w.member.Cause(), errs.ErrPeerGone))
		w.release(items)
	default:
		w.send(c, items)
	}
}

// send writes the taken messages to c, and makes room in the queue for each batch that is written.
func (w *GroupWriter) send(c *Conn, items []fair.Item) {
	w.batch.Reset()
	w.encodeStart = time.Now()
	if w.beat.Swap(false) {
		c.groups.AppendLinkHeartbeat(&w.batch)
	}
	refused, sent := w.takeRefusals(), 0
	for _, r := range refused {
		c.groups.AppendRefusal(&w.batch, r)
	}
	fail := func(err error) {
		if sent == 0 {
			w.ReturnRefusals(refused)
		}
		w.fail(c, items[sent:], err)
	}
	for i, it := range items {
		c.groups.Append(&w.batch, it.Flow.Group, it.Msg)
		if w.batch.Len() < flushBytes && i < len(items)-1 {
			continue
		}
		if err := w.flush(c, i+1-sent); err != nil {
			fail(err)
			return
		}
		w.release(items[sent : i+1])
		sent = i + 1
	}
	if w.batch.Len() > 0 { // a heartbeat or refusals without messages
		if err := w.flush(c, 0); err != nil {
			fail(err)
		}
	}
}

// fail ends c, whose write failed, and accounts for the messages that were not written.
func (w *GroupWriter) fail(c *Conn, items []fair.Item, err error) {
	w.loseSome(items, cmp.Or(w.member.Cause(), err))
	w.release(items)
	w.Detach(c, err)
}

// release makes room for messages that were written or lost.
func (w *GroupWriter) release(items []fair.Item) {
	w.Queue.Release(items)
	if w.events.Released != nil && len(items) > 0 {
		w.events.Released(w.Queue, items)
	}
}

// flush writes the batch, which holds n messages.
func (w *GroupWriter) flush(c *Conn, n int) error {
	c.groups.Finish(&w.batch)
	size := uint64(w.batch.Len())
	err := c.Stream.Write(&w.batch, w.member.Cfg.WriteTimeout)
	w.batch.Reset()
	if err != nil {
		return err
	}
	now := time.Now()
	w.Queue.Done(n, size, now.Sub(w.encodeStart))
	w.encodeStart = now
	return nil
}
