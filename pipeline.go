package rafthttp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"
	"golang.org/x/time/rate"

	"github.com/seed-4d73690b/rafthttp/internal/callback"
	"github.com/seed-4d73690b/rafthttp/internal/conn"
	"github.com/seed-4d73690b/rafthttp/internal/faultpoint"
	"github.com/seed-4d73690b/rafthttp/internal/loglimit"
	"github.com/seed-4d73690b/rafthttp/internal/member"
	"github.com/seed-4d73690b/rafthttp/internal/protocol"
	"github.com/seed-4d73690b/rafthttp/internal/queue"
	"github.com/seed-4d73690b/rafthttp/internal/snapshot"
	"github.com/seed-4d73690b/rafthttp/internal/wire"
)

// pipeline posts messages one by one, several POSTs of each kind at a time, so without
// order. It carries messages that the streams cannot: all messages while they are down, and each
// MsgSnap given to Send. Each kind has its own room and workers: a POST
// of a proposal may block until there is a leader, and must not delay the votes that
// elect one.
type pipeline struct {
	member *member.Member
	queues [queue.Kinds]*queue.Queue
	told   [queue.Kinds]atomic.Int32 // calls of Observer.Sent in progress
	lines  *rate.Limiter             // of the log, for snapshots
	taken  atomic.Int64              // size of the largest append that the peer has accepted since it last dialled the msgapp stream

	snapshotTaken func(m *raftpb.Message) // called when the member has accepted m; nil: a remote, which has no windows
}

func newPipeline(l *member.Member) *pipeline {
	p := &pipeline{member: l, lines: loglimit.PerMinute(callback.MemberLines)}
	for k := range queue.Kinds {
		work := func() { p.work(k) }
		p.queues[k] = queue.New(queue.Config{Name: "pipeline", Limits: l.Cfg.PipelineLimits, Workers: pipelineWorkers, Work: work, Wait: l.Wait})
		p.queues[k].Open()
	}
	return p
}

// queueOf returns the queue of a type of messages.
func (p *pipeline) queueOf(t raftpb.MessageType) *queue.Queue { return p.queues[queue.KindOf(t)] }

// tidy makes idle queues release goroutines and memory.
func (p *pipeline) tidy() {
	for _, q := range p.queues {
		q.TrimIfIdle(nil)
	}
}

// status returns the state of all queues together.
func (p *pipeline) status() (st LaneStatus) {
	for _, q := range p.queues {
		st.add(laneStatus(q))
	}
	return st
}

// calls returns the calls of Observer.Sent that have not returned.
func (p *pipeline) calls() (all []callback.Call) {
	for k := range p.told {
		if p.told[k].Load() > 0 {
			all = append(all, callback.Call{Name: "Observer.Sent", Lane: p.queues[k].Name(), Peer: p.member.RemoteID})
		}
	}
	return all
}

// close closes the pipeline permanently. The member's context has ended, so POSTs in progress fail.
func (p *pipeline) close() {
	for _, q := range p.queues {
		p.member.Lose(q, q.Close(), p.member.Cause())
	}
}

// dropQueued drops queued messages.
func (p *pipeline) dropQueued() {
	for _, q := range p.queues {
		p.member.Lose(q, q.Empty(), ErrPaused)
	}
}

func (p *pipeline) work(k queue.Kind) {
	q := p.queues[k]
	var items []queue.Item
	for {
		var ok bool
		if items, ok = q.Take(items, 1); !ok {
			return
		}
		for _, it := range items {
			p.deliver(k, it)
		}
		q.Release(items, nil)
		clear(items)
	}
}

// deliver posts one message and reports the result to raft, the Observer and the counters.
func (p *pipeline) deliver(k queue.Kind, it queue.Item) {
	q := p.queues[k]
	if p.member.Paused.Load() {
		q.ForgetAppends()
		p.member.Lose(q, []queue.Item{it}, ErrPaused)
		return
	}
	start := time.Now()
	body := wire.AppendMessage(make([]byte, 0, wire.MessageSize(it.Msg)), it.Msg)
	err := p.post(body, it.Msg.GetType())
	faultpoint.Hit(faultpoint.PostAnswered)
	if err != nil {
		p.member.Activity.PostFailed(start, err)
		q.ForgetAppends()
		p.member.Lose(q, []queue.Item{it}, err)
		return
	}
	p.member.Activity.PostOK()
	if queue.IsAppend(it.Msg) {
		p.tookAppend(it.Size)
	}
	took := time.Since(start)
	q.Done(1, uint64(len(body)), took)
	if f := p.member.Cfg.Observer.Sent; f != nil {
		p.told[k].Add(1)
		f(p.member.RemoteID, q.Name(), 1, int64(len(body)), took)
		p.told[k].Add(-1)
	}
	if it.Msg.GetType() == raftpb.MsgSnap {
		log := p.member.Log.With(zap.Uint64("snapshot-index", it.Msg.GetSnapshot().GetMetadata().GetIndex()))
		snapshot.WarnUnlessNamed(snapshot.TransferLog(p.lines, log), uint64(p.member.RemoteID), it.Msg.GetSnapshot())
		if p.snapshotTaken != nil {
			p.snapshotTaken(it.Msg)
		}
		p.member.SnapshotEnded(nil)
	}
}

// tookAppend notes that the peer has accepted an append of this size.
func (p *pipeline) tookAppend(size int64) {
	for {
		taken := p.taken.Load()
		if size <= taken || p.taken.CompareAndSwap(taken, size) {
			return
		}
	}
}

// post sends one body to the peer's current URL (PROTOCOL.md, section 1).
func (p *pipeline) post(body []byte, t raftpb.MessageType) error {
	ctx, pace, stop := conn.NewBodyPace(p.member.Ctx, body, p.member.Cfg.PostTimeout(), ErrStalled)
	defer stop()
	u := p.member.URLs.Pick()
	target, err := conn.RequestURL(u, RaftPrefix)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target.String(), pace.Body())
	if err != nil {
		return err
	}
	req.ContentLength = int64(len(body))
	req.GetBody = func() (io.ReadCloser, error) { return pace.Body(), nil }
	req.Header = p.member.Cfg.RequestHeader()
	req.Header.Set("Content-Type", "application/protobuf")
	if t != raftpb.MsgProp {
		// A repeated message is harmless to raft, except a proposal, which would be appended
		// twice. With this key present, and not sent, net/http repeats a POST on a
		// connection that the peer was closing.
		req.Header["Idempotency-Key"] = nil
	}
	resp, err := p.member.PostClient.RoundTrip(req)
	if err == nil {
		err = p.member.Cfg.Conclude(resp, protocol.EndpointPost)
		_, _ = io.CopyN(io.Discard, resp.Body, protocol.MaxAnswerBytes)
		resp.Body.Close()
	}
	if err != nil {
		p.member.URLs.Unreachable(u)
		if errors.Is(context.Cause(ctx), ErrStalled) && !pace.Began() {
			return fmt.Errorf("post to %s at %s: %w: a POST waits %v for one", p.member.RemoteID, u.String(), conn.ErrDialTimeout, p.member.Cfg.PostTimeout())
		}
		return fmt.Errorf("post to %s at %s: %w", p.member.RemoteID, u.String(), conn.CauseOf(ctx, err))
	}
	return nil
}
