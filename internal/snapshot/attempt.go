package snapshot

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/seed-4d73690b/rafthttp/internal/errs"
	"github.com/seed-4d73690b/rafthttp/internal/protocol"
)

// attemptState is where an attempt stands:
//
//	preparing ──the reader is where the plan begins──────────────────────────────────────▶ ended
//	   │                                                                                     ▲
//	   └─stall, end of the transfer──▶ aborting (below)                                      │
//	                                                                                         │
//	sending ──the body is written, or broke off──▶ awaiting ──the answer, or none in time────┤
//	   │ │                                                                                   │
//	   │ └─success before Write returned──▶ answered ──Write returned, or does not───────────┤
//	   │                                                                                     │
//	   └─refusal, stall, cut, end of the transfer──▶ aborting ──the worker has returned──────┤
//	                                                    │                                    │
//	                                                    └─it is stuck──▶ closing ────────────┘
//
// An attempt is preparing as often as its plan requires, and then sending. The worker is
// the goroutine that reads the database. Each state waits for one thing, for a limited
// time. Where bytes move, the limit is for the time without progress.
type attemptState int

const (
	preparing attemptState = iota // the worker reads the part that the receiver has; there is no connection
	sending                       // the worker writes the body
	awaiting                      // nothing more is written; the receiver's answer must arrive
	answered                      // the receiver has everything; the worker must return
	aborting                      // the connection is closed; the worker must return
	closing                       // the reader is closed as well
	ended
)

// attempt is an attempt in one of its states. It is used by one goroutine.
type attempt struct {
	t       *transfer
	conn    *peerConn // nil: preparing
	cancel  context.CancelCauseFunc
	worked  <-chan error // gets one value when the worker returns
	answers <-chan error // gets one value: the receiver's answer

	state    attemptState
	err      error       // how it ends, unless a better cause is learned
	complete bool        // the body is written
	limit    *time.Timer // of the state
	still    int         // ticks without progress
	moved    int64
	told     int64     // number of the receiver's reports that it works without reading
	since    time.Time // time of the last progress
}

// prepare runs f, which calls the reader. When it returns, nothing reads the database,
// unless a Read continues for longer than readerGrace after the reader was closed.
func (t *transfer) prepare(f func(ctx context.Context) error) error {
	ctx, cancel := context.WithCancelCause(t.sender.cfg.Ctx)
	defer cancel(nil)
	worked := make(chan error, 1)
	go func() { worked <- f(ctx) }() // joined by run, within a limit
	a := &attempt{t: t, state: preparing, cancel: cancel, worked: worked}
	return a.run()
}

// follow sends the body by a plan and waits for the answer. It returns like prepare.
func (t *transfer) follow(conn *peerConn, p protocol.SnapshotPlan) error {
	ctx, cancel := context.WithCancelCause(t.sender.cfg.Ctx)
	defer cancel(nil)
	answers, worked := make(chan error, 1), make(chan error, 1)
	var answering sync.WaitGroup
	answering.Go(func() { answers <- t.answer(conn) })
	defer answering.Wait()
	defer conn.Close()
	go func() { worked <- t.write(ctx, conn, p) }() // joined by run, within a limit
	a := &attempt{t: t, state: sending, conn: conn, cancel: cancel, worked: worked, answers: answers}
	return a.run()
}

func (a *attempt) run() error {
	a.moved, a.told, a.since = a.t.moved.Load(), a.t.told.Load(), time.Now()
	tick := time.NewTicker(a.t.sender.cfg.Config.ReadTimeout / stallTicks)
	defer tick.Stop()
	a.limit = time.NewTimer(0)
	a.limit.Stop()
	defer a.limit.Stop()
	over := a.t.sender.cfg.Ctx.Done()
	for a.state != ended {
		select {
		case err := <-a.worked:
			a.onWorked(err)
		case err := <-a.answers:
			a.onAnswer(err)
		case <-tick.C:
			a.onTick()
		case <-a.limit.C:
			a.onLimit()
		case <-over:
			if over = nil; a.state != closing {
				a.abort(context.Cause(a.t.sender.cfg.Ctx))
			}
		}
	}
	return a.err
}

// enter changes the state; the attempt leaves it after limit at the latest, unless that is 0.
func (a *attempt) enter(s attemptState, limit time.Duration) {
	a.state = s
	a.limit.Stop()
	if limit > 0 {
		a.limit.Reset(limit)
	}
}

func (a *attempt) end(err error) {
	a.err = err
	a.enter(ended, 0)
}

// abort closes the connection. If there will be another attempt, it waits for a slow reader
// as long as without the abort.
func (a *attempt) abort(err error) {
	if a.state == awaiting { // the worker has returned
		a.end(err)
		return
	}
	a.err = err
	a.cancel(err)
	if a.conn != nil {
		a.conn.abort()
	}
	switch {
	case a.still >= stallTicks && a.t.db.reading.Load():
		a.closeReader()
	case a.t.isRetryable(err):
		a.enter(aborting, 0) // until the reader makes no progress, which onTick detects
	default:
		a.enter(aborting, refusalGrace)
	}
}

// closeReader ends the reader. If there was no progress, the reader is the cause: on a closed
// connection nothing else is. The receiver may have noticed first.
func (a *attempt) closeReader() {
	if errors.Is(a.err, errs.ErrStalled) {
		a.err = errReaderStalled
	}
	a.t.closeReader(a.err)
	a.enter(closing, readerGrace)
}

// onWorked is called when the worker has returned.
func (a *attempt) onWorked(err error) {
	switch {
	case a.state == preparing, a.state == answered, a.state == sending && isReaderFailure(err):
		a.end(err)
	case a.state != sending:
		a.end(a.err)
	case err != nil:
		a.err = err
		a.enter(awaiting, refusalGrace) // for an answer that may state the cause
	default:
		a.err, a.complete = errNoAnswer, true
		a.enter(awaiting, a.t.sender.cfg.Config.AnswerTimeout)
	}
}

// onAnswer is called with the receiver's answer.
func (a *attempt) onAnswer(err error) {
	switch {
	case a.state == sending && err == nil: // it may arrive before Write returns
		a.err = errors.New("the receiver answered before the end of the snapshot")
		a.enter(answered, readerGrace)
	case a.state == sending:
		a.abort(causeOrCut(a.t.sender.cfg.Ctx, err))
	case a.state == awaiting && a.complete:
		a.end(causeOrCut(a.t.sender.cfg.Ctx, err))
	case a.state == awaiting: // the body broke off
		if err == nil || errors.Is(err, protocol.ErrSnapshotCut) {
			err = a.err
		}
		a.end(causeOrCut(a.t.sender.cfg.Ctx, err))
	}
}

// onTick checks for progress.
func (a *attempt) onTick() {
	a.still++
	if now := a.t.moved.Load(); now != a.moved {
		a.still, a.moved, a.since = 0, now, time.Now()
	}
	if now := a.t.told.Load(); now != a.told {
		a.told = now
		a.wait(time.Since(a.since))
	}
	if a.still < stallTicks {
		return
	}
	switch a.state {
	case preparing, sending:
		a.abort(errs.ErrStalled)
	case aborting:
		a.err = errs.ErrStalled
		a.closeReader()
	}
}

// wait is called when the receiver reports that it is working, although there was no progress for
// some time.
func (a *attempt) wait(still time.Duration) {
	switch {
	case a.state == sending && still < maxWriting:
		a.still = 0
	case a.state == awaiting && a.complete && still < maxInstalling:
		a.limit.Reset(a.t.sender.cfg.Config.AnswerTimeout)
		a.t.release() // nothing more is sent
	}
}

// onLimit is called when the event that the state waits for has not occurred in time.
func (a *attempt) onLimit() {
	switch a.state {
	case aborting:
		a.closeReader()
	case answered:
		a.abort(a.err)
	case closing:
		a.t.log.Warn("the reader of a database snapshot does not return from Read after Close")
		a.end(a.err)
	case awaiting:
		a.end(causeOrCut(a.t.sender.cfg.Ctx, a.err))
	}
}
