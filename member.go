package rafthttp

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"

	"github.com/seed-4d73690b/rafthttp/internal/callback"
	"github.com/seed-4d73690b/rafthttp/internal/conn"
	"github.com/seed-4d73690b/rafthttp/internal/loglimit"
	"github.com/seed-4d73690b/rafthttp/internal/protocol"
	"github.com/seed-4d73690b/rafthttp/internal/queue"
)

// member is what everything that talks to one member shares. Its fields do not
// change, but for what is atomic.
type member struct {
	cfg      *settings
	remoteID types.ID
	log      *zap.Logger // names the member, and writes asynchronously

	guest bool // it lasts for a few requests, and has nothing but what receivers need

	ctx      context.Context // ends with end; not with the transport's, so that nothing is spawned untracked
	cancel   context.CancelCauseFunc
	wg       *sync.WaitGroup // joins all goroutines of the member
	spawning sync.Mutex      // makes spawn and end exclude each other

	urls       URLs
	dialer     *conn.Dialer
	postClient *http.Transport
	activity   *activity
	reports    *callback.Reports
	events     *callback.Events
	notifiers  *callback.Notifiers // reports, events and log belong to them
	counters   memberCounters
	checking   atomic.Bool            // a recheck is under way
	version    atomic.Pointer[string] // as the peer states it; nil: not known

	refused    identityCounters
	refusedLog loglimit.Limiter // of messages
	refusals   loglimit.Recent[refusal]
	paused     atomic.Bool // by Pause or CutPeer
}

// URLs decide which URL of a member is used. Both methods are safe for concurrent use.
type URLs interface {
	Pick() url.URL
	// Unreachable says that a URL failed.
	Unreachable(u url.URL)
}

func newMember(s *settings, id types.ID, urls URLs) *member {
	m := s.notifiers.Acquire(id)
	l := &member{
		cfg: s, remoteID: id, wg: new(sync.WaitGroup), urls: urls,
		notifiers: m, reports: m.Reports, events: m.Events, log: m.Log,
	}
	l.dialer = &conn.Dialer{Dial: s.dial, TLS: s.clientTLS, Files: s.files, Timeout: s.dialTimeout}
	if s.verifyPeer != nil {
		l.dialer.Verify = l.verifyDialed
	}
	l.ctx, l.cancel = context.WithCancelCause(context.Background())
	l.postClient = l.dialer.NewHTTPTransport(s.readTimeout, maxIdlePosts, protocol.MaxAnswerBytes)
	l.postClient.DialContext = l.joined(l.postClient.DialContext)
	l.postClient.DialTLSContext = l.joined(l.postClient.DialTLSContext)
	l.activity = newActivity(l.log, s.readTimeout)
	return l
}

// newGuest returns what the receive queues of a member that is no peer need. It ends with ctx,
// or with cancel; wg joins its goroutines.
func newGuest(ctx context.Context, s *settings, id types.ID, wg *sync.WaitGroup) *member {
	l := &member{cfg: s, remoteID: id, log: s.log, wg: wg, guest: true}
	l.ctx, l.cancel = context.WithCancelCause(ctx)
	return l
}

// cause returns why the member ended.
func (l *member) cause() error { return context.Cause(l.ctx) }

// enter counts the caller in as a goroutine that join waits for, until it calls
// wg.Done, or reports false if the member has ended.
func (l *member) enter() bool {
	l.spawning.Lock()
	defer l.spawning.Unlock()
	if l.ctx.Err() != nil {
		return false
	}
	l.wg.Add(1)
	return true
}

// spawn runs f on a goroutine that join waits for, or reports false if the member
// has ended.
func (l *member) spawn(f func()) bool {
	l.spawning.Lock()
	defer l.spawning.Unlock()
	if l.ctx.Err() != nil {
		return false
	}
	l.wg.Go(f)
	return true
}

// end ends the member: nothing is spawned any more, and the context is cancelled.
func (l *member) end(cause error) {
	l.activity.end(cause)
	l.spawning.Lock()
	defer l.spawning.Unlock()
	l.cancel(cause)
}

// joined returns dial as a part of the member: net/http goes on dialling for a
// request that has ended, and would do so after the member's end.
func (l *member) joined(dial conn.DialFunc) conn.DialFunc {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		if !l.enter() {
			return nil, l.cause()
		}
		defer l.wg.Done()
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		defer context.AfterFunc(l.ctx, func() { cancel(l.cause()) })()
		return dial(ctx, network, addr)
	}
}

// join waits until nothing of the member runs. What it has to tell is told all the same,
// before what comes after it of the same member. The member's context has ended and its
// queues are closed.
func (l *member) join() {
	l.wg.Wait()
	l.cfg.notifiers.Release(l.remoteID, l.notifiers)
	l.postClient.CloseIdleConnections()
}

// lose accounts for messages of a queue that will not be sent: counted, reported,
// and logged for the first of a row.
func (l *member) lose(q *queue.Queue, items []queue.Item, cause error) {
	snapshots := 0
	for _, it := range items {
		if it.Msg.GetType() == raftpb.MsgSnap {
			snapshots++
		}
	}
	l.loseCounted(q, len(items), snapshots, cause)
}

// loseCounted is lose for n messages, some of which are a MsgSnap.
func (l *member) loseCounted(q *queue.Queue, n, snapshots int, cause error) {
	if n == 0 {
		return
	}
	l.drop(q, n, cause)
	if errors.Is(cause, ErrExceedSizeLimit) { // raft will send it again and again
		l.activity.failed(cause, false)
	}
	l.reports.Unreachable()
	for range snapshots {
		l.reports.Snapshot(cause)
	}
}

// drop counts n messages that a queue does not deliver.
func (l *member) drop(q *queue.Queue, n int, cause error) {
	if n == 0 {
		return
	}
	total := q.Drop(n, dropReason(cause))
	if now := time.Now(); q.DropLogDue(now) && l.ctx.Err() == nil {
		l.log.Warn("dropping messages; further ones are only counted for a while",
			zap.String("lane", q.Name()), zap.Uint64("dropped-total", total), zap.Error(cause))
	}
	l.events.Dropped(q.Name(), n, cause)
}

// sawVersion keeps what a message of the peer states as its version, which was
// parsed before.
func (l *member) sawVersion(h http.Header) {
	v := h.Get(protocol.HeaderVersion)
	if old := l.version.Load(); v != "" && (old == nil || *old != v) {
		v = strings.Clone(v) // not the whole head
		l.version.Store(&v)
	}
}

// inflightBytes is how much data may be in flight for a send queue with this bound,
// where all queues together have the other.
func inflightBytes(queue, all int64) uint64 { return uint64(max(min(queue/2, all/8), 1)) }

// appendsDrained has raft told of appends that found no room in the queue of a stream,
// now that there is some. The first time it says what helps.
func (l *member) appendsDrained() {
	l.reports.Unreachable()
	if !l.cfg.inflightAdvice.CompareAndSwap(false, true) {
		return
	}
	l.spawn(func() {
		l.log.Warn("raft has more appends in flight than the queue holds: set raft.Config.MaxInflightBytes, as Transport.LimitInflight does",
			zap.Uint64("max-inflight-bytes", inflightBytes(l.cfg.sendLimits.Bytes, l.cfg.queued.Max())),
			zap.Int64("send-queue-bytes", l.cfg.sendLimits.Bytes), zap.Int("send-queue-messages", l.cfg.sendLimits.Messages),
			zap.Int64("max-queued-bytes", l.cfg.queued.Max()))
	})
}
