package rafthttp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/time/rate"

	"github.com/seed-4d73690b/rafthttp/internal/snapshot"
	"github.com/seed-4d73690b/rafthttp/internal/wire"
	"github.com/seed-4d73690b/rafthttp/snap"
)

const (
	// refusalGrace is how long a sender whose connection broke waits for the
	// answer that may say why.
	refusalGrace = 500 * time.Millisecond
	// readerGrace is how long a closed snapshot reader has to end a Read.
	readerGrace = time.Second

	// maxFutileAttempts is how often a transfer that can be resumed is tried again
	// without getting any further.
	maxFutileAttempts = 5
	// minRetryWait and maxRetryWait bound the time between two attempts.
	minRetryWait, maxRetryWait = 100 * time.Millisecond, 2 * time.Second
)

// snapshotSender transfers snapshots to one peer, each on connections of its
// own, and reports each exactly once.
type snapshotSender struct {
	*link
	pace  *snapshot.Pace
	busy  func() bool   // messages for the peer wait
	lines *rate.Limiter // of the log, transfers

	mu        sync.Mutex
	transfers map[*outgoingSnapshot]struct{} // nil once closed
	queue     chan struct{}                  // closed by the next dropQueued
	begun     uint64                         // how many there were
	last      *snapshot.Status
}

func newSnapshotSender(l *link, pace *snapshot.Pace, busy func() bool) *snapshotSender {
	return &snapshotSender{link: l, pace: pace, busy: busy, lines: newLimiter(memberLines),
		transfers: map[*outgoingSnapshot]struct{}{}, queue: make(chan struct{})}
}

// send begins a transfer in the background. It reports false, and leaves m
// alone, if the peer is gone.
func (s *snapshotSender) send(m *snap.Message) bool {
	meta := m.GetSnapshot().GetMetadata()
	t := &outgoingSnapshot{snapshotSender: s, m: m, size: m.DatabaseSize()}
	t.key = snap.Transfer{Term: meta.GetTerm(), Index: meta.GetIndex(), Size: t.size}
	t.Peer, t.PeerBytes = s.peer, &s.counters.sentSnapshots
	t.Observe, t.Every = s.events.progress(&t.Progress), s.readTimeout/snapshot.StallTicks
	t.Begin(time.Now(), t.size)
	t.Index.Store(meta.GetIndex())
	t.log = snapshot.TransferLog(s.lines, s.log.With(zap.Uint64("snapshot-index", t.Index.Load())))
	s.mu.Lock()
	defer s.mu.Unlock()
	t.queued = s.queue
	if s.transfers == nil {
		return false
	}
	s.begun++
	t.number, t.older, t.done = s.begun, s.sameAs(t), make(chan struct{})
	run := t.run
	switch {
	case s.paused.Load():
		run = func() { t.finish(ErrPaused) }
	case len(s.transfers) >= maxPeerSnapshots:
		run = func() { t.finish(ErrQueueFull) }
	default:
		s.transfers[t] = struct{}{}
	}
	return s.spawn(run)
}

// dropQueued drops the snapshots that wait for their turn.
func (s *snapshotSender) dropQueued() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.queue)
	s.queue = make(chan struct{})
}

// sameAs returns the transfer that began last of those under way that bring what t does,
// or nil. It is called with mu held.
func (s *snapshotSender) sameAs(t *outgoingSnapshot) (last *outgoingSnapshot) {
	for other := range s.transfers {
		if other.key == t.key && (last == nil || other.number > last.number) {
			last = other
		}
	}
	return last
}

// close refuses further snapshots. The link's context has ended, and with it
// those under way.
func (s *snapshotSender) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.transfers = nil
}

func (s *snapshotSender) status() (all []SnapshotStatus, last *SnapshotStatus) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var states []snapshot.Status
	for t := range s.transfers {
		states = append(states, t.State())
	}
	return snapshotStatuses(states, s.last)
}

// outgoingSnapshot is one transfer.
type outgoingSnapshot struct {
	*snapshotSender
	snapshot.Progress
	log    *zap.Logger     // names the snapshot; silent where there are too many
	queued <-chan struct{} // closed when what waits is dropped
	m      *snap.Message
	key    snap.Transfer
	size   int64  // of the database
	frame  []byte // head of the body: length and message (protocol: the head of a snapshot body)

	number uint64            // of the transfers to this peer
	older  *outgoingSnapshot // the one before it that brings the same; nil if none, or once it has ended
	done   chan struct{}     // closed when the transfer has ended
	result error             // then

	acquired bool // it is one of those that are sent

	db    *snapshot.Source
	sums  snapshot.Checksums // of what db has read
	moved atomic.Int64       // counts progress of any kind
	told  atomic.Int64       // how often the receiver said that it works without reading

	readerClosed    bool           // or stuck: there is no other attempt
	receiverResumes bool           // as it said on the last connection on which it answered
	maxAckedOffset  int64          // how far it was at most when an attempt began
	maxSummed       int64          // how much was summed up at most before an attempt
	rejected        snapshot.Acked // what it has is not what we have
}

func (t *outgoingSnapshot) run() {
	defer close(t.done)
	t.result = t.deliver()
	t.finish(t.result)
}

// deliver waits for its turn and makes attempts.
func (t *outgoingSnapshot) deliver() error {
	if size := wire.MessageSize(t.m.Message); size > maxSnapshotHeadBytes {
		return &wire.SizeError{What: "message at the head of a snapshot", Size: uint64(size), Limit: maxSnapshotHeadBytes}
	}
	t.frame = snapshotHead(t.m.Message)
	if older := t.older; older != nil {
		// Side by side they would take the receiver's file from each other.
		t.older = nil
		select {
		case <-older.done:
		case <-t.queued:
			return ErrPaused
		case <-t.ctx.Done():
			return t.cause()
		}
		if !snapshot.IsReaderFailure(older.result) && bytes.Equal(older.frame, t.frame) {
			return older.result
		}
	}
	if err := t.acquire(); err != nil {
		return err
	}
	defer t.release()
	return t.tryOn()
}

// acquire waits for the turn of the transfer, which it has until release.
func (t *outgoingSnapshot) acquire() error {
	t.acquired = t.pace.Acquire(t.ctx, t.queued)
	switch {
	case t.acquired:
		return nil
	case t.ctx.Err() != nil:
		return t.cause()
	}
	return ErrPaused
}

func (t *outgoingSnapshot) release() {
	if t.acquired {
		t.acquired = false
		t.pace.Release()
	}
}

// tryOn makes attempts: one, unless the receiver can go on with what an earlier one has
// brought.
func (t *outgoingSnapshot) tryOn() error {
	t.db = snapshot.NewSource(readerOf(t.m), t.size)
	if err := t.prepare(func(context.Context) error { return t.db.Begin() }); err != nil {
		return err
	}
	wait := minRetryWait
	for futile := 0; ; futile++ {
		acked, summed := t.maxAckedOffset, t.maxSummed
		err := t.attempt()
		if err == nil {
			t.activity.postOK()
			return nil
		}
		if t.maxAckedOffset > acked || t.maxSummed > summed {
			futile, wait = 0, minRetryWait
		}
		if futile == maxFutileAttempts || !t.isRetryable(err) {
			return err
		}
		t.Failed(err)
		t.log.Info("the transfer of a database snapshot broke off and is resumed",
			zap.Int64("bytes", t.Bytes.Load()), zap.Error(err))
		if !sleep(t.ctx, wait+rand.N(wait/4)) {
			return t.cause()
		}
		wait = min(2*wait, maxRetryWait)
	}
}

// attempt makes one.
func (t *outgoingSnapshot) attempt() error {
	t.Attempts.Add(1)
	u := t.urls.pick()
	if t.Attempts.Load() == 1 {
		t.log.Info("sending database snapshot", zap.Int64("bytes", t.size), zap.String("url", u.String()))
		snapshot.WarnUnlessNamed(t.log, uint64(t.link.peer), t.m.GetSnapshot())
	}
	err := t.db.Unchanged()
	if err == nil {
		err = t.transfer(u)
	}
	if err == nil {
		return nil
	}
	if changed := t.db.Unchanged(); changed != nil && !t.readerClosed {
		err = changed // which is why, whatever came of it
	}
	if !snapshot.IsReaderFailure(err) { // which is not the peer's
		t.urls.unreachable(u)
		t.activity.failed(err, true)
		t.reports.lost()
	}
	return fmt.Errorf("snapshot %d to %s at %s: %w", t.Index.Load(), t.link.peer, u.String(), err)
}

// isRetryable reports whether to try again after err.
func (t *outgoingSnapshot) isRetryable(err error) bool {
	if t.ctx.Err() != nil || t.readerClosed || !t.db.CanSeek() || !t.receiverResumes || snapshot.IsReaderFailure(err) {
		return false
	}
	var refused *StatusError
	switch {
	case errors.Is(err, errNoAnswer):
		return false
	case errors.Is(err, ErrSnapshotCut), errors.Is(err, ErrStalled), errors.Is(err, snapshot.ErrOffset):
		return true
	case errors.Is(err, ErrSnapshotBusy):
		return t.Attempts.Load() > 1 // perhaps with what we have given up
	}
	if errors.As(err, &refused) {
		return refused.Code == http.StatusServiceUnavailable // it is being restarted, or behind with Process
	}
	return !isVerdict(err) // so it could not be reached
}

func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// closeReader ends the application's part of the transfer.
func (t *outgoingSnapshot) closeReader(err error) {
	t.readerClosed = true
	closeSnapshot(t.m, err, t.log)
}

// closeSnapshot closes a snapshot. A Close of its reader that hangs is left to itself.
func closeSnapshot(m *snap.Message, err error, log *zap.Logger) {
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		m.CloseWithError(err)
	}()
	grace := time.NewTimer(readerGrace)
	defer grace.Stop()
	select {
	case <-closed:
	case <-grace.C:
		log.Warn("the reader of a database snapshot does not return from Close")
	}
}

// finish tells everyone concerned how the transfer ended.
func (t *outgoingSnapshot) finish(err error) {
	t.Ended(err)
	st := t.State()
	t.mu.Lock()
	delete(t.transfers, t)
	t.last = &st
	t.mu.Unlock()
	took := st.Ended.Sub(st.Started)
	if err != nil {
		t.counters.failedSnapshots.Add(1)
		t.log.Warn("failed to send database snapshot", zap.Int64("bytes-sent", st.Bytes),
			zap.Int("attempts", st.Attempts), zap.Error(err))
	} else {
		t.log.Info("sent database snapshot", zap.Int64("bytes", t.size),
			zap.Int("attempts", st.Attempts), zap.Duration("took", took))
	}
	t.closeReader(err)
	t.reports.snapshot(err)
	t.events.ended(t.observer.SnapshotSent, st, err)
}
