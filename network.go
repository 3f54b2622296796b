package rafthttp

import (
	"context"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/url"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"

	"github.com/seed-4d73690b/rafthttp/internal/conn"
	"github.com/seed-4d73690b/rafthttp/internal/listener"
	"github.com/seed-4d73690b/rafthttp/internal/pipeline"
	"github.com/seed-4d73690b/rafthttp/internal/protocol"
)

// NewListener listens on a peer URL: http, https, unix or unixs. For https and
// unixs tlsInfo must name a certificate, and clients are validated by it as etcd
// does: certificate authority, revocation list, allowed names, and unless
// SkipClientSANVerify is set, a certificate with addresses or names must match
// the client's address. The files are read again for every handshake, like those of
// Transport.TLSInfo.
//
// A connection on which one read or one write takes longer than 5 s
// (DefaultConnReadTimeout, DefaultConnWriteTimeout) is closed, so that a silent or
// slow client cannot occupy it. The streams of a Transport set their own deadlines
// from the Transport's fields. TCP closes a connection with an unreachable peer:
// after 5 s with data in transit (TCP_USER_TIMEOUT, on Linux), after 10 s without
// (keep-alive).
//
// The limits are 32 TLS handshakes from one address (for IPv6, one /64) and 256 in total,
// and 256 connections from one address and 2048 in total that are not streams, for all
// clients. Over these limits, new ones are closed at once. [ListenConfig] has other limits.
// Serve the listener with NewServer, which limits the head of requests.
//
// A TLS handshake that fails is logged by tlsInfo.Logger or, if that is nil, by the
// Logger of the Transport whose Handler NewServer serves with the listener: with the
// address and the reason, once a minute for each pair of them. A client that only
// connects, as health checks do, is not logged. HandshakeFailure is called in any case, for
// one handshake after another: it delays neither handshakes nor the closing of
// connections, and is skipped while 64 calls wait. Close waits for it. A panic in it ends the process.
//
// The file of a Unix socket is removed before listening and on Close.
func NewListener(u url.URL, tlsInfo *transport.TLSInfo) (net.Listener, error) {
	return ListenConfig{}.Listen(u, tlsInfo)
}

// ListenConfig has the limits of a listener. 0 means the default.
//
// The defaults suffice for a member of one raft group. Set them for a Mux: members of many
// groups at one address dial at once after a restart, and connections over a limit are
// closed and dialled again later.
type ListenConfig struct {
	// MaxHandshakes (256) and MaxHandshakesPerAddress (32) limit the concurrent TLS
	// handshakes. One costs a signature and about 10 KiB.
	MaxHandshakes, MaxHandshakesPerAddress int
	// MaxConns (2048) and MaxConnsPerAddress (256) limit the connections
	// that have not become streams: those of POSTs, probes and snapshots.
	MaxConns, MaxConnsPerAddress int
}

// Listen is NewListener with the limits of c. The error is a *ConfigError for a limit
// below 0.
func (c ListenConfig) Listen(u url.URL, tlsInfo *transport.TLSInfo) (net.Listener, error) {
	limits, err := c.limits()
	if err != nil {
		return nil, err
	}
	l, err := conn.Listen(u, limits)
	if err != nil {
		return nil, fmt.Errorf("rafthttp: listen on a peer URL: %w", err)
	}
	if u.Scheme == "http" || u.Scheme == "unix" {
		return l, nil
	}
	tl, err := listener.NewTLS(l, tlsInfo, limits)
	if err != nil {
		l.Close()
		return nil, fmt.Errorf("rafthttp: listen on %s: %w", u.String(), err)
	}
	return tl, nil
}

func (c ListenConfig) limits() (conn.ListenLimits, error) {
	limits := conn.DefaultListenLimits
	for _, f := range []struct {
		name  string
		value int
		limit *int
	}{
		{"MaxHandshakes", c.MaxHandshakes, &limits.Handshakes},
		{"MaxHandshakesPerAddress", c.MaxHandshakesPerAddress, &limits.HandshakesPerAddress},
		{"MaxConns", c.MaxConns, &limits.Conns},
		{"MaxConnsPerAddress", c.MaxConnsPerAddress, &limits.ConnsPerAddress},
	} {
		if f.value < 0 {
			return limits, &ConfigError{"ListenConfig." + f.name, f.value, "0 for the default, or a positive value"}
		}
		*f.limit = orDefault(f.value, *f.limit)
	}
	return limits, nil
}

// NewServer returns a server for Transport.Handler that limits the cost of a request
// before the handler sees it: 64 KiB of head, in 5 s, and idle connections
// are closed after 5 s. It logs only TLS handshakes that fail, by the
// Logger of the Transport, if h is its Handler, a Mux with it, or an http.ServeMux that has
// one of these for RaftPrefix. ErrorLog and BaseContext are set for that.
func NewServer(h http.Handler) *http.Server {
	s := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: DefaultConnReadTimeout,
		IdleTimeout:       DefaultConnReadTimeout,
		MaxHeaderBytes:    maxRequestHeadBytes,
		ErrorLog:          log.New(serverLog{h}, "", 0),
	}
	s.BaseContext = func(l net.Listener) context.Context {
		if tl, ok := l.(*listener.TLS); ok {
			tl.ServedBy(func() listener.Owner { return transportBehind(s.Handler).ownerOfListener() })
		}
		return context.Background()
	}
	return s
}

// serverLog is the log of a server. It passes failures of the listener to the Transport.
type serverLog struct{ handler http.Handler }

// Write implements io.Writer.
func (l serverLog) Write(line []byte) (int, error) {
	if t := transportBehind(l.handler); t != nil {
		t.clientFailures.ServerLine(t.ownerOfListener().Log, string(line))
	}
	return len(line), nil
}

// ownHandler is Transport.Handler.
type ownHandler struct {
	http.Handler
	t *Transport
}

// transportBehind returns the Transport of the handler h or of the handler that h has on its
// mux, or the first running one of a Mux, or nil.
func transportBehind(h http.Handler) *Transport {
	if mux, ok := h.(*http.ServeMux); ok {
		h, _ = mux.Handler(&http.Request{Method: http.MethodPost, URL: &url.URL{Path: RaftPrefix}})
	}
	switch own := h.(type) {
	case *ownHandler:
		return own.t
	case *Mux:
		return own.first()
	}
	return nil
}

// ownerOfListener returns the owner of a listener whose connections t serves. It has a log
// once t was started. Without t, the listener has no owner.
func (t *Transport) ownerOfListener() (o listener.Owner) {
	if t == nil {
		return o
	}
	o.Failures = &t.clientFailures
	if e := t.engine.Load(); e != nil {
		o.Log, o.Guard = e.cfg.Log, e.cfg.Guard
	}
	return o
}

// NewRoundTripper returns the round tripper that a Transport with the same
// TLSInfo and DialTimeout uses for its POSTs, not bound to a member:
// it supports the schemes http, https, unix and unixs, ignores proxies from the
// environment, and keeps idle connections for half of DefaultConnReadTimeout.
// A dialTimeout of zero means 5 s; the error is a *ConfigError for an invalid one, as
// for Transport.DialTimeout.
//
// Close its idle connections with (*http.Client).CloseIdleConnections when it
// is no longer used.
func NewRoundTripper(tlsInfo transport.TLSInfo, dialTimeout time.Duration) (http.RoundTripper, error) {
	if err := checkTimeout("DialTimeout", dialTimeout, 1); err != nil {
		return nil, err
	}
	return conn.NewRoundTripper(tlsInfo, orDefault(dialTimeout, defaultDialTimeout), DefaultConnReadTimeout, pipeline.MaxIdle, protocol.MaxAnswerBytes)
}
