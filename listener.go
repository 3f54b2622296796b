package rafthttp

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
)

// acceptPause is how long a listener rests after Accept failed for the moment.
const acceptPause = 50 * time.Millisecond

// NewListener listens on a peer URL: http, https, unix or unixs. For https and
// unixs tlsInfo must name a certificate, and a client is held to it as etcd
// does: certificate authority, revocation list, allowed names, and unless
// SkipClientSANVerify is set, a certificate with addresses or names must fit
// the client's address. The files are read again for every handshake, as those of
// Transport.TLSInfo are.
//
// A connection on which one read or one write takes longer than 5 s
// (DefaultConnReadTimeout, DefaultConnWriteTimeout) is cut, so that a silent or
// slow client cannot hold it. The streams of a Transport set their own deadlines
// by the Transport's fields. TCP gives up a connection whose other end is gone:
// after 5 s with data under way (TCP_USER_TIMEOUT, on Linux), after 10 s without
// (keep-alive).
//
// What strangers can hold is bounded: 32 TLS handshakes from one address (for
// IPv6, one /64) and 256 in all, and 256 connections from one address and 2048 in
// all that are not streams. Over that, new ones are closed at once. Serve it with
// NewServer, which bounds what comes before a request's body.
//
// The file of a Unix socket is removed before listening and on Close.
func NewListener(u url.URL, tlsInfo *transport.TLSInfo) (net.Listener, error) {
	var l net.Listener
	var err error
	switch u.Scheme {
	case "http", "https":
		lc := net.ListenConfig{KeepAliveConfig: keepAlive(DefaultConnReadTimeout), Control: socketControl(DefaultConnReadTimeout)}
		lc.SetMultipathTCP(false) // whose connections do not inherit the options
		l, err = lc.Listen(context.Background(), "tcp", u.Host)
	case "unix", "unixs":
		l, err = transport.NewUnixListener(socketPath(u))
	default:
		err = fmt.Errorf("scheme of %s: want http, https, unix or unixs", u.String())
	}
	if err != nil {
		return nil, fmt.Errorf("rafthttp: listen on a peer URL: %w", err)
	}
	l = newDeadlineListener(l, DefaultConnReadTimeout, DefaultConnWriteTimeout)
	if u.Scheme == "http" || u.Scheme == "unix" {
		return l, nil
	}
	tl, err := newTLSListener(l, tlsInfo)
	if err != nil {
		l.Close()
		return nil, fmt.Errorf("rafthttp: listen on %s: %w", u.String(), err)
	}
	return tl, nil
}

// NewServer returns a server for Transport.Handler that bounds what a request may
// cost before the handler sees it: 64 KiB of head, in 5 s, and idle connections
// are closed after 5 s. Its log, of what strangers do, is discarded.
func NewServer(h http.Handler) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: DefaultConnReadTimeout,
		IdleTimeout:       DefaultConnReadTimeout,
		MaxHeaderBytes:    maxRequestHeadBytes,
		ErrorLog:          log.New(io.Discard, "", 0),
	}
}

// deadlineListener gives each connection deadlines for single reads and writes,
// and bounds how many there are.
type deadlineListener struct {
	net.Listener
	read, write time.Duration
	conns       *admission
}

func newDeadlineListener(l net.Listener, read, write time.Duration) *deadlineListener {
	return &deadlineListener{l, read, write, newAdmission(maxConns, maxConnsPerAddress)}
}

func (l *deadlineListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		from := c.RemoteAddr()
		if !l.conns.enter(from) {
			c.Close()
			continue
		}
		return &deadlineConn{
			Conn: c, reads: opDeadline{timeout: l.read}, writes: opDeadline{timeout: l.write},
			leave: sync.OnceFunc(func() { l.conns.leave(from) }),
		}, nil
	}
}

// deadlineConn sets a new deadline before each read and write, until released,
// unless its user has set one: net/http interrupts a read by a deadline in the
// past, and must find that it holds for a read that only begins.
type deadlineConn struct {
	net.Conn
	reads, writes opDeadline
	leave         func() // is not counted any more
}

// Close implements net.Conn.
func (c *deadlineConn) Close() error {
	c.leave()
	return c.Conn.Close()
}

// opDeadline is the deadline of one direction.
type opDeadline struct {
	timeout time.Duration

	mu    sync.Mutex
	user  bool // the user's deadline is in force
	never bool // released
}

// extend sets the deadline for an operation that begins.
func (d *opDeadline) extend(set func(time.Time) error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.user || d.never {
		return nil
	}
	return set(time.Now().Add(d.timeout))
}

// override sets the user's deadline, or ours again where that is none.
func (d *opDeadline) override(t time.Time, set func(time.Time) error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.user = !t.IsZero(); !d.user && !d.never {
		t = time.Now().Add(d.timeout)
	}
	return set(t)
}

func (d *opDeadline) release() {
	d.mu.Lock()
	d.never = true
	d.mu.Unlock()
}

// Read implements net.Conn.
func (c *deadlineConn) Read(p []byte) (int, error) {
	if err := c.reads.extend(c.Conn.SetReadDeadline); err != nil {
		return 0, err
	}
	return c.Conn.Read(p)
}

// Write implements net.Conn.
func (c *deadlineConn) Write(p []byte) (int, error) {
	if err := c.writes.extend(c.Conn.SetWriteDeadline); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

// SetDeadline implements net.Conn; zero means the listener's deadlines again.
func (c *deadlineConn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// SetReadDeadline implements net.Conn, as SetDeadline.
func (c *deadlineConn) SetReadDeadline(t time.Time) error {
	return c.reads.override(t, c.Conn.SetReadDeadline)
}

// SetWriteDeadline implements net.Conn, as SetDeadline.
func (c *deadlineConn) SetWriteDeadline(t time.Time) error {
	return c.writes.override(t, c.Conn.SetWriteDeadline)
}

// release hands the deadlines over to the caller, takes the connection out of the
// listener's count, and returns the connection below.
func release(c net.Conn) net.Conn {
	if tc, ok := c.(*tls.Conn); ok {
		release(tc.NetConn())
		return c
	}
	if dc, ok := c.(*deadlineConn); ok {
		dc.reads.release()
		dc.writes.release()
		dc.leave()
		return dc.Conn
	}
	return c
}

// tlsListener completes TLS handshakes before it hands connections out, so that
// http.Server sees only clients that TLSInfo accepts.
type tlsListener struct {
	net.Listener // plain connections
	config       *tls.Config
	onFailure    func(*tls.Conn, error)

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	conns  chan net.Conn
	failed chan struct{} // closed when the accept loop has ended
	err    error         // why; set before failed is closed
	wg     sync.WaitGroup
}

func newTLSListener(l net.Listener, info *transport.TLSInfo) (*tlsListener, error) {
	if info == nil || info.Empty() {
		return nil, errors.New("TLSInfo must name CertFile and KeyFile")
	}
	files, err := newTLSFiles(info, info.Logger)
	if err != nil {
		return nil, err
	}
	cfg, err := files.server(*info)
	if err != nil {
		return nil, err
	}
	cfg.NextProtos = append(cfg.NextProtos, "http/1.1")
	tl := &tlsListener{
		Listener: l, config: cfg, onFailure: info.HandshakeFailure,
		conns: make(chan net.Conn), failed: make(chan struct{}),
	}
	checkSANs := !info.SkipClientSANVerify
	cfg.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		now := cfg.Clone()
		now.ClientCAs = files.authorities()
		if checkSANs {
			addSANCheck(hello.Context(), now, hello.Conn.RemoteAddr())
		}
		return now, nil
	}
	tl.ctx, tl.cancel = context.WithCancel(context.Background())
	tl.wg.Go(tl.acceptLoop)
	return tl, nil
}

func (l *tlsListener) acceptLoop() {
	defer close(l.failed)
	handshakes := newAdmission(maxHandshakes, maxHandshakesPerAddress)
	for {
		c, err := l.Listener.Accept()
		if err != nil && l.retryAfter(err) {
			continue
		}
		if err != nil {
			l.err = err
			return
		}
		if !handshakes.enter(c.RemoteAddr()) {
			c.Close() // more strangers than one member has peers
			continue
		}
		l.wg.Go(func() {
			defer handshakes.leave(c.RemoteAddr())
			l.handshake(tls.Server(c, l.config))
		})
	}
}

// retryAfter waits a moment after an error that passes, such as one for want of
// file descriptors, and reports whether to go on.
func (l *tlsListener) retryAfter(err error) bool {
	var passing interface{ Temporary() bool }
	if !errors.As(err, &passing) || !passing.Temporary() {
		return false
	}
	t := time.NewTimer(acceptPause)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-l.ctx.Done():
		return false
	}
}

func (l *tlsListener) handshake(c *tls.Conn) {
	ctx, cancel := context.WithTimeout(l.ctx, 2*DefaultConnReadTimeout)
	defer cancel()
	if err := c.HandshakeContext(ctx); err != nil {
		if l.onFailure != nil {
			l.onFailure(c, err)
		}
		c.Close()
		return
	}
	select {
	case l.conns <- c:
	case <-l.ctx.Done():
		c.Close()
	}
}

// Accept implements net.Listener.
func (l *tlsListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.failed:
		return nil, l.err
	}
}

// Close implements net.Listener. It ends handshakes under way.
func (l *tlsListener) Close() error {
	err := l.Listener.Close()
	l.cancel()
	l.wg.Wait()
	return err
}

// addSANCheck adds to cfg a check that the client's certificate fits its address.
func addSANCheck(ctx context.Context, cfg *tls.Config, remote net.Addr) {
	before := cfg.VerifyConnection
	cfg.VerifyConnection = func(state tls.ConnectionState) error {
		if before != nil {
			if err := before(state); err != nil {
				return err
			}
		}
		if len(state.PeerCertificates) == 0 {
			return nil
		}
		return checkSAN(ctx, state.PeerCertificates[0], remote)
	}
}

// checkSAN checks that a certificate that names addresses or hosts names the
// one that remote is. A Unix socket has no address to compare.
func checkSAN(ctx context.Context, cert *x509.Certificate, remote net.Addr) error {
	if remote.Network() == "unix" || (len(cert.IPAddresses) == 0 && len(cert.DNSNames) == 0) {
		return nil
	}
	host, _, err := net.SplitHostPort(remote.String())
	if err != nil {
		return err
	}
	host = withoutZone(host)
	if len(cert.IPAddresses) > 0 && cert.VerifyHostname(host) == nil {
		return nil
	}
	ok, err := resolvesTo(ctx, cert.DNSNames, host)
	if !ok {
		return errors.Join(fmt.Errorf("certificate of %s is for %v %q", host, cert.IPAddresses, cert.DNSNames), err)
	}
	return nil
}

// resolvesTo reports whether addr's reverse name is one of names, which may be
// wildcards, or one of names resolves to addr, which has no zone.
func resolvesTo(ctx context.Context, names []string, addr string) (bool, error) {
	if len(names) == 0 {
		return false, nil
	}
	reverse, failure := net.DefaultResolver.LookupAddr(ctx, addr)
	for _, r := range reverse {
		r = strings.TrimSuffix(r, ".")
		for _, name := range names {
			if suffix, ok := strings.CutPrefix(name, "*"); r == name || (ok && strings.HasSuffix(r, suffix)) {
				return true, nil
			}
		}
	}
	for _, name := range names {
		if strings.HasPrefix(name, "*.") {
			continue
		}
		addrs, err := net.DefaultResolver.LookupHost(ctx, name)
		if slices.ContainsFunc(addrs, func(a string) bool { return withoutZone(a) == addr }) {
			return true, nil
		}
		failure = errors.Join(failure, err)
	}
	return false, failure
}
