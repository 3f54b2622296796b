package conn

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.uber.org/zap"

	"github.com/seed-4d73690b/rafthttp/internal/closeconn"
)

// acceptPause is how long a listener waits after a temporary failure of Accept.
const acceptPause = 50 * time.Millisecond

// ErrTooManyHandshakes means that a listener has reached its limit of handshakes.
var ErrTooManyHandshakes = errors.New("too many handshakes under way")

// TLSListener completes TLS handshakes before it hands connections out, so that http.Server
// sees only clients that TLSInfo accepts. It is safe for concurrent use.
type TLSListener struct {
	net.Listener // plain connections
	config       *tls.Config
	hooks        ListenerHooks
	limits       ListenLimits

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	conns  chan net.Conn
	failed chan struct{} // closed when the accept loop has ended
	err    error         // why; set before failed is closed
	wg     sync.WaitGroup
}

// ListenerHooks are called for the failures of a TLSListener. None may be nil. They are called
// from several goroutines, and delay the connection that they are about, or accepting, and Close,
// after which none is called.
type ListenerHooks struct {
	// Refused is called for a handshake that failed, before its connection is closed.
	Refused func(c *tls.Conn, err error)
	// HandshakeFailed is called afterwards, unless the client only connected, as
	// health checks do, and for a client over the limits, with ErrTooManyHandshakes.
	HandshakeFailed func(from net.Addr, err error)
	// AcceptFailed is called when the listener temporarily cannot accept connections.
	AcceptFailed func(err error)
}

// NewTLSListener returns a listener over l, which it closes. The log, which may be nil, gets
// lines about unusable files.
func NewTLSListener(l net.Listener, info *transport.TLSInfo, log *zap.Logger, limits ListenLimits, hooks ListenerHooks) (*TLSListener, error) {
	if info == nil || info.Empty() {
		return nil, errors.New("TLSInfo must name CertFile and KeyFile")
	}
	files, err := NewFiles(info, log)
	if err != nil {
		return nil, err
	}
	cfg, err := files.Server(*info)
	if err != nil {
		return nil, err
	}
	cfg.NextProtos = append(cfg.NextProtos, "http/1.1")
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
	tl := &TLSListener{Listener: l, config: cfg, limits: limits, hooks: hooks, conns: make(chan net.Conn), failed: make(chan struct{})}
	tl.ctx, tl.cancel = context.WithCancel(context.Background())
	tl.wg.Go(tl.acceptLoop)
	return tl, nil
}

func (l *TLSListener) acceptLoop() {
	defer close(l.failed)
	handshakes := newAdmission(l.limits.Handshakes, l.limits.HandshakesPerAddress)
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
			c.Close() // more clients than one member has peers
			l.wg.Go(func() { l.handshakeFailed(c, ErrTooManyHandshakes, true) })
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

// retryAfter waits a moment after a temporary error, such as a lack of
// file descriptors, and reports whether to continue.
func (l *TLSListener) retryAfter(err error) bool {
	var passing interface{ Temporary() bool }
	if !errors.As(err, &passing) || !passing.Temporary() {
		return false
	}
	l.hooks.AcceptFailed(err)
	t := time.NewTimer(acceptPause)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-l.ctx.Done():
		return false
	}
}

// heardKey is the key of a *bool in the context of a handshake: whether the client has
// sent data.
type heardKey struct{}

// handshake delivers a connection whose handshake succeeds. It returns why it
// failed, and whether the client has sent data.
func (l *TLSListener) handshake(c *tls.Conn) (heard bool, err error) {
	ctx, cancel := context.WithTimeout(context.WithValue(l.ctx, heardKey{}, &heard), 2*DefaultTimeout)
	defer cancel()
	if err := c.HandshakeContext(ctx); err != nil {
		l.hooks.Refused(c, err)
		answerPlain(c.NetConn(), err)
		c.Close()
		if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) {
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

// answerPlain responds to a client that speaks HTTP without TLS, in the words of net/http. err is
// the error of its handshake.
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
func (l *TLSListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.failed:
		return nil, l.err
	}
}

// handshakeFailed calls the hook for a handshake that failed.
func (l *TLSListener) handshakeFailed(c net.Conn, err error, heard bool) {
	if l.ctx.Err() == nil && (heard || !onlyConnected(err)) {
		l.hooks.HandshakeFailed(c.RemoteAddr(), err)
	}
}

// onlyConnected reports whether a handshake failed because the client disconnected, or became
// silent.
func onlyConnected(err error) bool {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op.Op != "remote error" // an alert
	}
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
}

// Close implements net.Listener. It ends handshakes in progress, and waits for the hooks.
func (l *TLSListener) Close() error {
	err := l.Listener.Close()
	l.cancel()
	l.wg.Wait()
	return err
}
