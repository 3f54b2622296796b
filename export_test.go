package rafthttp

import (
	"context"
	"net"
	"time"
)

// WithDeadlines is what NewListener does to a plain listener, with timeouts of
// the test's choice.
func WithDeadlines(l net.Listener, read, write time.Duration) net.Listener {
	return newDeadlineListener(l, read, write)
}

// DialPlain dials as a Transport with these fields does, without DialContext.
func (t *Transport) DialPlain(ctx context.Context, addr string) (net.Conn, error) {
	s, err := t.settings()
	if err != nil {
		return nil, err
	}
	return s.dial(ctx, "tcp", addr)
}

// Below returns what a connection of WithDeadlines or NewListener wraps.
func Below(c net.Conn) net.Conn { return c.(*deadlineConn).Conn }

// Kept is a connection that is checked again while it is up, and what cuts it.
func Kept(c net.Conn) (kept net.Conn, cut func(cause error)) {
	dc := (&dialer{}).keep(c, nil, 0).(*dialedConn)
	return dc, dc.cut
}
