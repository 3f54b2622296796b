package rafthttp

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.uber.org/zap"

	"github.com/seed-4d73690b/rafthttp/internal/closeconn"
	"github.com/seed-4d73690b/rafthttp/internal/conn"
	"github.com/seed-4d73690b/rafthttp/internal/loglimit"
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
// A TLS handshake that fails is logged by tlsInfo.Logger or, if that is nil, by the
// Logger of the Transport whose Handler NewServer serves with the listener: whom
// and why, once a minute for each address and reason. A client that only connects,
// as checks of health do, is not. HandshakeFailure is called in any case, for one
// handshake after another: it holds up neither handshakes nor their closing, and is left
// out while 64 wait for it. Close waits for it. A panic in it ends the process.
//
// The file of a Unix socket is removed before listening and on Close.
func NewListener(u url.URL, tlsInfo *transport.TLSInfo) (net.Listener, error) {
	var l net.Listener
	var err error
	switch u.Scheme {
	case "http", "https":
		lc := net.ListenConfig{KeepAliveConfig: conn.KeepAlive(DefaultConnReadTimeout), Control: conn.Control(DefaultConnReadTimeout)}
		lc.SetMultipathTCP(false) // whose connections do not inherit the options
		l, err = lc.Listen(context.Background(), "tcp", u.Host)
	case "unix", "unixs":
		l, err = transport.NewUnixListener(conn.SocketPath(u))
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
// are closed after 5 s. It logs nothing but TLS handshakes that fail, by the
// Logger of the Transport, if h is its Handler or an http.ServeMux that has it for
// RaftPrefix. ErrorLog and BaseContext are set for that.
func NewServer(h http.Handler) *http.Server {
	return serverFor(&http.Server{
		Handler:           h,
		ReadHeaderTimeout: DefaultConnReadTimeout,
		IdleTimeout:       DefaultConnReadTimeout,
		MaxHeaderBytes:    maxRequestHeadBytes,
	})
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

// NetConn returns the connection below, as that of tls.Conn does.
func (c *deadlineConn) NetConn() net.Conn { return c.Conn }

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
	hook         *handshakeHook
	lines        *logLines                 // of the application's log
	log          *zap.Logger               // by lines; nil: none
	serves       atomic.Pointer[Transport] // that NewServer serves with it; nil: not known
	failures     handshakeFailures         // until it is
	notAccepting loglimit.Limiter

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
	tl := &tlsListener{
		Listener: l, lines: newLogLines(crasher{log: info.Logger}, transportLines),
		conns: make(chan net.Conn), failed: make(chan struct{}),
	}
	tl.hook = newHandshakeHook(tl, info.HandshakeFailure)
	if info.Logger != nil {
		tl.log = tl.lines.of(info.Logger)
	}
	files, err := conn.NewFiles(info, tl.log)
	if err != nil {
		return nil, err
	}
	cfg, err := files.Server(*info)
	if err != nil {
		return nil, err
	}
	cfg.NextProtos = append(cfg.NextProtos, "http/1.1")
	tl.config = cfg
	checkSANs := !info.SkipClientSANVerify
	cfg.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if heard, ok := hello.Context().Value(heardKey{}).(*bool); ok {
			*heard = true
		}
		now := cfg.Clone()
		now.ClientCAs = files.Authorities()
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
			l.wg.Go(func() { l.handshakeFailed(c, errTooManyHandshakes, true) })
			continue
		}
		l.wg.Go(func() {
			heard, err := l.handshake(tls.Server(c, l.config))
			handshakes.leave(c.RemoteAddr())
			if err != nil {
				l.handshakeFailed(c, err, heard)
			}
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
	l.acceptFails(err)
	t := time.NewTimer(acceptPause)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-l.ctx.Done():
		return false
	}
}

// heardKey is the key of a *bool in the context of a handshake: that the client has
// said something.
type heardKey struct{}

// handshake hands over a connection whose handshake succeeds. It returns why it
// failed, and whether the client has said something.
func (l *tlsListener) handshake(c *tls.Conn) (heard bool, err error) {
	ctx, cancel := context.WithTimeout(context.WithValue(l.ctx, heardKey{}, &heard), 2*DefaultConnReadTimeout)
	defer cancel()
	if err := c.HandshakeContext(ctx); err != nil {
		l.hook.failed(c, err)
		answerPlain(c.NetConn(), err)
		c.Close()
		if errors.Is(err, io.EOF) {
			err = fmt.Errorf("the client ended the handshake: %w", err)
		}
		return heard, err
	}
	select {
	case l.conns <- c:
	case <-l.ctx.Done():
		closeconn.Close(c)
	}
	return true, nil
}

// answerPlain tells a client that speaks HTTP without TLS what is wrong, in the words
// of net/http. err is why its handshake failed.
func answerPlain(c net.Conn, err error) {
	bad, ok := errors.AsType[tls.RecordHeaderError](err)
	if !ok || bad.Conn == nil {
		return
	}
	switch string(bad.RecordHeader[:]) {
	case "GET /", "HEAD ", "POST ", "PUT /", "OPTIO":
		_, _ = io.WriteString(c, "HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n")
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

// Close implements net.Listener. It ends handshakes under way, and waits for
// HandshakeFailure and the log.
func (l *tlsListener) Close() error {
	err := l.Listener.Close()
	l.cancel()
	l.wg.Wait()
	l.hook.close()
	l.lines.close()
	return err
}
