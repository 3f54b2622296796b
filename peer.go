package rafthttp

import (
	"context"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3/raftpb"
	"golang.org/x/time/rate"

	"github.com/seed-4d73690b/rafthttp/internal/callback"
	"github.com/seed-4d73690b/rafthttp/internal/loglimit"
	"github.com/seed-4d73690b/rafthttp/internal/member"
	"github.com/seed-4d73690b/rafthttp/internal/pipeline"
	"github.com/seed-4d73690b/rafthttp/internal/probe"
	"github.com/seed-4d73690b/rafthttp/internal/queue"
	"github.com/seed-4d73690b/rafthttp/internal/receive"
	"github.com/seed-4d73690b/rafthttp/internal/routing"
	"github.com/seed-4d73690b/rafthttp/internal/snapshot"
	"github.com/seed-4d73690b/rafthttp/internal/stream"
	"github.com/seed-4d73690b/rafthttp/snap"
)

// Peer is a member that a Transport sends to and receives from, as returned by
// Transport.Get. It is also Pausable.
type Peer interface {
	// send gives m to a queue, or reports it lost. It never blocks.
	send(m *raftpb.Message)
	// sendSnap transfers m in the background. It returns false, and leaves m
	// alone, if the peer has ended.
	sendSnap(m *snap.Message) bool
	// update moves the peer to other URLs, live streams included.
	update(urls types.URLs)
	// attachOutgoingConn takes over a stream that the peer dialled, and returns
	// false if the peer has ended.
	attachOutgoingConn(c *stream.Conn) bool
	// activeSince returns when the peer became active, or the zero time.
	activeSince() time.Time
	// stop ends the peer and returns when none of its goroutines runs.
	stop()
}

// Pausable is a peer whose messages can be dropped, for tests.
type Pausable interface {
	// Pause drops every message from and to the peer until Resume, including those
	// in its queues.
	Pause()
	// Resume ends a Pause.
	Resume()
}

// peer owns everything that communicates with one member: writers and readers of its streams, a
// pipeline, a snapshot sender, and receive queues.
type peer struct {
	member        *member.Member
	urls          *urlPicker
	writers       [stream.Kinds]*stream.Writer
	readers       [stream.Kinds]*stream.Reader
	pipeline      *pipeline.Pipeline
	routes        *routing.Routes // to the writers and the pipeline
	snapshots     *snapshotSender
	receivers     receive.Receivers
	receiveQueues *receive.Queues // including those from before it was a peer
	probe         probe.Estimate
	snapshotLines *rate.Limiter // of the log, for transfers from the peer
	lastReceived  atomic.Pointer[snapshot.Status]
}

var (
	_ Peer     = (*peer)(nil)
	_ Pausable = (*peer)(nil)
)

// newPeer returns a peer that only queues messages until start.
func newPeer(e *engine, id types.ID, urls types.URLs) *peer {
	picker := newURLPicker(urls)
	l := member.New(e.cfg, id, picker)
	l.Activity.Changed = func(active bool, cause error) {
		if active {
			l.HurrySnapshots()
		}
		e.changed.Notify()
		l.Events.StateChanged(active, cause)
	}
	p := &peer{
		member: l, urls: picker, pipeline: pipeline.New(l), receivers: receive.NewReceivers(l), receiveQueues: e.receiveQueues, snapshotLines: loglimit.PerMinute(callback.MemberLines),
	}
	p.pipeline.Queues[queue.Append].TrackAppends(l.Cfg.ReadTimeout, l.Reports.Unreachable) // a pipeline is short by design
	for kind := range stream.Kinds {
		p.writers[kind] = stream.NewWriter(l, kind)
		p.readers[kind] = stream.NewReader(l, kind, stream.Handler{Refuse: p.refuse, Receive: p.receive})
	}
	p.routes = routing.New(l, p.writers, p.pipeline)
	p.pipeline.SnapshotTaken = p.routes.SnapshotTaken
	p.snapshots = newSnapshotSender(l, e.snapshots, e.pace, p)
	return p
}

// start starts dialling the peer, unless it has been removed.
func (p *peer) start() {
	for _, r := range p.readers {
		p.member.Spawn(r.Run)
	}
}

func (p *peer) send(m *raftpb.Message) { p.routes.Send([]*raftpb.Message{m}) }

func (p *peer) sendSnap(m *snap.Message) bool { return p.snapshots.send(m) }

func (p *peer) update(urls types.URLs) {
	p.urls.Update(urls)
	p.probe.Moved() // first: a probe that ends meanwhile is none of the present URLs
	p.member.Moved()
	for _, r := range p.readers {
		r.Update()
	}
	p.member.PostClient.CloseIdleConnections()
}

func (p *peer) attachOutgoingConn(c *stream.Conn) bool {
	if c.Kind == stream.MsgAppV2 {
		p.pipeline.Taken.Store(0) // the peer may have restarted with another limit
	}
	return p.writers[c.Kind].Attach(c)
}

func (p *peer) activeSince() time.Time { return p.member.Activity.ActiveSince() }

// receive sorts messages from a stream into the receive queues. Appends wait up to wait
// for Process to make room, or until ctx ends; an error ends the stream.
func (p *peer) receive(ctx context.Context, items []queue.Item, wait time.Duration) error {
	if p.member.Paused.Load() {
		var n [queue.Kinds]int
		for _, it := range items {
			n[queue.KindOf(it.Msg.GetType())]++
		}
		for k, r := range p.receivers {
			p.member.Drop(r.Queue, n[k], ErrPaused)
		}
		return nil
	}
	for _, it := range items {
		p.answered(it.Msg)
	}
	return p.receivers.Receive(ctx, items, wait)
}

// dropPost counts a message of a POST or a snapshot that did not reach its receive queue. p
// may be nil, for a member that is not a peer.
func (p *peer) dropPost(m *raftpb.Message, cause error) {
	if p != nil {
		p.receivers.Of(m.GetType()).DropPosts(1, cause)
	}
}

// dropUnread counts a POST whose message could not be read. p may be nil, as for dropPost.
func (p *peer) dropUnread() {
	if p != nil {
		p.member.Counters.BadPosts.Add(1)
	}
}

// answered updates the append windows by the peer's responses, before Process. It is small
// enough to be inlined: most messages are not responses.
func (p *peer) answered(m *raftpb.Message) {
	if m.GetType() == raftpb.MsgAppResp {
		p.routes.AppendsAnswered(m)
	}
}

// Pause implements Pausable.
func (p *peer) Pause() { p.pause(true) }

// Resume implements Pausable.
func (p *peer) Resume() { p.pause(false) }

// pause drops all messages to and from the peer, including queued ones, or
// ends that.
func (p *peer) pause(on bool) {
	p.member.Paused.Store(on)
	if p.member.Ctx.Err() == nil { // the peer has not been replaced
		p.receiveQueues.Pause(p.member.RemoteID, on)
	}
	if !on {
		p.member.HurrySnapshots()
		return
	}
	for _, w := range p.writers {
		p.member.Lose(w.Queue, w.Queue.Empty(), ErrPaused)
	}
	p.member.Latency.Out.Restart()
	p.member.Reports.Unreachable() // also the withheld reports
	p.pipeline.DropQueued()
	p.snapshots.sender.Drop()
	for _, r := range p.receivers {
		r.Discard(r.Queue.Empty(), ErrPaused)
	}
}

// shut refuses new work, cancels work in progress and closes all connections. It does not wait.
func (p *peer) shut(cause error) {
	p.member.End(cause)
	for _, w := range p.writers {
		w.Close()
	}
	p.pipeline.Close()
	p.snapshots.sender.Close()
	for _, r := range p.receivers {
		r.Close()
	}
}

func (p *peer) stop() {
	p.shut(ErrPeerRemoved)
	p.member.Join()
}

// heartbeat writes a link heartbeat to both streams: at once, which may
// block, or later by the writer.
func (p *peer) heartbeat(now bool) {
	if !p.member.Enter() {
		return
	}
	defer p.member.Wait.Done()
	now = now && p.member.Cfg.Observer.Sent == nil // the hook may be slow, and other peers wait
	for _, w := range p.writers {
		if now {
			w.HeartbeatNow()
		} else {
			w.Heartbeat()
		}
	}
}

// tick is called every heartbeat interval.
func (p *peer) tick() {
	for _, w := range p.writers {
		w.Tidy()
		w.Queue.ExpireAppends()
	}
	for _, r := range p.receivers {
		r.Queue.TrimIfIdle(nil)
	}
	p.pipeline.Tidy()
	p.pipeline.Queues[queue.Append].ExpireAppends()
	p.member.Activity.Tick()
}
