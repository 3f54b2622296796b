package stream

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/seed-4d73690b/rafthttp/internal/conn"
	"github.com/seed-4d73690b/rafthttp/internal/faultpoint"
	"github.com/seed-4d73690b/rafthttp/internal/member"
	"github.com/seed-4d73690b/rafthttp/internal/protocol"
	"github.com/seed-4d73690b/rafthttp/internal/socket"
	"github.com/seed-4d73690b/rafthttp/internal/wire"
)

// Conn is a stream that a peer dialled, to be written by us. Its writer
// owns it from Attach on.
type Conn struct {
	Kind   Kind
	enc    wire.Encoder       // of this connection: msgapp v2 keeps state; nil: it has groups
	groups *wire.GroupEncoder // of this connection; nil: it has enc
	Stream *conn.Stream

	state    *tls.ConnectionState // nil: no TLS; does not change
	outdated bool                 // the client is expected to dial again; owned by Recheck
}

// NewConn returns a connection for Writer.Attach. state is the TLS state, or nil.
func NewConn(kind Kind, s *conn.Stream, state *tls.ConnectionState) *Conn {
	c := &Conn{Kind: kind, Stream: s, state: state}
	if kind < Kinds {
		c.enc = kind.encoder()
	} else {
		c.groups = wire.NewGroupEncoder()
	}
	return c
}

// attachment is the connection of a writer: the one that the peer dialled last.
// It is safe for concurrent use.
type attachment struct {
	member *member.Member
	kind   Kind
	queue  attachedQueue

	mu   sync.Mutex // guards conn; held while the queue changes between up and down
	conn *Conn      // nil while down

	since    time.Time // when conn was attached; guarded by mu, like the next
	connects uint64
	history  reconnects
}

// attachedQueue is the queue of a writer: it accepts messages while the writer has a connection.
type attachedQueue interface {
	// open accepts messages from now on; before any of them, a link heartbeat is written. The caller holds the attachment's lock.
	open()
	// shut refuses messages, forever or until it is opened. It returns the number of messages that
	// are lost, and a function that accounts for them. The caller holds the attachment's lock, and calls
	// lose without it.
	shut(forever bool) (lost int, lose func(cause error))
	// Heartbeat makes the writer write a link heartbeat.
	Heartbeat()
	// interrupted is told that messages that were written may be lost. The caller reports the peer.
	interrupted()
}

func newAttachment(m *member.Member, kind Kind, q attachedQueue) *attachment {
	return &attachment{member: m, kind: kind, queue: q, history: reconnects{down: time.Now()}}
}

// attach takes over c: a newer connection replaces the older one. The queue
// continues over c. It returns false, and closes c, if the peer has ended.
func (a *attachment) attach(c *Conn) bool {
	failed := faultpoint.Fails(faultpoint.StreamAttach)
	a.mu.Lock()
	if a.member.Ctx.Err() != nil || failed {
		a.mu.Unlock()
		c.Stream.Close()
		return false
	}
	old := a.conn
	a.conn, a.since = c, time.Now()
	a.connects++
	a.history.connect(a.since)
	a.queue.open()
	a.mu.Unlock()
	faultpoint.Hit(faultpoint.StreamAttached)
	a.queue.Heartbeat() // the peer learns at once that the stream delivers
	if old != nil {
		a.queue.interrupted()
		if c.renews(old) {
			a.member.Log.Info("moved a stream to a connection with the peer's new certificate", zap.Stringer("stream", a.kind))
		} else {
			a.member.Log.Warn("closed a stream for a newer connection", zap.Stringer("stream", a.kind))
		}
		a.closeAfterDrain(old)
		a.member.Reports.Unreachable() // messages on it that the peer has not read
	} else {
		a.member.Log.Info("established a stream to the peer", zap.Stringer("stream", a.kind))
	}
	return true
}

// detach ends c, if it is still the connection of the writer: the messages of the queue
// are lost, and reported. Written messages may be lost as well, unread by the
// peer, so the peer is reported in any case.
func (a *attachment) detach(c *Conn, cause error) {
	faultpoint.Hit(faultpoint.StreamDetach)
	a.mu.Lock()
	current := a.conn == c
	lost, lose := 0, func(error) {}
	if current {
		a.conn, a.since = nil, time.Time{}
		a.history.disconnect()
		lost, lose = a.queue.shut(false)
	}
	a.mu.Unlock()
	c.Stream.Close()
	if !current {
		return
	}
	faultpoint.Hit(faultpoint.StreamShut)
	a.queue.interrupted()
	a.member.Log.Warn("lost a stream to the peer", zap.Stringer("stream", a.kind), zap.Int("dropped", lost), zap.Error(cause))
	lose(cause)
	a.member.Reports.Unreachable()
}

// close ends the attachment. The peer's context has ended.
func (a *attachment) close() {
	a.mu.Lock()
	c := a.conn
	a.conn, a.since = nil, time.Time{}
	_, lose := a.queue.shut(true)
	a.mu.Unlock()
	if c != nil {
		c.Stream.Close()
	}
	faultpoint.Hit(faultpoint.StreamClosed)
	lose(a.member.Cause())
}

func (a *attachment) current() *Conn {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.conn
}

// state adds the current state of the connection to st.
func (a *attachment) state(st State) State {
	a.mu.Lock()
	defer a.mu.Unlock()
	st.Since, st.Connects = a.since, a.connects
	a.history.addTo(&st, time.Now())
	return st
}

// sendState returns how far what was written to the connection has got; false if there is none, or the system does not tell.
func (a *attachment) sendState() (socket.SendState, bool) {
	if c := a.current(); c != nil {
		return c.Stream.SendState()
	}
	return socket.SendState{}, false
}

// recheck checks the connection that the peer dialled.
func (a *attachment) recheck() {
	c := a.current()
	if c == nil {
		return
	}
	st, err := a.member.Cfg.Validate(a.member.RemoteID, c.state)
	switch {
	case st == conn.Revoked, st == conn.Outdated && c.outdated:
		a.member.Cutting("from", err)
		a.member.Refuse(member.IdentityCounts{Requests: 1})
		a.member.Activity.DialFailed(time.Now(), err)
		a.detach(c, fmt.Errorf("%w: %w", protocol.ErrIdentity, err))
	case st == conn.Outdated:
		c.outdated = true // the peer should dial again
	}
}

// renews reports whether the client has dialled c with another certificate or chain than
// the older connection.
func (c *Conn) renews(old *Conn) bool {
	now, before := shownOn(c.state), shownOn(old.state)
	return len(now) > 0 && len(before) > 0 && !slices.EqualFunc(now, before, (*x509.Certificate).Equal)
}

// shownOn returns the certificates of the other end.
func shownOn(state *tls.ConnectionState) []*x509.Certificate {
	if state == nil {
		return nil
	}
	return state.PeerCertificates
}

// handoverGrace is how long a replaced connection has to complete
// the batch that is being written to it.
const handoverGrace = 500 * time.Millisecond

// closeAfterDrain closes a replaced connection between two batches: a live peer
// reads it to its end, and continues with the newer one. A stuck
// connection is closed after handoverGrace.
func (a *attachment) closeAfterDrain(old *Conn) {
	grace := time.NewTimer(handoverGrace)
	wait := func() {
		defer grace.Stop()
		select {
		case <-old.Stream.Gone():
		case <-grace.C:
		case <-a.member.Ctx.Done():
		}
		old.Stream.Close()
	}
	if !a.member.Spawn(wait) {
		grace.Stop()
		old.Stream.Close()
	}
}
