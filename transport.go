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
	"github.com/seed-4d73690b/rafthttp/internal/member"
	"github.com/seed-4d73690b/rafthttp/internal/protocol"
	"github.com/seed-4d73690b/rafthttp/internal/snapshot"
	"github.com/seed-4d73690b/rafthttp/snap"
)

// Raft receives the messages and reports of a Transport. All methods are called
// concurrently, on goroutines of the transport or of the HTTP server, never on a
// goroutine that is inside a method of Transport. A panic in one ends the process,
// see doc.go.
type Raft interface {
	// Process handles a received message and owns m. With a raft.Node or a RawNode it
	// only calls Step: it is never called with messages whose To is another member or
	// whose From is one of raft's local threads, nor with POSTs and snapshots of a
	// member that IsIDRemoved reports; RemovePeer ends the streams of that member.
	// It may be called as soon as AddPeer is called or Handler is served. It may block,
	// as raft's Step does on a proposal without a leader: messages of one kind from
	// one member (control, appends, proposals) are processed one after another, by
	// whichever path they arrived, also across AddPeer and RemovePeer, and do not delay
	// others. It must return soon after ctx ends, with the peer, the request or the transport.
	//
	// An error answers a POST with 500 and closes its connection, or
	// with 403 if it is ErrMemberRemoved and the sender is the From of the message,
	// not a member that forwarded it. An error that has the method
	// WriteTo(http.ResponseWriter), or wraps one that has, writes the answer. For a message
	// from a stream the error is logged. An error means that raft did not receive the message:
	// the database of a MsgSnap is then discarded (DiscardingSnapshotter).
	Process(ctx context.Context, m *raftpb.Message) error

	// IsIDRemoved reports whether the member was removed from the cluster permanently.
	// Answer from the replicated state, so that the answer survives a restart and
	// a snapshot. A removed member is refused streams, POSTs and snapshots, and told that it
	// was removed. IsIDRemoved is called for each request and must return soon. Stop may be
	// called under a lock that IsIDRemoved takes; Stop then takes up to a second longer if
	// a request is waiting there.
	IsIDRemoved(id uint64) bool

	// ReportUnreachable reports that messages to the member were lost or may have
	// been. One call stands for any number of messages.
	ReportUnreachable(id uint64)

	// ReportSnapshot reports the result of a snapshot, exactly once for each one
	// given to SendSnapshot, and for each MsgSnap given to Send.
	ReportSnapshot(id uint64, status raft.SnapshotStatus)
}

// Transporter is the part of a Transport that a server uses.
type Transporter interface {
	// Start starts the transport. Call it before any other method.
	Start() error
	// Handler returns the handler for requests of the other members.
	Handler() http.Handler
	// Send sends messages to the members in their To fields.
	Send(m []*raftpb.Message)
	// SendSnapshot sends a snapshot with its database.
	SendSnapshot(m *snap.Message)
	// AddRemote adds a member that can receive messages before it is a peer.
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
	// Stop stops the transport.
	Stop()
}

// Transport sends raft messages to the other members of a cluster and receives
// theirs. Set its fields, then call Start; changes after Start have no effect.
// A Transport must not be copied. The zero values of all fields except ID and
// Raft work. A timeout or interval may be at most a year (8760 h); a limit in
// messages or bytes may have any value: math.MaxInt64 means no limit. All
// methods are safe for concurrent use.
type Transport struct {
	// Logger receives the log; nil means none. Repeated events are logged once per
	// change of state, and no message more often than docs/operating.md says. Lines are
	// written asynchronously, in order for each member, so a slow log delays nothing else.
	Logger *zap.Logger

	// ID is the local member and ClusterID its cluster: members of another
	// cluster are refused. ID must not be 0. Choose the ClusterID at random when the
	// cluster is founded, give it to all members, and store it with the data: two
	// clusters with the same ClusterID that come to share an address destroy each other. 0
	// is a valid ClusterID, shared by all clusters that set none: Start logs a
	// warning.
	ID        types.ID
	ClusterID types.ID
	// URLs are the peer URLs of the local member. Requests state them, so that a member
	// that does not know the local one yet can answer it. Empty: not stated. SetURLs
	// changes them later.
	URLs types.URLs

	// Raft receives messages and reports. It must not be nil.
	Raft Raft
	// Snapshotter saves incoming databases. Nil: they are refused with 501, which
	// the sender reports as a failure.
	Snapshotter Snapshotter
	// ErrorC gets ErrMemberRemoved when a peer says that the local member was
	// removed from the cluster; the server should stop then. It may be nil, and
	// the transport never waits for it.
	ErrorC chan error
	// GroupReceiver receives the messages of all raft groups (Group) in batches; nil means that each group's Raft does.
	// The Raft of a group then gets only the messages and reports of database snapshots.
	GroupReceiver GroupReceiver
	// Observer has hooks into the transport; nil means none.
	Observer *Observer

	// TLSInfo is used to dial https and unixs URLs. Its files (certificates, keys,
	// authorities, revocation list) must exist at Start, and are read again
	// for every handshake. While a file is unusable, the last usable version is used, except
	// for the revocation list, without which handshakes fail.
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
	// nil if the connection is not encrypted, and the id is 0 if the
	// request states none. An error refuses the connection or the request: a
	// stream with 403, any other request with 401. Messages must then come from the same
	// member: one whose From is another member is refused, except for types that raft
	// forwards for others, and so is one of a type that raft sends only to itself. Package
	// peerid has implementations. It is called concurrently and must not block.
	VerifyPeer func(types.ID, *tls.ConnectionState) error
	// DialContext makes the connections; network is "tcp" or "unix". Nil means a
	// net.Dialer. Proxies from the environment are not used.
	DialContext func(ctx context.Context, network, addr string) (net.Conn, error)
	// DialTimeout limits dialling and TLS handshake together; 0 means 5 s.
	DialTimeout time.Duration
	// DialRetryFrequency is how often a broken stream is dialled again, in
	// attempts a second; 0 means 10. While a peer stays down, or ends its streams
	// within ReadTimeout, attempts become less frequent, down to one a second.
	DialRetryFrequency rate.Limit

	// ReadTimeout is how long a stream may be silent, or deliver less than 4 KiB of
	// one message, before it is closed and dialled again, and how long a request
	// or a snapshot may make no progress; 0 means 5 s. A third of it is the interval of
	// link heartbeats, so it should be about the same on all members. At least
	// 10 ms.
	ReadTimeout time.Duration
	// WriteTimeout is how long a write may make no progress; 0 means 5 s.
	WriteTimeout time.Duration

	// SendQueueMessages and SendQueueBytes limit the queue of one stream of one
	// peer, in messages and in bytes of memory, for control messages, appends and
	// proposals each; 0 means 4096 and 64 MiB. A message larger than the limit is
	// accepted while the queue is empty. The pipeline has the same limits in bytes and
	// holds 64 messages of each kind.
	SendQueueMessages int
	SendQueueBytes    int64
	// ReceiveQueueMessages and ReceiveQueueBytes limit the messages that wait for Process
	// in each of the three receive queues of a peer; 0 means 4096 and 64 MiB.
	ReceiveQueueMessages int
	ReceiveQueueBytes    int64
	// MaxQueuedBytes limits all queues of all peers and remotes together, in both
	// directions; 0 means 1 GiB. One queue may hold as many bytes as are left, half of
	// the limit if no other queue holds any, so that peers that read
	// nothing leave room for the others. The last eighth is reserved for messages other
	// than appends, proposals and snapshots, so that those three are dropped first.
	// A message larger than the limit is accepted while nothing else is queued
	// anywhere, and counts as seven eighths until it is released, or as the full limit if
	// it may use the last eighth.
	MaxQueuedBytes int64
	// MaxMessageBytes limits one received message, on the wire and in memory; 0
	// means 512 MiB. The message at the head of a snapshot may have at most
	// 64 MiB.
	MaxMessageBytes int64

	// SnapshotRateLimit limits all outgoing database snapshots together, in bytes a
	// second; 0 means unlimited. SetSnapshotRateLimit changes it
	// later. Each transfer sends at least one byte every 1.25 s, or every quarter of
	// ReadTimeout if that is less, so that no receiver considers it dead.
	SnapshotRateLimit rate.Limit
	// MaxSnapshots limits the snapshots sent at a time, and those received at a
	// time; 0 means 4. Over it a sender waits, and a receiver refuses. In each
	// direction, a member that has a snapshot in progress, or is not a peer, leaves a place to each
	// peer that has none, up to half of all places: with 4, one of two peers may have 3,
	// and one of four may have 2.
	MaxSnapshots int
	// SnapshotAnswerTimeout limits the time from the last byte of a snapshot to
	// the receiver's answer, which comes after it has saved the database; 0 means
	// 1 min. It restarts, for up to an hour, each time the receiver reports that it is
	// working, as members with this library do. On a receiver, it limits
	// the Process of a snapshot.
	SnapshotAnswerTimeout time.Duration
	// SnapshotBackoff is how long ReportSnapshot is held back after a snapshot to a peer, or to a
	// replica of a group, failed, since raft sends the next one as soon as it is told: 2 to 5
	// times a second. It is doubled with each failure in a row, up to a minute, or to
	// SnapshotBackoff if that is longer. 0 means none. There is still one report for each snapshot, in order;
	// reader and CloseNotify are not held back. A report that is held back comes at once when
	// a later snapshot succeeds, when the peer becomes active or is given other URLs, with
	// MendPeer, RemovePeer and Stop; but while a later snapshot to the peer is under way,
	// which raft would take it for, not before the report of that one. Meanwhile raft sends
	// the peer no appends: 1 s is a good value.
	SnapshotBackoff time.Duration

	// ServerVersion and MinClusterVersion are the local member's version and the lowest
	// version that it works with, as requests and answers state them; empty
	// means "3.7.0" and "3.0.0".
	ServerVersion     string
	MinClusterVersion string

	engine         atomic.Pointer[engine]
	urls           atomic.Pointer[string] // as X-PeerURLs states them; nil: not read yet
	voters         member.Voters          // by SetConfState
	clientFailures conn.Failures          // of the server from NewServer that serves Handler
}

var _ Transporter = (*Transport)(nil)

// Start validates the fields and starts the transport. The error is a *ConfigError for
// an invalid field, or says that Start was called before. It does not
// block.
func (t *Transport) Start() error {
	s, err := t.settings()
	if err != nil {
		return err
	}
	e := t.newEngine(s)
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
// in messages that must not be sent, as etcd's does. Messages for the local
// member, and for raft's local threads (raft.Config.AsyncStorageWrites), are dropped
// with ErrLocalMessage, which Observer.Dropped, Status.Drops and the log report:
// remove them with SplitMessages first.
//
// Send never blocks and never calls into Raft. It owns the messages: the
// caller must not modify them afterwards. A message that cannot be sent is
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

// sendRun gives the first of msgs, and the following ones with the same route, to
// their member, and returns their number. If the member becomes or stops being a peer
// meanwhile, sendRun tries again.
func (e *engine) sendRun(msgs []*raftpb.Message) int {
	to := types.ID(msgs[0].GetTo())
	if e.cfg.IsLocal(to) {
		return e.dropLocal(msgs)
	}
	for {
		p := e.peerOf(to)
		if p != nil {
			n, alive := p.routes.Send(msgs)
			if alive || n > 0 {
				return n
			}
			// The member was removed, and is no longer in the map of peers.
		} else if to == 0 || e.remotes.Send(to, msgs[0]) {
			return 1
		}
		if e.peerOf(to) == p { // there is none, or it has ended
			return 1
		}
	}
}

// SendSnapshot sends m, a MsgSnap with its database, to the peer in its To field.
// The database must not change until its ReadCloser is closed: ErrSnapshotChanged
// reports a change that is noticed. It does not block. Over MaxSnapshots, m waits for its turn, without
// a limit of time, and is opened then if it has an Open. SendSnapshot owns m: its ReadCloser is
// closed exactly once, its CloseNotify gets exactly one value, and ReportSnapshot is
// called exactly once, with a failure if there is no such peer. While an older transfer
// of the same snapshot to the peer is in progress, m waits for it; it shares the result if
// the messages are equal and the older reader did not fail.
//
// The goroutine that calls SendSnapshot never closes the reader. Before Start,
// and after the call of Stop, an untracked goroutine closes m, and there is no report:
// Close, and the value from CloseNotify, may come after Stop has returned.
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

// Stop stops the transport: it refuses new work, cancels work in progress,
// closes all connections, reports the resulting losses, and returns when no
// goroutine of the transport runs and no callback will be invoked, except for the Close of
// a snapshot given to SendSnapshot after Stop was called. It waits for running
// callbacks, so it must not be called from inside one, nor under a
// lock that one waits for, except IsIDRemoved. After 5 s, and then less and less often, it
// logs the callbacks that it waits for, with their member and the stacks of their
// goroutines. Calling it again is harmless. AddPeer panics after Stop, so the goroutine that
// applies membership changes must end first.
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
	remotes := e.remotes.Close(ErrStopped)
	e.groups.Stop(ErrStopped)
	watch := callback.WatchStop(e.cfg.Log, func() []string { return e.runningCallbacks(peers, remotes) })
	for _, r := range remotes {
		r.Member.Join()
	}
	for _, p := range peers {
		p.member.Join()
	}
	e.groups.Close()
	e.wg.Wait()
	e.pace.Wait()
	e.awaitAsking()
	e.cfg.Notifiers.Close()
	e.local.events.Close()
	watch.End()
	e.cfg.AsyncLog.Close()
	close(e.done)
}
