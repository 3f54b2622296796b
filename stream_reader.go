package rafthttp

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"
	"golang.org/x/time/rate"

	"github.com/seed-4d73690b/rafthttp/internal/wire"
)

// chunkBuffer is the read buffer below a chunked body, which a member that
// cannot hijack sends: its chunks are as small as its writes.
const chunkBuffer = 32 << 10

// streamReader dials the peer for one kind of stream, reads it, and dials again
// when it ends, for as long as the peer lives. Its one goroutine is run's.
type streamReader struct {
	*link
	kind    streamKind
	receive func(items []item, wait time.Duration) (roomy bool)
	refuse  func(m *raftpb.Message, cause error)
	redial  chan struct{} // has a value when the URLs changed

	mu     sync.Mutex
	cancel context.CancelCauseFunc // of the attempt or stream under way

	since                  time.Time // when the stream began; zero while down; guarded by mu, as is the next
	connects, dialFailures uint64
	bytes                  atomic.Uint64 // that streams brought

	failing bool // the last attempt failed, which was logged; owned by run
	lines   *rate.Limiter
}

func newStreamReader(p *peer, kind streamKind) *streamReader {
	return &streamReader{
		link: p.link, kind: kind, receive: p.receive, refuse: p.refuse,
		redial: make(chan struct{}, 1), lines: newLineLimit(),
	}
}

// run returns when the peer's context ends.
func (r *streamReader) run() {
	delay := r.redialInterval
	for r.ctx.Err() == nil {
		ctx, cancel := context.WithCancelCause(r.ctx)
		r.mu.Lock()
		r.cancel = cancel
		r.mu.Unlock()
		delivered, err := r.attempt(ctx)
		cancel(nil)
		if delivered {
			delay = r.redialInterval
		}
		if r.ctx.Err() != nil {
			return
		}
		r.reportRemoved(err)
		if !r.pause(delay) {
			return
		}
		delay = min(delay*3/2, max(maxRedialInterval, r.redialInterval))
	}
}

// pause waits before the next attempt: d and up to a quarter more, or until the
// URLs change.
func (r *streamReader) pause(d time.Duration) bool {
	// What is random keeps members that lost each other at the same moment from
	// meeting again and again.
	t := time.NewTimer(d + rand.N(d/4+1))
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-r.redial:
		return true
	case <-r.ctx.Done():
		return false
	}
}

// update ends the stream or the attempt under way and dials at once.
func (r *streamReader) update() {
	select {
	case r.redial <- struct{}{}:
	default:
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cancel != nil {
		r.cancel(errUpdated)
	}
}

// attempt dials and reads one stream to its end, and reports whether anything
// came: a peer that accepts streams and drops them is as good as down.
func (r *streamReader) attempt(ctx context.Context) (delivered bool, err error) {
	u := r.urls.pick()
	s, err := r.open(ctx, u)
	if err != nil {
		if errors.Is(context.Cause(ctx), errUpdated) {
			return false, errUpdated // which says nothing about the URL
		}
		r.urls.unreachable(u)
		err = fmt.Errorf("%s stream of %s at %s: %w", r.kind, r.peer, u.String(), causeOf(ctx, err))
		r.failed(err)
		return false, err
	}
	if r.failing = false; r.lines.Allow() {
		r.log.Info("reading a stream of the peer", zap.Stringer("stream", r.kind), zap.String("url", u.String()))
	}
	r.opened()
	r.activity.streamUp()
	delivered, err = r.read(s)
	r.closed()
	err = causeOf(ctx, err)
	s.conn.Close()
	s.stop()
	if !errors.Is(err, errUpdated) {
		r.urls.unreachable(u)
	}
	err = fmt.Errorf("%s stream of %s at %s: %w", r.kind, r.peer, u.String(), err)
	r.activity.streamDown(err)
	if r.ctx.Err() == nil && r.lines.Allow() {
		r.log.Warn("a stream of the peer ended", zap.Stringer("stream", r.kind), zap.Error(err))
	}
	return delivered, err
}

// failed notes a dial that failed, with one line for the first of a row.
func (r *streamReader) failed(err error) {
	r.mu.Lock()
	r.dialFailures++
	r.mu.Unlock()
	r.activity.failed(err, false)
	if !r.failing && r.ctx.Err() == nil && r.lines.Allow() {
		r.failing = true
		r.log.Warn("failed to dial a stream of the peer; trying on", zap.Stringer("stream", r.kind), zap.Error(err))
	}
}

// causeOf returns why ctx ended in place of the error that this led to.
func causeOf(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	if errors.Is(err, io.EOF) {
		return errPeerGone
	}
	var timeout interface{ Timeout() bool }
	if errors.As(err, &timeout) && timeout.Timeout() {
		return fmt.Errorf("%w: %w", ErrStalled, err)
	}
	return err
}

// incoming is a stream of the peer, to be read.
type incoming struct {
	conn net.Conn
	body io.Reader
	stop func() bool // ends the closing of conn with the context
}

// open dials u and asks for the stream (protocol: endpoints; request headers).
func (r *streamReader) open(ctx context.Context, u url.URL) (*incoming, error) {
	conn, err := r.dialer.connect(ctx, u)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	body, err := r.handshake(conn, u)
	if err != nil {
		stop()
		conn.Close()
		return nil, err
	}
	return &incoming{conn: conn, body: body, stop: stop}, nil
}

// handshake sends the request and reads the head of the answer.
func (r *streamReader) handshake(conn net.Conn, u url.URL) (io.Reader, error) {
	if err := conn.SetDeadline(time.Now().Add(r.readTimeout)); err != nil {
		return nil, err
	}
	target, err := requestURL(u, RaftStreamPrefix+"/"+r.kind.endpoint()+"/"+r.id.String())
	if err != nil {
		return nil, err
	}
	req := &http.Request{Method: http.MethodGet, URL: target, Host: target.Host, Header: r.requestHeader()}
	req.Header.Set(headerRaftTo, r.peer.String())
	r.stateExtensions(req.Header)
	if err := req.Write(conn); err != nil {
		return nil, err
	}
	head := &io.LimitedReader{R: conn, N: maxAnswerBytes}
	br := bufio.NewReader(head)
	resp, err := http.ReadResponse(br, req)
	if err != nil {
		if head.N <= 0 {
			return nil, fmt.Errorf("head of the answer is over %d bytes", maxAnswerBytes)
		}
		return nil, err
	}
	if err := checkStreamAnswer(resp); err != nil {
		return nil, err
	}
	r.sawVersion(resp.Header)
	r.learnExtensions(resp.Header)
	return streamBody(resp, br, conn)
}

// checkStreamAnswer returns what is wrong with the head of an answer. That we
// were removed is believed only of a server that states its version, as stock
// does: it is not for any web server to say.
func checkStreamAnswer(resp *http.Response) error {
	err := answerError(resp, http.StatusOK)
	if err != nil && !errors.Is(err, ErrMemberRemoved) {
		return err
	}
	v, verr := headerVersionOf(resp.Header, headerVersion)
	if verr != nil {
		return verr
	}
	if v.less(oldestStreamServer) {
		return fmt.Errorf("server version %d.%d: %w", v.major, v.minor, ErrIncompatibleVersion)
	}
	return err
}

// streamBody returns the body of the answer without net/http's buffer where it
// is plain. What is in br already comes first.
func streamBody(resp *http.Response, br *bufio.Reader, conn net.Conn) (io.Reader, error) {
	rest, err := br.Peek(br.Buffered())
	if err != nil {
		return nil, err
	}
	raw := io.MultiReader(&sliceReader{rest}, conn)
	switch {
	case len(resp.TransferEncoding) > 0:
		return httputil.NewChunkedReader(bufio.NewReaderSize(raw, chunkBuffer)), nil
	case resp.ContentLength >= 0:
		return io.LimitReader(raw, resp.ContentLength), nil
	case len(rest) == 0:
		return conn, nil
	default:
		return raw, nil
	}
}

// sliceReader reads a slice once and then lets go of it.
type sliceReader struct{ p []byte }

func (s *sliceReader) Read(p []byte) (int, error) {
	if len(s.p) == 0 {
		s.p = nil
		return 0, io.EOF
	}
	n := copy(p, s.p)
	s.p = s.p[n:]
	return n, nil
}

// read delivers what the stream brings until it ends, and reports whether
// anything came.
func (r *streamReader) read(s *incoming) (delivered bool, err error) {
	d := &delivery{reader: r, s: s}
	if err := s.conn.SetWriteDeadline(time.Time{}); err != nil {
		return false, err
	}
	if r.kind == streamMsgAppV2 {
		// A full append lane pushes back on the stream that brings nothing else.
		d.wait = r.readTimeout / 2
		return d.run(wire.NewMsgAppV2Decoder(wire.NewReader(d), uint64(r.id), uint64(r.peer), r.messageLimits))
	}
	return d.run(wire.NewMessageDecoder(wire.NewReader(d), r.messageLimits))
}

// deliverMessages is how many messages are handed over at once, at most.
const deliverMessages = 128

// delivery is the source below a decoder. It hands over what was decoded before
// it waits for more, so that a burst costs one handover and a lone message does
// not wait for company.
type delivery struct {
	reader *streamReader
	s      *incoming
	wait   time.Duration
	full   bool // the append lane had no room last
	items  []item
}

// Read implements io.Reader. Silence for the read timeout ends the stream.
func (d *delivery) Read(p []byte) (int, error) {
	d.flush()
	if err := d.s.conn.SetReadDeadline(time.Now().Add(d.reader.readTimeout)); err != nil {
		return 0, err
	}
	n, err := d.s.body.Read(p)
	d.reader.bytes.Add(uint64(max(n, 0)))
	return n, err
}

func (d *delivery) flush() {
	if len(d.items) > 0 {
		// A lane that found no room in time is not waited for until it has some.
		wait := d.wait
		if d.full {
			wait = 0
		}
		d.full = !d.reader.receive(d.items, wait)
		clear(d.items)
		d.items = d.items[:0]
	}
}

func (d *delivery) run(dec wire.Decoder) (delivered bool, err error) {
	defer d.flush()
	for {
		m, err := dec.Decode()
		if err != nil {
			return delivered, err
		}
		delivered = true
		if m == nil {
			continue // a link heartbeat: raft does not see it
		}
		if err := d.reader.admit(m, d.reader.peer); err != nil {
			d.reader.refuse(m, err)
			continue
		}
		if d.items = append(d.items, newItem(m)); len(d.items) == deliverMessages {
			d.flush()
		}
	}
}
