package snapshot

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/seed-4d73690b/rafthttp/internal/errs"
	"github.com/seed-4d73690b/rafthttp/internal/faultpoint"
	"github.com/seed-4d73690b/rafthttp/internal/protocol"
	"github.com/seed-4d73690b/rafthttp/snap"
)

const (
	// refusalGrace is how long a sender whose connection broke waits for an
	// answer that may state the cause.
	refusalGrace = 500 * time.Millisecond
	// readerGrace is how long a closed snapshot reader has to end a Read.
	readerGrace = time.Second

	// maxFutileAttempts is how often a resumable transfer is tried again
	// without progress. A loss of the receiver's bytes counts permanently.
	maxFutileAttempts = 5
	// minRetryWait and maxRetryWait limit the time between two attempts.
	minRetryWait, maxRetryWait = 100 * time.Millisecond, 2 * time.Second
)

// transfer is one transfer to the peer, in one or more attempts.
type transfer struct {
	sender *Sender
	Progress
	waiter waiter      // for its first turn
	log    *zap.Logger // names the snapshot; silent after too many lines; nil while it waits
	m      *snap.Message
	key    snap.Transfer
	id     protocol.TransferID
	size   int64  // of the database
	frame  []byte // head of the body: length and message (PROTOCOL.md, section 5); nil while it waits
	head   digest // of frame; the zero value before it had its turn

	number uint64    // of the transfers to this peer
	older  *transfer // the previous one with the same snapshot; nil if none, or once it has ended; guarded by Sender.mu
	result error     // set at the end

	acquired bool      // it has a place
	tried    time.Time // when the last attempt began

	db    *source
	sums  checksums    // of the bytes that db has read
	moved atomic.Int64 // counts progress of any kind
	told  atomic.Int64 // number of the receiver's reports that it works without reading

	readerClosed    bool                    // or stuck: no other attempt
	receiverResumes bool                    // as stated on the last connection on which it answered
	ackedOffset     int64                   // the receiver's last offset
	losses          int                     // how often it decreased
	maxSummed       int64                   // most bytes summed up before an attempt
	rejected        protocol.SnapshotOffset // it has other bytes than we
	gaveUpWaiting   bool                    // it has been writing an earlier part for maxWriting
}

// run makes the transfer, which has a place.
func (t *transfer) run() {
	t.acquired = true
	t.sender.cfg.Sent.begin(&t.Progress)
	t.openLog()
	result := t.deliver()
	faultpoint.Hit(faultpoint.SnapshotAnswered)
	t.end(result)
}

// end ends the transfer. Nothing of it is done later, and a younger one with the same snapshot is next.
func (t *transfer) end(result error) {
	defer t.sender.cfg.Leave()
	t.openLog()
	t.result = result
	t.finish(result)
	for {
		y := t.sender.younger(t)
		if y == nil {
			return
		}
		t.sender.followUp(y, t, !isReaderFailure(result) && t.head.isOf(y.m.Message))
	}
}

// openLog makes the log, when there is something to say.
func (t *transfer) openLog() {
	if t.log == nil {
		t.log = TransferLog(t.sender.cfg.Lines, t.sender.cfg.Log.With(zap.Uint64("snapshot-index", t.index.Load())))
	}
}

// deliver makes attempts. The transfer may have a place then, which finish releases: a reader that is opened when its turn has come is
// open only while it has one.
func (t *transfer) deliver() error {
	if t.sender.cfg.Ctx.Err() != nil {
		return context.Cause(t.sender.cfg.Ctx)
	}
	t.frame = headOf(t.m.Message)
	defer func() { t.frame = nil }()
	t.head = digestOf(t.frame)
	return t.tryOn()
}

// acquire waits for another turn of the transfer, which it has until release, unless it has one.
func (t *transfer) acquire() error {
	if t.acquired {
		return nil
	}
	t.acquired = t.sender.cfg.Pace.turns.acquire(t.sender.cfg.Ctx, t.sender.cfg.To, t.m.Priority, t.sender.nextDrop())
	switch {
	case t.acquired:
		return nil
	case t.sender.cfg.Ctx.Err() != nil:
		return context.Cause(t.sender.cfg.Ctx)
	}
	return t.sender.cfg.Dropped
}

func (t *transfer) release() {
	if t.acquired {
		t.acquired = false
		t.sender.cfg.Pace.turns.release(t.sender.cfg.To)
	}
}

// tryOn makes attempts: one, unless the receiver can resume an earlier
// one.
func (t *transfer) tryOn() error {
	if err := t.prepare(func(context.Context) error { return t.db.begin() }); err != nil {
		return err
	}
	wait := minRetryWait
	for futile := 0; ; futile++ {
		if err := t.acquire(); err != nil {
			return err
		}
		acked, summed := t.ackedOffset, t.maxSummed
		err := t.attempt()
		if err == nil {
			t.sender.cfg.Events.Succeeded(t.tried)
			return nil
		}
		if !t.isRetryable(err) { // then a stuck worker may still use the state below
			return err
		}
		if t.db.canSeek() && (t.ackedOffset > acked || t.maxSummed > summed) { // another begins with the first byte
			futile, wait = t.losses, minRetryWait
		}
		if t.sender.cfg.Group && errors.Is(err, protocol.ErrSnapshotBusy) { // another node was quicker
			futile--
		}
		if futile >= maxFutileAttempts {
			return err
		}
		t.failed(err)
		t.log.Info("the transfer of a database snapshot broke off and is resumed",
			zap.Int64("bytes", t.bytes.Load()), zap.Error(err))
		if !sleep(t.sender.cfg.Ctx, wait+rand.N(wait/4)) {
			return context.Cause(t.sender.cfg.Ctx)
		}
		wait = min(2*wait, maxRetryWait)
	}
}

// attempt makes one attempt.
func (t *transfer) attempt() error {
	t.attempts.Add(1)
	t.tried = time.Now()
	u := t.sender.cfg.Peer.URL()
	if t.attempts.Load() == 1 {
		t.log.Info("sending database snapshot", zap.Int64("bytes", t.size), zap.String("url", u.String()))
		WarnUnlessNamed(t.log, t.m.GetTo(), t.m.GetSnapshot())
	}
	err := t.unchanged()
	if err == nil {
		err = t.attemptAt(u)
	}
	if err == nil {
		return nil
	}
	if !t.readerClosed {
		if changed := t.unchanged(); isReaderFailure(changed) {
			err = changed // the cause of any failure
		}
	}
	if !isReaderFailure(err) && !errors.Is(err, t.sender.cfg.Dropped) { // not the peer's fault
		t.sender.cfg.Events.Failed(u, t.tried, err)
	}
	return fmt.Errorf("snapshot %d to %s at %s: %w", t.index.Load(), t.sender.cfg.To, u.String(), err)
}

// unchanged returns an error if the reader is a file that has changed.
func (t *transfer) unchanged() error {
	if t.db.file == nil {
		return nil
	}
	return t.prepare(func(context.Context) error { return t.db.unchanged() })
}

// attemptAt makes one attempt at u and waits for the answer.
func (t *transfer) attemptAt(u url.URL) error {
	conn, p, err := t.settle(u)
	if err != nil {
		return err
	}
	defer conn.Close()
	if faultpoint.Fails(faultpoint.SnapshotPlanned) {
		return protocol.ErrSnapshotCut
	}
	if p.TellsWork { // it may have good reasons not to read; the sender detects whether it is alive
		t.sender.cfg.Peer.BePatient(conn.Conn, max(maxWriting, maxInstalling, t.sender.cfg.Config.AnswerTimeout))
		conn.onClose = func() { t.sender.cfg.Peer.BePatient(conn.Conn, 0) } // unsent bytes are then the system's
	}
	return t.follow(conn, p)
}

// isRetryable reports whether to try again after err.
func (t *transfer) isRetryable(err error) bool {
	if t.sender.cfg.Ctx.Err() != nil || t.readerClosed || isReaderFailure(err) {
		return false
	}
	busy := errors.Is(err, protocol.ErrSnapshotBusy)
	again := busy && t.sender.cfg.Group // another node was quicker after the question; groups wait for their turn
	// Before the receiver has answered, the worker may still find out whether the reader can seek.
	if !t.receiverResumes && !again || !t.db.canBeginAgain() {
		return false
	}
	switch {
	case errors.Is(err, errNoAnswer), errors.Is(err, t.sender.cfg.Dropped):
		return false
	case errors.Is(err, protocol.ErrSnapshotCut), errors.Is(err, errs.ErrStalled), errors.Is(err, protocol.ErrSnapshotOffset), errors.Is(err, protocol.ErrSnapshotUnavailable):
		return true
	case errors.Is(err, protocol.ErrSnapshotWriting): // as it said after the question
		return !t.gaveUpWaiting
	case busy:
		return again || t.attempts.Load() > 1 // perhaps with an attempt that we gave up
	case errors.Is(err, protocol.ErrSnapshotRefused), errors.Is(err, protocol.ErrSnapshotNotSaved), protocol.IsVerdict(err):
		return false
	}
	return true // it could not be reached
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
func (t *transfer) closeReader(err error) {
	t.readerClosed = true
	t.db.closed.Store(true)
	Close(t.m, err, t.log)
}

// Close closes a snapshot. A Close of its reader that hangs is abandoned.
func Close(m *snap.Message, err error, log *zap.Logger) {
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

// finish reports the result of the transfer.
func (t *transfer) finish(err error) {
	t.Progress.ended(err)
	st := t.state()
	t.sender.ended(t, st)
	t.sender.cfg.Sent.end(&t.Progress, st, err != nil)
	if err != nil {
		t.log.Warn("failed to send database snapshot", zap.Int64("bytes-sent", st.Bytes),
			zap.Int("attempts", st.Attempts), zap.Error(err))
	} else {
		t.log.Info("sent database snapshot", zap.Int64("bytes", t.size),
			zap.Int("attempts", st.Attempts), zap.Duration("took", st.Ended.Sub(st.Started)))
	}
	t.closeReader(err)
	t.release()
	t.sender.cfg.Events.Done(t.m.Message, st, err)
}
