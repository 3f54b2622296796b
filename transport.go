package rafthttp

import (
	"context"
	"crypto/tls"
	"errors"
	"maps"
	"net"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"
	"golang.org/x/time/rate"

	"github.com/seed-4d73690b/rafthttp/internal/callback"
	"github.com/seed-4d73690b/rafthttp/internal/conn"
	"github.com/seed-4d73690b/rafthttp/internal/loglimit"
	"github.com/seed-4d73690b/rafthttp/internal/postlimit"
	"github.com/seed-4d73690b/rafthttp/internal/protocol"
	"github.com/seed-4d73690b/rafthttp/internal/receive"
	"github.com/seed-4d73690b/rafthttp/internal/snapshot"
	"github.com/seed-4d73690b/rafthttp/snap"
)

// Raft is what a Transport delivers to and reports to. All methods are called
// concurrently, on goroutines of the transport or of the HTTP server, never on a
// goroutine that is inside a method of Transport. A panic in one ends the process,
// as doc.go says of all callbacks.
type Raft interface {
	// Process takes a received message; m is its to keep. Around a raft.Node or a
	// RawNode it is Step and nothing else: messages whose To is another member, or
	// whose From is one of raft's local threads, never come here, nor do posts and
	// snapshots of a member that IsIDRemoved names; its streams end with RemovePeer.
	// It may be called from AddPeer on, or from when Handler is served. It may block, as
	// raft's Step does on a proposal without a leader: messages of one kind from
	// one member (control, appends, proposals) come one after another, whichever
	// way they took, also across AddPeer and RemovePeer, and others are not held
	// up. It must return soon after ctx ends, which it does with the
	// peer, the request or the transport.
	//
	// An error is answered to a post with 500 and the end of its connection, or
	// with 403 if it is ErrMemberRemoved and the message is of the member that
	// sent it, not of one that had it passed on, or by itself if it has the method
	// WriteTo(http.ResponseWriter), or wraps an error that has. For a message from a stream it is logged.
	// It says that raft was not given the message: the database that came with a
	// MsgSnap is taken back then (DiscardingSnapshotter).
	Process(ctx context.Context, m *raftpb.Message) error

	// IsIDRemoved reports whether the member was removed from the cluster for
	// good: answer from the replicated state, so that it is known after a restart, and
	// from a snapshot, too. Such a member is refused streams, posts and snapshots, and told that it
	// was removed. It is asked for each request, and must return soon; Stop may be
	// called under a lock that it takes, and then takes up to a second longer if a
	// request is there.
	IsIDRemoved(id uint64) bool

	// ReportUnreachable says that messages to the member were lost or may have
	// been. It is called once for any number of them.
	ReportUnreachable(id uint64)

	// ReportSnapshot says how a snapshot ended, exactly once for each that was
	// given to SendSnapshot, and for each MsgSnap given to Send.
	ReportSnapshot(id uint64, status raft.SnapshotStatus)
}

// Transporter is what a server needs of a transport.
type Transporter interface {
	// Start runs the transport. It comes before everything else.
	Start() error
	// Handler serves the other members.
	Handler() http.Handler
	// Send sends messages to the members in their To fields.
	Send(m []*raftpb.Message)
	// SendSnapshot sends a snapshot with its database.
	SendSnapshot(m *snap.Message)
	// AddRemote adds a member that can be sent to before it is a peer.
	AddRemote(id types.ID, urls []string)
	// AddPeer adds a member of the cluster.
	AddPeer(id types.ID, urls []string)
	// RemovePeer removes a member.
	RemovePeer(id types.ID)
	// RemoveAllPeers removes all members.
	RemoveAllPeers()
	// UpdatePeer changes the URLs of a member.
	UpdatePeer(id types.ID, urls []string)
	// ActiveSince returns when a peer became active, or the zero time.
	ActiveSince(id types.ID) time.Time
	// ActivePeers returns the number of active peers.
	ActivePeers() int
	// Stop ends the transport.
	Stop()
}

// Transport sends raft messages to the other members of a cluster and receives
// theirs. Set its fields, then call Start; changes after Start have no effect,
// and a Transport must not be copied. The zero values of all fields but ID and
// Raft work. A timeout or interval may be a year (8760 h) at most; a bound in
// messages or bytes may be anything: math.MaxInt64 means that there is none. All
// methods are safe for concurrent use.
type Transport struct {
	// Logger takes the log; nil means none. Repeated events are logged once for each
	// change of state, and no message more often than docs/operating.md says. Lines are
	// written asynchronously, in order for each member, so that a log may be slow.
	Logger *zap.Logger

	// ID is the local member, and ClusterID its cluster: members of another
	// cluster are refused. ID must not be 0. Draw the ClusterID at random when the
	// cluster is founded, give it to all members, and keep it with the data: two
	// clusters with the same one that come to share an address destroy each other. 0
	// is an id like any other, which all clusters have that set none: Start logs a
	// warning.
	ID        types.ID
	ClusterID types.ID
	// URLs are the peer URLs of the local member, told to the others so that they
	// can answer a member they do not know yet. Empty: they are not told. SetURLs
	// changes them later.
	URLs types.URLs

	// Raft takes messages and reports. It must not be nil.
	Raft Raft
	// Snapshotter saves incoming databases. Nil: they are refused with 501, which
	// the sender reports as a failure.
	Snapshotter Snapshotter
	// ErrorC gets ErrMemberRemoved when a peer says that the local member was
	// removed from the cluster; the server should stop then. It may be nil, and
	// the transport never waits for it.
	ErrorC chan error
	// Observer has hooks into the transport; nil means none.
	Observer *Observer

	// TLSInfo is used to dial https and unixs URLs. Its files (certificates, keys,
	// authorities, revocation list) must be there at the start, and are read again
	// for every handshake. While one cannot be used, the last good one is, but for
	// the revocation list, without which there is no handshake.
	TLSInfo transport.TLSInfo
	// TLSRecheck is how often existing connections are revalidated against the files
	// of TLSInfo and VerifyPeer; 0 means 10 s. A member that is revoked, or refused by
	// VerifyPeer, is disconnected at once; one whose authority was removed, or whose
	// certificate has expired, unless it reconnects with another one within one interval.
	// After a change of our own certificate, and before another member's expires,
	// streams continue on new connections without loss.
	TLSRecheck time.Duration
	// VerifyPeer, if not nil, decides whether a connection belongs to the member
	// with this id: when dialling it, and for each of its requests. The state is
	// nil where the connection is not encrypted, and the id is 0 where the
	// requester states none. An error refuses the connection, or the request: a
	// stream with 403, anything else with 401. Messages are then held to the same
	// member: one whose From is another is refused, but for types that raft passes
	// on for others, as is one of a type that raft sends only to itself. Package
	// peerid has ready ones. It is called concurrently, and must not block.
	VerifyPeer func(types.ID, *tls.ConnectionState) error
	// DialContext makes the connections; network is "tcp" or "unix". Nil means a
	// net.Dialer. Proxies of the environment are not used.
	DialContext func(ctx context.Context, network, addr string) (net.Conn, error)
	// DialTimeout bounds dialling and TLS handshake together; 0 means 5 s.
	DialTimeout time.Duration
	// DialRetryFrequency is how often a stream that is down is dialled again, in
	// attempts a second; 0 means 10. While a peer stays down, or ends its streams
	// within ReadTimeout, the attempts become fewer, down to one a second.
	DialRetryFrequency rate.Limit

	// ReadTimeout is how long a stream may be silent, or bring less than 4 KiB of
	// one message, before it is closed and dialled again, and how long a request
	// or a snapshot may stand still; 0 means 5 s. A third of it is the interval of
	// link heartbeats, so it should be about the same on all members. At least
	// 10 ms.
	ReadTimeout time.Duration
	// WriteTimeout is how long a write may make no progress; 0 means 5 s.
	WriteTimeout time.Duration

	// SendQueueMessages and SendQueueBytes bound what waits for one stream of one
	// peer, in messages and in bytes of memory, for control messages, appends and
	// proposals each; 0 means 4096 and 64 MiB. A message larger than the bound is
	// taken while the queue is empty. The pipeline has the same bounds in bytes and
	// holds 64 messages of each kind.
	SendQueueMessages int
	SendQueueBytes    int64
	// ReceiveQueueMessages and ReceiveQueueBytes bound what waits for Process in
	// each of the three receive lanes of a peer; 0 means 4096 and 64 MiB.
	ReceiveQueueMessages int
	ReceiveQueueBytes    int64
	// MaxQueuedBytes bounds what all queues of all peers and remotes hold together,
	// those to them and those from them; 0 means 1 GiB. One queue may hold as much as
	// is left, half of the whole if no other holds anything, so that peers that read
	// nothing leave room for the others. The last eighth is for what is neither
	// append nor proposal nor snapshot, so that those are dropped first.
	// A message that is larger than that is taken while nothing else is queued
	// anywhere, and counts as seven eighths until it is gone, or as all if it is one
	// of those that have the last eighth.
	MaxQueuedBytes int64
	// MaxMessageBytes bounds one received message, on the wire and in memory; 0
	// means 512 MiB. The message at the head of a snapshot may have at most
	// 64 MiB.
	MaxMessageBytes int64

	// SnapshotRateLimit bounds what all outgoing database snapshots together
	// send, in bytes a second; 0 means unlimited. SetSnapshotRateLimit changes it
	// later. Each transfer sends at least a byte every 1.25 s, or every quarter of
	// ReadTimeout if that is less, so that no receiver takes it for dead.
	SnapshotRateLimit rate.Limit
	// MaxSnapshots bounds the snapshots that are sent at once, and those that are
	// received at once; 0 means 4. Over it a sender waits, and a receiver refuses. Each
	// way, a member that has one under way, or that is no peer, leaves a place to each
	// peer that has none, up to half of all places: with 4, one of two peers may have 3,
	// and one of four may have 2.
	MaxSnapshots int
	// SnapshotAnswerTimeout bounds the time from the last byte of a snapshot to
	// the receiver's answer, which comes after it has saved the database; 0 means
	// 1 min. It begins anew, for up to an hour, each time that the receiver says
	// that it is at work, as members with this library do. As a receiver, it bounds
	// the Process of a snapshot.
	SnapshotAnswerTimeout time.Duration

	// ServerVersion and MinClusterVersion are what requests and answers state as
	// the local member's version and the lowest version it works with; empty
	// means "3.7.0" and "3.0.0".
	ServerVersion     string
	MinClusterVersion string

	engine         atomic.Pointer[engine]
	urls           atomic.Pointer[string] // as X-PeerURLs states them; nil: URLs are not read yet
	clientFailures conn.Failures          // where NewServer serves Handler
}

var _ Transporter = (*Transport)(nil)

// Start validates the fields and begins to work. Its error is a *ConfigError for
// a field that cannot work, or says that Start was called before. It does not
// block.
func (t *Transport) Start() error {
	s, err := t.settings()
	if err != nil {
		return err
	}
	e := &engine{
		cfg: s, snapshots: t.snapshotSettings(s), started: time.Now(), done: make(chan struct{}),
		remotes: &remotes{s: s, byID: map[types.ID]*remote{}},
		added:   make(chan struct{}, 1), ending: map[*peer]struct{}{},
		postLimit:     postlimit.New(s.Queued.Max()),
		local:         &localDrops{events: callback.NewEvents(s.ID, s.EventHooks())},
		snapshotLines: loglimit.PerMinute(callback.MemberLines),
	}
	e.pace = snapshot.NewPace(e.snapshots.most, e.snapshots.rate, s.ReadTimeout, e.peerIDs)
	e.receiving = snapshot.NewReceiver(e.snapshots.transfer, e.snapshots.most, e.snapshots.headLimits, e.peerIDs)
	urls := t.URLs.String()
	t.urls.CompareAndSwap(nil, &urls)
	e.peers.Store(&map[types.ID]*peer{})
	e.ctx, e.cancel = context.WithCancelCause(context.Background())
	e.receiveQueues = receive.NewQueues(receive.Config{
		Ctx: e.ctx, Cfg: s, Wait: &e.wg, PeerOf: e.receiversOf, IsPaused: e.remotes.isPaused,
	})
	if !t.engine.CompareAndSwap(nil, e) {
		return errors.New("rafthttp: Transport.Start was called before")
	}
	if s.Self.ClusterID == 0 {
		s.Log.Warn("ClusterID is 0, as it is in all clusters that set none: members of those are not refused")
	}
	e.spawn(e.housekeeping)
	return nil
}

// Send sends each message to the member in its To field: a peer, or else a
// remote. Messages to 0 and to unknown members are ignored: a server may set To to 0
// in messages that are not to be sent, as etcd's does. Messages for the local
// member, and for raft's local threads (raft.Config.AsyncStorageWrites), are dropped
// with ErrLocalMessage, which Observer.Dropped, Status.Drops and the log tell of:
// SplitMessages takes them out before.
//
// Send never blocks and never calls into Raft. It takes over the messages: the
// caller must not change them any more. A message that cannot be sent is
// reported by ReportUnreachable, and a MsgSnap by ReportSnapshot as well. After
// Stop it does nothing.
func (t *Transport) Send(msgs []*raftpb.Message) {
	e := t.engine.Load()
	if e == nil {
		return
	}
	for len(msgs) > 0 {
		msgs = msgs[e.sendRun(msgs):]
	}
}

// sendRun gives the first of msgs, and those after it that go the same way, to
// the member that it is for, and returns how many. Who that is may change
// meanwhile: then it is tried again with who it is by then.
func (e *engine) sendRun(msgs []*raftpb.Message) int {
	to := types.ID(msgs[0].GetTo())
	if e.cfg.IsLocal(to) {
		return e.dropLocal(msgs)
	}
	for {
		p := e.peerOf(to)
		if p != nil {
			n, alive := p.sendRun(msgs)
			if alive || n > 0 {
				return n
			}
			// It was removed, and is not in the map of peers any more.
		} else if to == 0 || e.remotes.send(to, msgs[0]) {
			return 1
		}
		if e.peerOf(to) == p { // nobody, or one that has ended
			return 1
		}
	}
}

// SendSnapshot sends m, a MsgSnap with its database, to the peer in its To field.
// The database must not change until its ReadCloser is closed: ErrSnapshotChanged
// says what is noticed of it. It does not block. It takes over m: its ReadCloser is closed exactly once, its
// CloseNotify gets exactly one value, and ReportSnapshot is called exactly once,
// with a failure if there is no such peer. While an older transfer of the same
// snapshot to the peer is under way, m waits for it; it shares its result where the
// messages are equal and the older reader did not fail.
//
// The reader is never closed by the goroutine that calls SendSnapshot. Before Start,
// and once Stop was called, m is closed by a goroutine that nothing waits for, and
// there is no report: Close, and the value from CloseNotify, may come after Stop has
// returned.
func (t *Transport) SendSnapshot(m *snap.Message) {
	e := t.engine.Load()
	if e == nil {
		go m.CloseWithError(protocol.ErrNotStarted)
		return
	}
	if p := e.peerOf(types.ID(m.GetTo())); p != nil && p.sendSnap(m) {
		return
	}
	refuse := func() {
		snapshot.Close(m, ErrMemberUnknown, e.cfg.Log)
		to := e.cfg.Notifiers.Acquire(types.ID(m.GetTo()))
		to.Reports.Snapshot(ErrMemberUnknown)
		e.cfg.Notifiers.Release(types.ID(m.GetTo()), to)
	}
	if !e.spawn(refuse) {
		go m.CloseWithError(ErrStopped)
	}
}

// Stop ends the transport: it refuses new work, cancels what is under way,
// closes all connections, reports what is lost by that, and returns when no
// goroutine of the transport runs and no callback will come, but for the Close of
// a snapshot that SendSnapshot is given after Stop was called. It waits for
// callbacks under way, so it must not be called from inside one, nor under a
// lock that one waits for, but for IsIDRemoved: after 5 s, and then less and less often, it
// says in the log which callbacks it waits for, about which member, with the stacks of their
// goroutines. Calling it again is harmless. AddPeer panics after it, so what applies changes
// of the membership has to end first.
func (t *Transport) Stop() {
	e := t.engine.Load()
	if e == nil {
		return
	}
	e.mu.Lock()
	if e.stopped {
		e.mu.Unlock()
		<-e.done
		return
	}
	e.stopped = true
	peers := slices.Collect(maps.Values(e.peerMap()))
	e.receiveQueues.Replace(nil, receiversOf(peers), func() { e.peers.Store(&map[types.ID]*peer{}) })
	e.mu.Unlock()

	e.cancel(ErrStopped)
	for _, p := range peers {
		p.shut(ErrStopped)
	}
	remotes := e.remotes.close(ErrStopped)
	watch := callback.WatchStop(e.cfg.Log, func() []string { return e.runningCallbacks(peers, remotes) })
	for _, r := range remotes {
		r.member.Join()
	}
	for _, p := range peers {
		p.member.Join()
	}
	e.wg.Wait()
	e.awaitAsking()
	e.cfg.Notifiers.Close()
	e.local.events.Close()
	watch.End()
	e.cfg.AsyncLog.Close()
	close(e.done)
}
