package stream

import (
	"cmp"
	"sync/atomic"
	"time"

	"github.com/seed-4d73690b/rafthttp/internal/callback"
	"github.com/seed-4d73690b/rafthttp/internal/errs"
	"github.com/seed-4d73690b/rafthttp/internal/latency"
	"github.com/seed-4d73690b/rafthttp/internal/member"
	"github.com/seed-4d73690b/rafthttp/internal/queue"
	"github.com/seed-4d73690b/rafthttp/internal/socket"
	"github.com/seed-4d73690b/rafthttp/internal/wire"
)

// Writer sends the messages of one queue over the stream that the peer
// dialled last. Without a stream its queue is down.
type Writer struct {
	member *member.Member
	Queue  *queue.Queue
	Kind   Kind

	beat  atomic.Bool // a link heartbeat is due
	given atomic.Bool // a connection was given a message

	told atomic.Int32 // calls of Observer.Sent in progress

	conn        *attachment
	lastWritten *Conn      // owned by the one worker of the queue
	batch       wire.Batch // owned by the one worker of the queue
	encodeStart time.Time  // of batch; owned by the worker
	sampleAt    time.Time  // when the next append may be followed; owned by the worker
}

// NewWriter returns a writer that is down until a connection is attached.
func NewWriter(m *member.Member, kind Kind) *Writer {
	w := &Writer{member: m, Kind: kind}
	w.conn = newAttachment(m, kind, w)
	w.Queue = queue.New(queue.Config{
		Name: kind.String(), Limits: m.Cfg.SendLimits, Workers: 1, Work: w.work, Wait: m.Wait,
		ByKind: kind == Message, BulkBytes: flushBytes,
	})
	w.Queue.TrackAppends(m.Cfg.ReadTimeout, m.AppendsDrained)
	return w
}

// WasGiven reports whether a connection was given a message since the start.
func (w *Writer) WasGiven() bool { return w.given.Load() }

// Calls returns the call of Observer.Sent that has not returned, if there is one.
func (w *Writer) Calls() (all []callback.Call) {
	if w.told.Load() > 0 {
		all = append(all, callback.Call{Name: "Observer.Sent", Lane: w.Queue.Name(), Peer: w.member.RemoteID})
	}
	return all
}

// Attach takes over c, which the peer dialled: a newer connection replaces the older one. The queue
// continues over c. It returns false, and closes c, if the peer has ended.
func (w *Writer) Attach(c *Conn) bool { return w.conn.attach(c) }

// Detach ends c, if it is still the connection of the writer: the messages of the queue
// are lost, and reported.
func (w *Writer) Detach(c *Conn, cause error) { w.conn.detach(c, cause) }

// Close ends the writer. The peer's context has ended.
func (w *Writer) Close() { w.conn.close() }

// State returns the current state.
func (w *Writer) State() State { return w.conn.state(State{Bytes: w.Queue.Bytes()}) }

// SendState returns how far what was written to the connection has got; false if there is none, or the system does not tell.
func (w *Writer) SendState() (socket.SendState, bool) { return w.conn.sendState() }

// Recheck checks the connection that the peer dialled.
func (w *Writer) Recheck() { w.conn.recheck() }

// open implements attachedQueue.
func (w *Writer) open() {
	w.beat.Store(true)
	w.Queue.Open()
}

// shut implements attachedQueue.
func (w *Writer) shut(forever bool) (int, func(cause error)) {
	shut := w.Queue.Shut
	if forever {
		shut = w.Queue.Close
	}
	lost := shut()
	return len(lost), func(cause error) { w.member.Lose(w.Queue, lost, cause) }
}

// interrupted implements attachedQueue.
func (w *Writer) interrupted() { w.member.Latency.Out.Restart() }

// Heartbeat makes the worker write a link heartbeat, if the stream is up (PROTOCOL.md,
// section 7).
func (w *Writer) Heartbeat() {
	if w.Queue.IsOpen() {
		w.beat.Store(true)
		w.Queue.Wake()
	}
}

// HeartbeatNow is Heartbeat, but writes it on the caller's goroutine if the stream
// is idle. It may block for the write timeout.
func (w *Writer) HeartbeatNow() {
	w.beat.Store(true)
	if w.Queue.AcquireWorker() {
		w.writeBatch([]queue.Item{})
		w.Queue.ReleaseWorker()
	} else if w.Queue.IsOpen() {
		w.Queue.Wake()
	}
}

// work is the queue's worker: it encodes queued messages and writes them.
func (w *Writer) work() {
	var items []queue.Item
	for {
		var ok bool
		if items, ok = w.Queue.Take(items, takeMessages); !ok {
			return
		}
		w.writeBatch(items)
		clear(items)
	}
}

// writeBatch writes the taken messages, and a heartbeat that is due. Only the queue's
// worker calls it.
func (w *Writer) writeBatch(items []queue.Item) {
	c := w.conn.current()
	if w.lastWritten != c && w.lastWritten != nil {
		w.lastWritten.Stream.Close() // it was replaced, and its last batch is written
	}
	w.lastWritten = c
	if c == nil {
		w.member.Lose(w.Queue, items, cmp.Or(w.member.Cause(), errs.ErrPeerGone))
	} else {
		sent, err := w.send(c, items)
		if items = items[sent:]; err != nil {
			w.Detach(c, err)
		}
	}
	w.Queue.Release(items, nil)
}

// send writes the taken items to c, and makes room in the queue for each batch that
// is written. It returns how many; the others are lost.
func (w *Writer) send(c *Conn, items []queue.Item) (sent int, err error) {
	w.batch.Reset()
	w.encodeStart = time.Now()
	if w.beat.Swap(false) {
		c.enc.AppendLinkHeartbeat(&w.batch)
	}
	if len(items) > 0 && !w.given.Load() {
		w.given.Store(true)
	}
	for i, it := range items {
		if i == sent && (w.member.Paused.Load() || w.Queue.WasEmptied()) { // before encoding
			w.member.Lose(w.Queue, items[sent:], cmp.Or(w.member.Cause(), errs.ErrPaused))
			w.Queue.Release(items[sent:], nil)
			if w.member.Paused.Load() {
				w.member.Lose(w.Queue, w.Queue.Empty(), errs.ErrPaused)
			}
			sent = len(items)
			break
		}
		if i == sent {
			sent += w.Queue.SkipOvertaken(items[sent:])
		}
		if i < sent {
			continue
		}
		c.enc.Append(&w.batch, it.Msg)
		if w.batch.Len() < flushBytes && i < len(items)-1 {
			continue
		}
		if err := w.flush(c, items[sent:i+1]); err != nil {
			w.member.Lose(w.Queue, items[sent:], cmp.Or(w.member.Cause(), err))
			return sent, err
		}
		w.Queue.Release(items[sent:i+1], items[i+1:])
		sent = i + 1
	}
	if w.batch.Len() > 0 { // a heartbeat without messages
		return sent, w.flush(c, nil)
	}
	return sent, nil
}

// flush writes the batch, which holds these items.
func (w *Writer) flush(c *Conn, items []queue.Item) error {
	n, size := len(items), uint64(w.batch.Len())
	sampled := w.sample(c, items)
	err := c.Stream.Write(&w.batch, w.member.Cfg.WriteTimeout)
	w.batch.Reset()
	if err != nil {
		if sampled {
			w.member.Latency.Out.Failed(c.Stream)
		}
		return err
	}
	now := time.Now()
	took := now.Sub(w.encodeStart)
	w.encodeStart = now
	w.Queue.Done(n, size, took)
	if sampled {
		w.member.Latency.Out.Written(c.Stream, now)
	}
	if f := w.member.Cfg.Observer.Sent; f != nil {
		w.told.Add(1)
		f(w.member.RemoteID, w.Queue.Name(), n, int64(size), took)
		w.told.Add(-1)
	}
	return nil
}

// sample follows one of the first appends of a batch that is about to be written, if that is due, and reports whether it
// does.
func (w *Writer) sample(c *Conn, items []queue.Item) bool {
	if len(items) == 0 {
		return false
	}
	out, now := &w.member.Latency.Out, w.encodeStart
	if out.IsFollowing() {
		out.Sent(items[0].Msg, now)
		return false
	}
	if now.Before(w.sampleAt) || !items[0].IsTracked() {
		return false
	}
	w.sampleAt = now.Add(latency.Every)
	for _, it := range items[:min(len(items), sampleAmong)] {
		if it.IsTracked() && out.Begin(it.Msg, w.Queue.Age(it, now), c.Stream, now) {
			return true
		}
	}
	return false
}

// sampleAmong is how many appends of a batch are looked at: those that tell only a commit index are not followed.
const sampleAmong = 8

// Tidy releases the buffers of an idle writer. Only the goroutine of housekeeping
// calls it.
func (w *Writer) Tidy() {
	w.Queue.TrimIfIdle(w.batch.Shrink)
}
