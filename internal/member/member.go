// Package member has the shared state of the parts of one member of the cluster: its identity, the
// settings that it uses, its log, context and goroutines, connections, its activity,
// and how losses are counted, reported and logged. It does not know what the parts do.
package member

import (
	"context"
	"crypto/tls"
	"crypto/x509"
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
	"github.com/seed-4d73690b/rafthttp/internal/latency"
	"github.com/seed-4d73690b/rafthttp/internal/loglimit"
	"github.com/seed-4d73690b/rafthttp/internal/protocol"
	"github.com/seed-4d73690b/rafthttp/internal/queue"
	"github.com/seed-4d73690b/rafthttp/internal/wire"
)

// Member is the shared state of everything that communicates with one member. Its fields do
// not change, except atomic ones.
type Member struct {
	Cfg      *Config
	RemoteID types.ID
	Log      *zap.Logger // names the member, and writes asynchronously

	Guest bool // exists for a few requests only, with the fields that receivers need

	Ctx      context.Context // ends with End; not with the transport's, so that every goroutine is tracked
	Cancel   context.CancelCauseFunc
	Wait     *sync.WaitGroup // joins all goroutines of the member
	spawning sync.Mutex      // makes Spawn and End exclude each other

	URLs       URLs
	Dialer     *conn.Dialer
	PostClient *http.Transport
	Activity   *Activity
	Reports    *callback.Reports
	Events     *callback.Events
	notifiers  *callback.Notifiers // reports, events and log belong to them
	Counters   Counters
	Latency    latency.Peer
	checking   atomic.Bool            // a recheck is running
	Version    atomic.Pointer[string] // the peer's stated version; nil: unknown

	Refused    IdentityCounters
	RefusedLog loglimit.Limiter // of messages
	Refusals   loglimit.Recent[Refusal]
	Paused     atomic.Bool // by Pause or CutPeer

	snapshots SnapshotReports
	shown     atomic.Pointer[x509.Certificate] // by the member, when it dialled
	renewals  loglimit.Limiter
}

// Refusal is a kind of answer to a member, for the log.
type Refusal struct {
	From types.ID
	Code int
}

// URLs select the URL of a member to use. Both methods are safe for concurrent use.
type URLs interface {
	Pick() url.URL
	// Unreachable reports that a URL failed.
	Unreachable(u url.URL)
}

// New returns the shared state of a member, until Join.
func New(c *Config, id types.ID, urls URLs) *Member {
	n := c.Notifiers.Acquire(id)
	m := &Member{
		Cfg: c, RemoteID: id, Wait: new(sync.WaitGroup), URLs: urls,
		notifiers: n, Reports: n.Reports, Events: n.Events, Log: n.Log,
	}
	m.Dialer = &conn.Dialer{Dial: c.Dial, TLS: c.ClientTLS, Files: c.Files, Timeout: c.DialTimeout}
	if c.VerifyPeer != nil {
		m.Dialer.Verify = m.verifyDialed
	}
	m.Ctx, m.Cancel = context.WithCancelCause(context.Background())
	m.PostClient = m.Dialer.NewHTTPTransport(c.ReadTimeout, c.IdlePosts, protocol.MaxAnswerBytes)
	m.PostClient.DialContext = m.joined(m.PostClient.DialContext)
	m.PostClient.DialTLSContext = m.joined(m.PostClient.DialTLSContext)
	m.Activity = newActivity(m.Log, c.ReadTimeout)
	return m
}

// NewGuest returns the state that the receive queues of a member that is not a peer need. It
// ends with ctx, or with cancel; wg joins its goroutines.
func NewGuest(ctx context.Context, c *Config, id types.ID, wg *sync.WaitGroup) *Member {
	m := &Member{Cfg: c, RemoteID: id, Log: c.Log, Wait: wg, Guest: true}
	m.Ctx, m.Cancel = context.WithCancelCause(ctx)
	return m
}

// Moved says that the member has other URLs: what is known of it by the ones before says nothing about them.
func (m *Member) Moved() {
	m.Activity.Moved()
	m.Dialer.Moved()
	m.Latency.Out.Moved()
	m.HurrySnapshots()
}

// Cause returns why the member ended.
func (m *Member) Cause() error { return context.Cause(m.Ctx) }

// Enter counts the caller as a goroutine that Join waits for, until it calls
// Wait.Done, or returns false if the member has ended.
func (m *Member) Enter() bool {
	m.spawning.Lock()
	defer m.spawning.Unlock()
	if m.Ctx.Err() != nil {
		return false
	}
	m.Wait.Add(1)
	return true
}

// Spawn runs f on a goroutine that Join waits for, or returns false if the member
// has ended.
func (m *Member) Spawn(f func()) bool {
	m.spawning.Lock()
	defer m.spawning.Unlock()
	if m.Ctx.Err() != nil {
		return false
	}
	m.Wait.Go(f)
	return true
}

// End ends the member: later calls of Spawn fail, the context is cancelled, and reports of snapshots that are held back are made.
func (m *Member) End(cause error) {
	m.Activity.End(cause)
	m.spawning.Lock()
	m.Cancel(cause)
	m.spawning.Unlock() // SnapshotEnded enters with the lock that the next one takes
	m.snapshots.End(snapshotOwner{m})
}

// joined returns dial as a task of the member: net/http continues to dial for a
// request that has ended, and would do so after the member's end.
func (m *Member) joined(dial conn.DialFunc) conn.DialFunc {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		if !m.Enter() {
			return nil, m.Cause()
		}
		defer m.Wait.Done()
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		defer context.AfterFunc(m.Ctx, func() { cancel(m.Cause()) })()
		return dial(ctx, network, addr)
	}
}

// Join waits until none of the member's goroutines runs. Its pending callbacks are still
// called, before later ones about the same member. The member's context has ended and its
// queues are closed.
func (m *Member) Join() {
	m.Wait.Wait()
	m.Cfg.Notifiers.Release(m.RemoteID, m.notifiers)
	m.PostClient.CloseIdleConnections()
}

// Lose accounts for messages of a queue that will not be sent: counted, reported,
// and logged at most once a minute.
func (m *Member) Lose(q *queue.Queue, items []queue.Item, cause error) {
	snapshots := 0
	for _, it := range items {
		if it.Msg.GetType() == raftpb.MsgSnap {
			snapshots++
		}
	}
	m.LoseCounted(q, len(items), snapshots, cause)
}

// LoseCounted is Lose for n messages, including this number of MsgSnap.
func (m *Member) LoseCounted(q *queue.Queue, n, snapshots int, cause error) {
	if n == 0 {
		return
	}
	m.Drop(q, n, cause)
	if errors.Is(cause, wire.ErrExceedSizeLimit) { // raft will send it again and again
		m.Activity.DialFailed(time.Now(), cause)
	}
	m.Reports.Unreachable()
	for range snapshots {
		m.SnapshotEnded(cause)
	}
}

// Drop counts n messages that a queue does not deliver.
func (m *Member) Drop(q *queue.Queue, n int, cause error) {
	if n == 0 {
		return
	}
	why := ReasonOf(cause)
	total := q.Drop(n, why)
	if now := time.Now(); q.DropLogDue(why, now) && m.Ctx.Err() == nil {
		m.Log.Warn("dropping messages; further ones are only counted for a while",
			zap.String("lane", q.Name()), zap.Uint64("dropped-total", total), zap.Error(cause))
	}
	m.Events.Dropped(q.Name(), n, cause)
}

// SawVersion stores the peer's stated version in a message, which was
// parsed before.
func (m *Member) SawVersion(h http.Header) {
	v := h.Get(protocol.HeaderVersion)
	if old := m.Version.Load(); v != "" && (old == nil || *old != v) {
		v = strings.Clone(v) // not a reference to the complete head
		m.Version.Store(&v)
	}
}

// SawCertificate reports whether the member has dialled with another certificate than before: then it shows another one when
// it is dialled, too. At most one a minute counts.
func (m *Member) SawCertificate(state *tls.ConnectionState) (renewed bool) {
	if state == nil || len(state.PeerCertificates) == 0 {
		return false
	}
	now := state.PeerCertificates[0]
	before := m.shown.Swap(now)
	return before != nil && !before.Equal(now) && m.renewals.Due(time.Now())
}

// InflightBytes is how much data may be in flight for a send queue with the first limit,
// when all queues together have the second.
func InflightBytes(queue, all int64) uint64 { return uint64(max(min(queue/2, all/8), 1)) }

// AppendsDrained tells raft of appends that had no room in the queue of a stream,
// now that there is some. The first time it logs a remedy.
func (m *Member) AppendsDrained() {
	m.Reports.Unreachable()
	if !m.Cfg.InflightAdvice.CompareAndSwap(false, true) {
		return
	}
	m.Spawn(func() {
		m.Log.Warn("raft has more appends in flight than the queue holds: set raft.Config.MaxInflightBytes, as Transport.LimitInflight does",
			zap.Uint64("max-inflight-bytes", InflightBytes(m.Cfg.SendLimits.Bytes, m.Cfg.Queued.Max())),
			zap.Int64("send-queue-bytes", m.Cfg.SendLimits.Bytes), zap.Int("send-queue-messages", m.Cfg.SendLimits.Messages),
			zap.Int64("max-queued-bytes", m.Cfg.Queued.Max()))
	})
}
