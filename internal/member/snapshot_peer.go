package member

import (
	"context"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/seed-4d73690b/rafthttp/internal/conn"
	"github.com/seed-4d73690b/rafthttp/internal/protocol"
)

// SnapshotPeer is a member as the destination of snapshots: most of a snapshot.Peer.
type SnapshotPeer struct {
	Of   *Member
	Path string // of requests with a snapshot
}

// URL returns the URL to try next.
func (p SnapshotPeer) URL() url.URL { return p.Of.URLs.Pick() }

// Dial connects to u for an attempt that began at that time, and returns the URL of a request with a snapshot.
func (p SnapshotPeer) Dial(ctx context.Context, u url.URL, began time.Time, wrap func(net.Conn) net.Conn) (net.Conn, *url.URL, error) {
	target, err := conn.RequestURL(u, p.Path)
	if err != nil {
		return nil, nil, err
	}
	c, err := p.Of.Dialer.ConnectOver(ctx, u, began, wrap)
	if err != nil {
		return nil, nil, conn.CauseOf(ctx, err)
	}
	conn.GiveWay(c)
	return c, target, nil
}

// BePatient makes the system keep a connection whose other end does not read, for d or the usual time, whichever is longer.
func (p SnapshotPeer) BePatient(c net.Conn, d time.Duration) {
	conn.GiveUpAfter(c, max(p.Of.Cfg.TCPTimeout(), d))
}

// Header returns the headers of every request to the member.
func (p SnapshotPeer) Header() http.Header { return p.Of.Cfg.RequestHeader() }

// Conclude returns the meaning of an answer.
func (p SnapshotPeer) Conclude(resp *http.Response, question bool) error {
	if question {
		return p.Of.Cfg.Conclude(resp, protocol.EndpointOffset)
	}
	return p.Of.Cfg.Conclude(resp, protocol.EndpointSnapshot)
}
