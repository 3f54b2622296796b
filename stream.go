package rafthttp

import (
	"cmp"
	"crypto/tls"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-4d73690b/rafthttp/internal/member"

	"go.uber.org/zap"

	"github.com/seed-4d73690b/rafthttp/internal/conn"
	"github.com/seed-4d73690b/rafthttp/internal/errs"
	"github.com/seed-4d73690b/rafthttp/internal/faultpoint"
	"github.com/seed-4d73690b/rafthttp/internal/protocol"
	"github.com/seed-4d73690b/rafthttp/internal/queue"
	"github.com/seed-4d73690b/rafthttp/internal/wire"
)

// streamKind is one of the two kinds of streams of the protocol.
type streamKind int

const (
	streamMessage streamKind = iota
	streamMsgAppV2
	streamKinds // how many there are
)

// String returns the name of the stream's lane, which is its path below
// RaftStreamPrefix as well.
func (k streamKind) String() string {
	return [streamKinds]string{"message", "msgapp"}[k]
}

// endpoint is where the stream is asked for.
func (k streamKind) endpoint() protocol.Endpoint {
	return [streamKinds]protocol.Endpoint{protocol.EndpointMessage, protocol.EndpointMsgApp}[k]
}

// streamKindAt is the stream of an endpoint.
func streamKindAt(at protocol.Endpoint) streamKind {
	if at == protocol.EndpointMsgApp {
		return streamMsgAppV2
	}
	return streamMessage
}

func (k streamKind) encoder() wire.Encoder {
	if k == streamMsgAppV2 {
		return wire.NewMsgAppV2Encoder()
	}
	return wire.NewMessageEncoder()
}

// outgoingConn is a stream that a peer dialled, to be written by us. Its writer
// owns it from attach on.
type outgoingConn struct {
	kind   streamKind
	enc    wire.Encoder // of this connection: msgapp v2 keeps state
	stream *conn.Stream

	state    *tls.ConnectionState // nil: not encrypted; does not change
	outdated bool                 // the client is expected to come anew; owned by recheck
}

func newOutgoingConn(kind streamKind, s *conn.Stream, state *tls.ConnectionState) *outgoingConn {
	return &outgoingConn{kind: kind, enc: kind.encoder(), stream: s, state: state}
}

// streamWriter sends the messages of one queue over the stream that the peer
// dialled last. While there is none its queue is down.
type streamWriter struct {
	member *member.Member
	queue  *queue.Queue
	kind   streamKind

	beat  atomic.Bool // a link heartbeat is due
	given atomic.Bool // a connection was given a message

	told atomic.Int32 // calls of Observer.Sent under way

	mu   sync.Mutex    // guards conn; held while the queue changes between up and down
	conn *outgoingConn // nil while down

	since    time.Time // when conn was attached; guarded by mu, as is connects
	connects uint64

	lastWritten *outgoingConn // owned by the one worker of the queue
	batch       wire.Batch    // the same
	encodeStart time.Time     // of batch; owned by the worker
}

func newStreamWriter(l *member.Member, kind streamKind) *streamWriter {
	w := &streamWriter{member: l, kind: kind}
	w.queue = queue.New(queue.Config{
		Name: kind.String(), Limits: l.Cfg.SendLimits, Workers: 1, Work: w.work, Wait: l.Wait,
		ByKind: kind == streamMessage, BulkBytes: flushBytes,
	})
	w.queue.TrackAppends(l.Cfg.ReadTimeout, l.AppendsDrained)
	return w
}

// attach takes over c: a newer connection replaces the older one. The messages of the
// queue go on over c. It reports false, and closes c, if the peer is gone.
func (w *streamWriter) attach(c *outgoingConn) bool {
	failed := faultpoint.Fails(faultpoint.StreamAttach)
	w.mu.Lock()
	if w.member.Ctx.Err() != nil || failed {
		w.mu.Unlock()
		c.stream.Close()
		return false
	}
	old := w.conn
	w.conn, w.since = c, time.Now()
	w.connects++
	// The peer learns at once that the stream delivers; before all else.
	w.beat.Store(true)
	w.queue.Open()
	w.mu.Unlock()
	faultpoint.Hit(faultpoint.StreamAttached)
	w.heartbeat()
	if old != nil {
		if c.renews(old) {
			w.member.Log.Info("moved a stream to a connection with the peer's new certificate", zap.Stringer("stream", w.kind))
		} else {
			w.member.Log.Warn("closed a stream for a newer connection", zap.Stringer("stream", w.kind))
		}
		w.closeAfterDrain(old)
		w.member.Reports.Unreachable() // messages on it that the peer has not read
	} else {
		w.member.Log.Info("established a stream to the peer", zap.Stringer("stream", w.kind))
	}
	return true
}

// detach ends c, if it still is the connection of the writer: the messages of the queue
// are lost, and reported. Messages that were written may be lost as well, unread by the
// peer, so the peer is reported in any case.
func (w *streamWriter) detach(c *outgoingConn, cause error) {
	faultpoint.Hit(faultpoint.StreamDetach)
	w.mu.Lock()
	current := w.conn == c
	var lost []queue.Item
	if current {
		w.conn, w.since = nil, time.Time{}
		lost = w.queue.Shut()
	}
	w.mu.Unlock()
	c.stream.Close()
	if !current {
		return
	}
	faultpoint.Hit(faultpoint.StreamShut)
	w.member.Log.Warn("lost a stream to the peer", zap.Stringer("stream", w.kind), zap.Int("dropped", len(lost)), zap.Error(cause))
	w.member.Lose(w.queue, lost, cause)
	w.member.Reports.Unreachable()
}

// close ends the writer. The peer's context has ended.
func (w *streamWriter) close() {
	w.mu.Lock()
	c := w.conn
	w.conn, w.since = nil, time.Time{}
	lost := w.queue.Close()
	w.mu.Unlock()
	if c != nil {
		c.stream.Close()
	}
	faultpoint.Hit(faultpoint.StreamClosed)
	w.member.Lose(w.queue, lost, w.member.Cause())
}

func (w *streamWriter) current() *outgoingConn {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.conn
}

// heartbeat has a link heartbeat written, if the stream is up (PROTOCOL.md,
// section 7).
func (w *streamWriter) heartbeat() {
	if w.queue.IsOpen() {
		w.beat.Store(true)
		w.queue.Wake()
	}
}

// heartbeatNow is heartbeat, but writes it on the caller's goroutine if the stream
// is idle. It may block for the write timeout.
func (w *streamWriter) heartbeatNow() {
	w.beat.Store(true)
	if w.queue.AcquireWorker() {
		w.writeBatch([]queue.Item{})
		w.queue.ReleaseWorker()
	} else if w.queue.IsOpen() {
		w.queue.Wake()
	}
}

// work is the queue's worker: it encodes what is queued and writes it.
func (w *streamWriter) work() {
	var items []queue.Item
	for {
		var ok bool
		if items, ok = w.queue.Take(items, takeMessages); !ok {
			return
		}
		w.writeBatch(items)
		clear(items)
	}
}

// writeBatch writes the taken messages, and the heartbeat that is due. Only the queue's
// worker calls it.
func (w *streamWriter) writeBatch(items []queue.Item) {
	c := w.current()
	if w.lastWritten != c && w.lastWritten != nil {
		w.lastWritten.stream.Close() // it was replaced, and has had its last batch
	}
	w.lastWritten = c
	if c == nil {
		w.member.Lose(w.queue, items, cmp.Or(w.member.Cause(), errs.ErrPeerGone))
	} else {
		sent, err := w.send(c, items)
		if items = items[sent:]; err != nil {
			w.detach(c, err)
		}
	}
	w.queue.Release(items, nil)
}

// send writes the taken items to c, and makes room in the queue for each batch that
// is written. It returns how many; the others are lost.
func (w *streamWriter) send(c *outgoingConn, items []queue.Item) (sent int, err error) {
	w.batch.Reset()
	w.encodeStart = time.Now()
	if w.beat.Swap(false) {
		c.enc.AppendLinkHeartbeat(&w.batch)
	}
	if len(items) > 0 && !w.given.Load() {
		w.given.Store(true)
	}
	for i, it := range items {
		if i == sent && (w.member.Paused.Load() || w.queue.WasEmptied()) { // before it is encoded
			w.member.Lose(w.queue, items[sent:], cmp.Or(w.member.Cause(), ErrPaused))
			w.queue.Release(items[sent:], nil)
			if w.member.Paused.Load() {
				w.member.Lose(w.queue, w.queue.Empty(), ErrPaused)
			}
			sent = len(items)
			break
		}
		if i == sent {
			sent += w.queue.SkipOvertaken(items[sent:])
		}
		if i < sent {
			continue
		}
		c.enc.Append(&w.batch, it.Msg)
		if w.batch.Len() < flushBytes && i < len(items)-1 {
			continue
		}
		if err := w.flush(c, i+1-sent); err != nil {
			w.member.Lose(w.queue, items[sent:], cmp.Or(w.member.Cause(), err))
			return sent, err
		}
		w.queue.Release(items[sent:i+1], items[i+1:])
		sent = i + 1
	}
	if w.batch.Len() > 0 { // a heartbeat alone
		return sent, w.flush(c, 0)
	}
	return sent, nil
}

// flush writes the batch, which holds n messages.
func (w *streamWriter) flush(c *outgoingConn, n int) error {
	size := uint64(w.batch.Len())
	err := c.stream.Write(&w.batch, w.member.Cfg.WriteTimeout)
	w.batch.Reset()
	if err != nil {
		return err
	}
	now := time.Now()
	took := now.Sub(w.encodeStart)
	w.encodeStart = now
	w.queue.Done(n, size, took)
	if f := w.member.Cfg.Observer.Sent; f != nil {
		w.told.Add(1)
		f(w.member.RemoteID, w.queue.Name(), n, int64(size), took)
		w.told.Add(-1)
	}
	return nil
}

// tidy gives back the buffers of an idle writer. Only the goroutine of housekeeping
// calls it.
func (w *streamWriter) tidy() {
	w.queue.TrimIfIdle(w.batch.Shrink)
}
