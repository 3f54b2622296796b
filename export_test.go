package rafthttp

import (
	"context"
	"crypto/tls"
	"net"
	"net/url"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"

	"github.com/seed-4d73690b/rafthttp/internal/conn"
)

// WithDeadlines is what NewListener does to a plain listener, with timeouts of
// the test's choice.
func WithDeadlines(l net.Listener, read, write time.Duration) net.Listener {
	return conn.NewDeadlineListener(l, read, write, conn.DefaultListenLimits)
}

// DialPlain dials as a Transport with these fields does, without DialContext.
func (t *Transport) DialPlain(ctx context.Context, addr string) (net.Conn, error) {
	s, err := t.settings()
	if err != nil {
		return nil, err
	}
	return s.Dial(ctx, "tcp", addr)
}

// Below returns what a connection of WithDeadlines or NewListener wraps.
func Below(c net.Conn) net.Conn { return c.(interface{ NetConn() net.Conn }).NetConn() }

// Kept is a connection that is validated again while it is up, and what cuts it.
func Kept(c net.Conn) (kept net.Conn, cut func(cause error)) {
	d := &conn.Dialer{
		Dial:    func(context.Context, string, string) (net.Conn, error) { return c, nil },
		Timeout: time.Minute, Verify: func(string, *tls.ConnectionState) error { return nil },
	}
	kept, err := d.Connect(context.Background(), url.URL{Scheme: "http"})
	if err != nil {
		panic(err)
	}
	return kept, kept.(*conn.Dialed).Cut
}

// QueuePosts gives messages to the pipeline of a peer, as a Send does that was under way when the peer was cut.
func (t *Transport) QueuePosts(peer types.ID, msgs []*raftpb.Message) {
	p := t.peer(peer)
	p.offerRun(p.pipeline.queueOf(msgs[0].GetType()), msgs)
}

// TimeForBody is how long the body of a post may take beyond what any may.
func TimeForBody(bytes uint64) time.Duration { return conn.TimeForBody(bytes) }

// Loggers returns what all lines about one peer, and what all others are logged by.
func (t *Transport) Loggers(peer types.ID) (ofPeer, ofOthers *zap.Logger) {
	return t.peer(peer).member.Log, t.engine.Load().cfg.Log
}

// LanesRemembered returns how many receive lanes there are of members that are no peers,
// and of which kinds of which members there are earlier ones to wait for.
func (t *Transport) LanesRemembered() (guests, earlier int) {
	return t.engine.Load().receiveQueues.Remembered()
}

// MembersToldOf returns of how many members something tells, or is being told.
func (t *Transport) MembersToldOf() int {
	return t.engine.Load().cfg.Notifiers.Len()
}

// Heard is what a post of a peer that was processed does, without a change of goroutines.
func (t *Transport) Heard(peer types.ID) { t.peer(peer).member.Activity.PostOf() }
