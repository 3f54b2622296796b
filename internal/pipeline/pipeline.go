// Package pipeline posts messages that no stream carries: a Pipeline has the queues and the workers
// of one member. A Remote is a member that has nothing else.
package pipeline

import (
	"sync/atomic"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"
	"golang.org/x/time/rate"

	"github.com/seed-4d73690b/rafthttp/internal/callback"
	"github.com/seed-4d73690b/rafthttp/internal/errs"
	"github.com/seed-4d73690b/rafthttp/internal/faultpoint"
	"github.com/seed-4d73690b/rafthttp/internal/loglimit"
	"github.com/seed-4d73690b/rafthttp/internal/member"
	"github.com/seed-4d73690b/rafthttp/internal/queue"
	"github.com/seed-4d73690b/rafthttp/internal/snapshot"
	"github.com/seed-4d73690b/rafthttp/internal/wire"
)

const (
	// Messages is the limit of one queue, of which there is one for each kind of messages.
	Messages = 64
	// MaxIdle is how many idle connections a pipeline keeps.
	MaxIdle = int(queue.Kinds) * workers

	workers = 4 // concurrent POSTs of one kind
)

// Pipeline posts messages one by one, several POSTs of each kind at a time, so without
// order. It carries messages that the streams cannot: all messages while they are down, and each
// MsgSnap given to Send. Each kind has its own room and workers: a POST
// of a proposal may block until there is a leader, and must not delay the votes that
// elect one.
type Pipeline struct {
	Queues [queue.Kinds]*queue.Queue
	member *member.Member
	told   [queue.Kinds]atomic.Int32 // calls of Observer.Sent in progress
	lines  *rate.Limiter             // of the log, for snapshots
	Taken  atomic.Int64              // size of the largest append that the peer has accepted since it last dialled the msgapp stream

	SnapshotTaken func(m *raftpb.Message) // called when the member has accepted m; nil: a remote, which has no windows
}

// New returns a pipeline of a member, which is open until Close.
func New(l *member.Member) *Pipeline {
	p := &Pipeline{member: l, lines: loglimit.PerMinute(callback.MemberLines)}
	for k := range queue.Kinds {
		work := func() { p.work(k) }
		p.Queues[k] = queue.New(queue.Config{Name: "pipeline", Limits: l.Cfg.PipelineLimits, Workers: workers, Work: work, Wait: l.Wait})
		p.Queues[k].Open()
	}
	return p
}

// QueueOf returns the queue of a type of messages.
func (p *Pipeline) QueueOf(t raftpb.MessageType) *queue.Queue { return p.Queues[queue.KindOf(t)] }

// Tidy makes idle queues release goroutines and memory.
func (p *Pipeline) Tidy() {
	for _, q := range p.Queues {
		q.TrimIfIdle(nil)
	}
}

// Calls returns the calls of Observer.Sent that have not returned.
func (p *Pipeline) Calls() (all []callback.Call) {
	for k := range p.told {
		if p.told[k].Load() > 0 {
			all = append(all, callback.Call{Name: "Observer.Sent", Lane: p.Queues[k].Name(), Peer: p.member.RemoteID})
		}
	}
	return all
}

// Close closes the pipeline permanently. The member's context has ended, so POSTs in progress fail.
func (p *Pipeline) Close() {
	for _, q := range p.Queues {
		p.member.Lose(q, q.Close(), p.member.Cause())
	}
}

// DropQueued drops queued messages.
func (p *Pipeline) DropQueued() {
	for _, q := range p.Queues {
		p.member.Lose(q, q.Empty(), errs.ErrPaused)
	}
}

func (p *Pipeline) work(k queue.Kind) {
	q := p.Queues[k]
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
func (p *Pipeline) deliver(k queue.Kind, it queue.Item) {
	q := p.Queues[k]
	if p.member.Paused.Load() {
		q.ForgetAppends()
		p.member.Lose(q, []queue.Item{it}, errs.ErrPaused)
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
	p.member.Activity.PostOK(start)
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
		if p.SnapshotTaken != nil {
			p.SnapshotTaken(it.Msg)
		}
		p.member.SnapshotEnded(nil)
	}
}

// tookAppend notes that the peer has accepted an append of this size.
func (p *Pipeline) tookAppend(size int64) {
	for {
		taken := p.Taken.Load()
		if size <= taken || p.Taken.CompareAndSwap(taken, size) {
			return
		}
	}
}
