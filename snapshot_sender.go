package rafthttp

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"
	"golang.org/x/time/rate"

	"github.com/seed-4d73690b/rafthttp/internal/wire"
	"github.com/seed-4d73690b/rafthttp/snap"
)

const (
	// snapshotChunk is how much of a database is read and written at once.
	snapshotChunk = 64 << 10
	// refusalGrace is how long a sender whose connection broke waits for the
	// answer that may say why.
	refusalGrace = 500 * time.Millisecond
	// readerGrace is how long a closed snapshot reader has to end a Read.
	readerGrace = time.Second
)

// snapshotPace is shared by all snapshots that a Transport sends.
type snapshotPace struct {
	limiter *rate.Limiter
	chunk   int           // bytes; small enough that a paced sender never looks stalled
	slots   chan struct{} // one for each transfer in flight
}

func newSnapshotPace(s *settings) *snapshotPace {
	chunk := snapshotChunk
	if s.snapshotRate != rate.Inf {
		// At least four chunks of each transfer in a read timeout of its receiver.
		perChunk := float64(s.snapshotRate) * s.readTimeout.Seconds() / float64(4*s.maxSnapshots)
		chunk = int(max(1, min(float64(snapshotChunk), perChunk)))
	}
	return &snapshotPace{
		limiter: rate.NewLimiter(s.snapshotRate, snapshotChunk),
		chunk:   chunk,
		slots:   make(chan struct{}, s.maxSnapshots),
	}
}

// snapshotSender transfers snapshots to one peer, each on a connection of its
// own, and reports each exactly once.
type snapshotSender struct {
	*link
	pace *snapshotPace

	mu        sync.Mutex
	transfers map[*outgoingSnapshot]struct{} // nil once closed
}

func newSnapshotSender(l *link, pace *snapshotPace) *snapshotSender {
	return &snapshotSender{link: l, pace: pace, transfers: map[*outgoingSnapshot]struct{}{}}
}

// send begins a transfer in the background. It reports false, and leaves m
// alone, if the peer is gone.
func (s *snapshotSender) send(m *snap.Message, paused bool) bool {
	t := &outgoingSnapshot{
		snapshotSender: s, m: m, started: time.Now(), index: m.GetSnapshot().GetMetadata().GetIndex(),
		size: m.DatabaseSize(),
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.transfers == nil {
		return false
	}
	run := t.run
	switch {
	case paused:
		run = func() { t.finish(ErrPaused) }
	case len(s.transfers) >= maxPeerSnapshots:
		run = func() { t.finish(ErrQueueFull) }
	default:
		s.transfers[t] = struct{}{}
	}
	return s.spawn(run)
}

// close refuses further snapshots. The link's context has ended, and with it
// those under way.
func (s *snapshotSender) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.transfers = nil
}

func (s *snapshotSender) status() (all []SnapshotStatus) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for t := range s.transfers {
		all = append(all, SnapshotStatus{
			Index: t.index, Bytes: t.sent.Load(), Total: t.size, Started: t.started,
		})
	}
	return all
}

// outgoingSnapshot is one transfer.
type outgoingSnapshot struct {
	*snapshotSender
	m       *snap.Message
	frame   []byte // head of the body: length and message (protocol: the head of a snapshot body)
	size    int64  // of the database
	index   uint64
	started time.Time

	sent  atomic.Int64 // of the database
	moved atomic.Int64 // counts progress of any kind
}

// snapshotHead returns what precedes the database in the body.
func snapshotHead(m *raftpb.Message) []byte {
	size := wire.MessageSize(m)
	head := binary.BigEndian.AppendUint64(make([]byte, 0, 8+size), uint64(size))
	return wire.AppendMessage(head, m)
}

func (t *outgoingSnapshot) run() {
	select {
	case t.pace.slots <- struct{}{}:
	case <-t.ctx.Done():
		t.finish(t.cause())
		return
	}
	err := t.deliver()
	<-t.pace.slots
	t.finish(err)
}

// deliver makes the one attempt, while the transfer has its turn.
func (t *outgoingSnapshot) deliver() error {
	if size := wire.MessageSize(t.m.Message); size > maxSnapshotHeadBytes {
		return &wire.SizeError{What: "message at the head of a snapshot", Size: uint64(size), Limit: maxSnapshotHeadBytes}
	}
	t.frame = snapshotHead(t.m.Message)
	u := t.urls.pick()
	t.log.Info("sending database snapshot", zap.Uint64("snapshot-index", t.index), zap.Int64("bytes", t.size), zap.String("url", u.String()))
	err := t.transfer(u)
	if err != nil {
		if !isReaderFailure(err) { // which is not the peer's
			t.urls.unreachable(u)
			t.activity.failed(err, true)
			t.reportRemoved(err)
			t.reports.lost()
		}
		return fmt.Errorf("snapshot %x to %s at %s: %w", t.index, t.peer, u.String(), err)
	}
	t.activity.postOK()
	return nil
}

// closeReader ends the application's part of the transfer. A Close that hangs is
// left to itself.
func (t *outgoingSnapshot) closeReader(err error) {
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		t.m.CloseWithError(err)
	}()
	grace := time.NewTimer(readerGrace)
	defer grace.Stop()
	select {
	case <-closed:
	case <-grace.C:
		t.log.Warn("the reader of a database snapshot does not return from Close", zap.Uint64("snapshot-index", t.index))
	}
}

// finish tells everyone concerned how the transfer ended.
func (t *outgoingSnapshot) finish(err error) {
	t.mu.Lock()
	delete(t.transfers, t)
	t.mu.Unlock()
	if err != nil {
		t.counters.failedSnapshots.Add(1)
		t.log.Warn("failed to send database snapshot", zap.Uint64("snapshot-index", t.index), zap.Int64("bytes-sent", t.sent.Load()), zap.Error(err))
	} else {
		t.log.Info("sent database snapshot", zap.Uint64("snapshot-index", t.index), zap.Int64("bytes", t.size), zap.Duration("took", time.Since(t.started)))
	}
	t.closeReader(err)
	t.reports.snapshot(err)
	if f := t.observer.SnapshotSent; f != nil {
		f(t.peer, t.index, t.sent.Load(), time.Since(t.started), err)
	}
}

// transfer sends the snapshot to u and waits for the answer. When it returns,
// the reader is no longer read, unless it holds a Read for longer than
// readerGrace after it was closed.
func (t *outgoingSnapshot) transfer(u url.URL) error {
	ctx, cancel := context.WithCancelCause(t.ctx)
	defer cancel(nil)
	conn, err := t.dialer.connect(ctx, u)
	if err != nil {
		return causeOf(ctx, err)
	}
	answered, written := make(chan error, 1), make(chan error, 1)
	t.wg.Go(func() { answered <- t.answer(conn) })
	go func() { written <- t.write(ctx, conn, u) }() // joined below, with a bound

	joined, err := t.supervise(ctx, written, answered)
	cancel(err)
	conn.Close()
	if err != nil {
		t.closeReader(err) // ends a Read under way
	}
	if joined {
		return err
	}
	grace := time.NewTimer(readerGrace)
	defer grace.Stop()
	select {
	case <-written: //nolint:errcheck // err is the cause of it
	case <-grace.C:
		t.log.Warn("the reader of a database snapshot does not return from Read after Close", zap.Uint64("snapshot-index", t.index))
	}
	return err
}

// supervise waits for the end of a transfer, and reports whether the writing
// goroutine has ended.
func (t *outgoingSnapshot) supervise(ctx context.Context, written, answered <-chan error) (joined bool, err error) {
	tick := time.NewTicker(t.readTimeout / 4)
	defer tick.Stop()
	var deadline <-chan time.Time // for the answer
	still, last := 0, t.moved.Load()
	for {
		select {
		case err := <-answered:
			if err != nil || joined {
				return joined, err
			}
			return t.endOfWriting(ctx, written)
		case err := <-written:
			joined, written = true, nil
			if err != nil {
				return joined, t.refusal(ctx, answered, err)
			}
			timer := time.NewTimer(t.snapshotAnswerTimeout)
			defer timer.Stop()
			deadline = timer.C
		case <-tick.C:
			now := t.moved.Load()
			if now != last || joined {
				still, last = 0, now
			} else if still++; still >= 4 {
				return joined, ErrStalled
			}
		case <-deadline:
			return joined, fmt.Errorf("no answer to the snapshot: %w", ErrStalled)
		case <-ctx.Done():
			return joined, context.Cause(ctx)
		}
	}
}

// endOfWriting waits for the writing goroutine once the receiver has answered
// that it has the whole snapshot: the answer may be there before Write returns.
func (t *outgoingSnapshot) endOfWriting(ctx context.Context, written <-chan error) (joined bool, err error) {
	grace := time.NewTimer(readerGrace)
	defer grace.Stop()
	select {
	case err := <-written:
		return true, err
	case <-grace.C:
		return false, errors.New("the receiver answered before the end of the snapshot")
	case <-ctx.Done():
		return false, context.Cause(ctx)
	}
}

// refusal returns the answer that made the writing fail with err, if one came.
func (t *outgoingSnapshot) refusal(ctx context.Context, answered <-chan error, err error) error {
	if isReaderFailure(err) {
		return err
	}
	grace := time.NewTimer(refusalGrace)
	defer grace.Stop()
	select {
	case answer := <-answered:
		if answer != nil && !errors.Is(answer, io.EOF) {
			return answer
		}
	case <-grace.C:
	case <-ctx.Done():
	}
	return causeOf(ctx, err)
}

// answer reads the receiver's answer, which may come at any time.
func (t *outgoingSnapshot) answer(conn net.Conn) error {
	resp, err := http.ReadResponse(bufio.NewReader(io.LimitReader(conn, 2*maxAnswerBytes)), nil)
	if err != nil {
		return err
	}
	return answerError(resp, http.StatusNoContent)
}

// write sends the request (protocol: endpoints; the head of a snapshot body).
func (t *outgoingSnapshot) write(ctx context.Context, conn net.Conn, u url.URL) error {
	target, err := requestURL(u, RaftSnapshotPrefix)
	if err != nil {
		return err
	}
	h := t.requestHeader()
	h.Set("Host", target.Host)
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Content-Length", fmt.Sprint(int64(len(t.frame))+t.size))
	h.Set("Connection", "close")
	src := &exactReader{r: t.m.ReadCloser, left: t.size}
	if err := src.begin(); err != nil {
		return err
	}
	bw := bufio.NewWriterSize(conn, snapshotChunk)
	fmt.Fprintf(bw, "POST %s HTTP/1.1\r\n", target.RequestURI())
	if err := h.Write(bw); err != nil {
		return err
	}
	if _, err := bw.WriteString("\r\n"); err != nil {
		return err
	}
	if _, err := bw.Write(t.frame); err != nil {
		return err
	}
	if err := bw.Flush(); err != nil {
		return err
	}
	t.moved.Add(1)
	return t.writeDatabase(ctx, conn, src)
}

// writeDatabase copies src to conn, at the pace that is set. The last
// bytes go out only once the reader has shown its end: a receiver must not take
// a snapshot for whole that is not.
func (t *outgoingSnapshot) writeDatabase(ctx context.Context, conn net.Conn, src *exactReader) error {
	if src.left == 0 {
		return nil
	}
	buf := make([]byte, t.pace.chunk)
	for {
		n, err := src.Read(buf)
		if n > 0 {
			t.moved.Add(1)
			if err := t.pace.limiter.WaitN(ctx, n); err != nil {
				return err
			}
			if _, err := conn.Write(buf[:n]); err != nil {
				return err
			}
			t.sent.Add(int64(n))
			t.counters.sentSnapshots.Add(uint64(n))
			t.moved.Add(1)
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
