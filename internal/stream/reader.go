package stream

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/time/rate"

	"github.com/seed-4d73690b/rafthttp/internal/callback"
	"github.com/seed-4d73690b/rafthttp/internal/conn"
	"github.com/seed-4d73690b/rafthttp/internal/faultpoint"
	"github.com/seed-4d73690b/rafthttp/internal/loglimit"
	"github.com/seed-4d73690b/rafthttp/internal/member"
)

// maxRedialInterval is the longest pause between two attempts.
const maxRedialInterval = time.Second

// errUpdated ends a stream whose peer has moved.
var errUpdated = errors.New("rafthttp: the peer's URLs changed")

// Reader dials the peer for one kind of stream, reads it, and dials again
// when it ends, until the peer ends. Its only goroutine is that of Run.
type Reader struct {
	member *member.Member
	Kind   Kind
	read   func(ctx context.Context, s *incoming) error // delivers the messages of a connection until it ends
	redial chan struct{}                                // has a value if the URLs changed

	mu          sync.Mutex
	target      context.Context         // ends when the URLs change
	cancel      context.CancelCauseFunc // of target
	conn        net.Conn                // being read; nil while down
	replacement *replacement            // continues the stream; nil: none

	since                  time.Time // when the stream began; zero while down; guarded by mu, like the next
	connects, dialFailures uint64
	history                reconnects
	bytes                  atomic.Uint64 // received by streams

	extension *Extension // of the peer; nil: the stream is one of the protocol

	// Owned by run.
	delivers time.Time         // when the stream delivered its first frame; zero: none yet
	failures map[string]string // class of each URL's last failure since the last success, as logged
	lines    *rate.Limiter     // of the log, for failed attempts
}

// NewReader returns a reader; Run makes it dial.
func NewReader(m *member.Member, kind Kind, to Handler) *Reader {
	r := newReader(m, kind)
	r.read = func(ctx context.Context, s *incoming) error { return r.deliver(ctx, s, to) }
	return r
}

func newReader(m *member.Member, kind Kind) *Reader {
	return &Reader{
		member: m, Kind: kind, history: reconnects{down: time.Now()},
		redial: make(chan struct{}, 1), failures: map[string]string{}, lines: loglimit.PerMinute(callback.MemberLines / int(Kinds)),
	}
}

// Run returns when the peer's context ends.
func (r *Reader) Run() {
	delay := r.member.Cfg.RedialInterval
	for r.member.Ctx.Err() == nil {
		began := time.Now()
		r.delivers = time.Time{}
		err := r.dialOnce(r.untilMoved())
		// The time of an attempt that hung counts: after the network recovers, the next
		// attempt must follow soon.
		spent := time.Since(began)
		if !r.delivers.IsZero() {
			spent = 0
		}
		// A peer that soon ends its streams is treated as down. Perhaps two members with
		// one id displace each other.
		lived := !r.delivers.IsZero() && time.Since(r.delivers) >= r.member.Cfg.ReadTimeout
		if lived || errors.Is(err, errUpdated) {
			delay = r.member.Cfg.RedialInterval
		}
		if r.member.Ctx.Err() != nil {
			return
		}
		if !r.pause(delay - spent) {
			return
		}
		delay = min(delay*3/2, max(maxRedialInterval, r.member.Cfg.RedialInterval))
	}
}

// pause waits before the next attempt: d and up to a quarter more, or until the
// URLs change.
func (r *Reader) pause(d time.Duration) bool {
	// Jitter keeps members that lost each other at the same moment from
	// dialling at the same time again and again.
	d = max(d, 0)
	t := time.NewTimer(d + rand.N(d/4+1))
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-r.redial:
		clear(r.failures)
		return true
	case <-r.member.Ctx.Done():
		return false
	}
}

// untilMoved returns a context that ends when the URLs change, or with the peer.
func (r *Reader) untilMoved() context.Context {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.target == nil || r.target.Err() != nil {
		r.target, r.cancel = context.WithCancelCause(r.member.Ctx)
	}
	return r.target
}

// Update ends the stream or the attempt in progress and dials at once.
func (r *Reader) Update() {
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

// dialOnce dials one stream and reads it to its end, with its replacements.
func (r *Reader) dialOnce(ctx context.Context) error {
	began, to := time.Now(), r.pick()
	s, err := r.open(ctx, to)
	if err != nil {
		if errors.Is(context.Cause(ctx), errUpdated) {
			clear(r.failures)
			return errUpdated // not a failure of the URL
		}
		r.failed(began, to.url, err)
		return err
	}
	clear(r.failures)
	for {
		err = r.readConn(ctx, s)
		if next := r.takeReplacement(); next != nil {
			s = next
			continue
		}
		if !errors.Is(err, errUpdated) {
			r.member.URLs.Unreachable(s.url)
		}
		break
	}
	switch moved := errors.Is(err, errUpdated); {
	case !r.delivers.IsZero() && moved:
		r.member.Activity.StreamMoved(err)
	case !r.delivers.IsZero():
		r.member.Activity.StreamDown(began, err)
	case !moved:
		r.member.Activity.DialFailed(began, err)
	}
	if r.member.Ctx.Err() == nil {
		r.member.Log.Warn("a stream of the peer ended", zap.Stringer("stream", r.Kind), zap.Error(err))
	}
	return err
}

// delivering notes that a connection delivered its first frame. From the first one
// of the stream on, the peer is active.
func (r *Reader) delivering() {
	if r.delivers.IsZero() {
		r.delivers = time.Now()
		r.member.Activity.StreamUp()
	}
}

// readConn reads one connection to its end.
func (r *Reader) readConn(ctx context.Context, s *incoming) error {
	r.member.Log.Info("reading a stream of the peer", zap.Stringer("stream", r.Kind), zap.String("url", s.url.String()))
	r.opened(s.conn)
	if faultpoint.Fails(faultpoint.StreamOpened) {
		s.conn.Close()
	}
	err := r.read(ctx, s)
	faultpoint.Hit(faultpoint.StreamEnded)
	r.closed()
	err = conn.CauseOf(ctx, err)
	s.conn.Close()
	s.stop()
	return r.about(s.url, err)
}

// about adds the stream to an error.
func (r *Reader) about(u url.URL, err error) error {
	return fmt.Errorf("%s stream of %s at %s: %w", r.Kind, r.member.RemoteID, u.String(), err)
}

// failed notes a failed dial of a URL that began at that time, with one line for the first of consecutive failures and
// for each of another class than the last of this URL. A class over the limit of lines is logged
// at a later attempt, unless it has changed by then.
func (r *Reader) failed(began time.Time, u url.URL, err error) {
	r.mu.Lock()
	r.dialFailures++
	r.mu.Unlock()
	r.member.Activity.DialFailed(began, err)
	why := member.ClassOf(err)
	if r.failures[u.String()] != why && r.member.Ctx.Err() == nil && r.lines.Allow() {
		r.failures[u.String()] = why
		r.member.Log.Warn("failed to dial a stream of the peer; retrying", zap.Stringer("stream", r.Kind), zap.Error(err))
	}
}

// State returns the current state.
func (r *Reader) State() State {
	st := State{Bytes: r.bytes.Load()}
	r.mu.Lock()
	defer r.mu.Unlock()
	st.Since, st.Connects, st.DialFailures = r.since, r.connects, r.dialFailures
	r.history.addTo(&st, time.Now())
	return st
}

// opened notes that a stream from the peer is up.
func (r *Reader) opened(c net.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.conn, r.since = c, time.Now()
	r.connects++
	r.history.connect(r.since)
}

// closed notes that it ended.
func (r *Reader) closed() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.conn, r.since = nil, time.Time{}
	r.history.disconnect()
}
