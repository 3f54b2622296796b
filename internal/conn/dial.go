package conn

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/seed-4d73690b/rafthttp/internal/closeconn"
	"github.com/seed-4d73690b/rafthttp/internal/errs"
)

// DialFunc dials a connection of the network.
type DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error)

// ErrDialTimeout means that a connection, including its TLS handshake, took longer than
// Dialer.Timeout.
var ErrDialTimeout = errors.New("rafthttp: no connection within the dial timeout")

// NewNetDialer returns a dialer with a timeout for dialling, from localAddr, an IP address,
// unless that is empty. The system closes its connections after they are dead for idle.
func NewNetDialer(localAddr string, timeout, idle time.Duration) (*net.Dialer, error) {
	d := &net.Dialer{Timeout: timeout, KeepAliveConfig: KeepAlive(idle), Control: Control(idle)}
	if localAddr != "" {
		addr, err := net.ResolveTCPAddr("tcp", net.JoinHostPort(localAddr, "0"))
		if err != nil {
			return nil, err
		}
		d.LocalAddr = addr
	}
	return d, nil
}

// Dialer makes connections to one member: dialled, encrypted if the scheme of the URL
// says so, and verified. Its fields do not change once it is used, and it is safe for
// concurrent use.
type Dialer struct {
	Dial    DialFunc
	TLS     *tls.Config   // from Files.Client; nil: for plain connections only
	Files   *Files        // those of TLS
	Timeout time.Duration // for dialling and the TLS handshake together; 0 leaves no time
	// Verify is called for each new connection, with a nil state if it has no TLS, and with the time when the attempt
	// began. Its error is that of the connection, which is closed. It may block: Timeout does not end it. It
	// may be nil.
	Verify func(addr string, state *tls.ConnectionState, began time.Time) error

	mu     sync.Mutex
	conns  map[*Dialed]struct{} // the open ones, which are revalidated
	period period               // of the member's last certificate
	moved  time.Time            // last call of Moved
}

// period is the time in which a certificate is valid; the zero value: there is none.
type period struct{ from, until time.Time }

// Certificate returns from when until when the member's last certificate is valid; the zero time if there was none since Moved.
func (d *Dialer) Certificate() (from, until time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.period.from, d.period.until
}

// Moved says that the member is elsewhere: a certificate from before is not its present one, even if a handshake shows it later.
func (d *Dialer) Moved() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.period, d.moved = period{}, time.Now()
}

// IsFormer reports whether an attempt that began at that time may be one to a URL from before Moved.
func (d *Dialer) IsFormer(began time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return began.Before(d.moved)
}

// sawCertificate notes when a certificate is valid that an attempt has seen which began at that time.
func (d *Dialer) sawCertificate(v period, began time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !began.Before(d.moved) {
		d.period = v
	}
}

// Connect dials a peer URL: http, https, unix or unixs. It blocks until the connection is
// verified, or fails: with ErrDialTimeout after Timeout. The caller closes the connection.
func (d *Dialer) Connect(ctx context.Context, u url.URL) (net.Conn, error) {
	return d.ConnectOver(ctx, u, time.Now(), unwrapped)
}

// ConnectOver is Connect for an attempt that began at that time, before its URL was picked. wrap is called for the
// connection of Dial, and TLS, if any, runs over its result. wrap is not called if ConnectOver returns a
// socket directly from Dial.
func (d *Dialer) ConnectOver(ctx context.Context, u url.URL, began time.Time, wrap func(net.Conn) net.Conn) (net.Conn, error) {
	switch u.Scheme {
	case "http":
		return d.plain(ctx, "tcp", u.Host, began, wrap)
	case "https":
		return d.secure(ctx, "tcp", u.Host, began, wrap)
	case "unix":
		return d.plain(ctx, "unix", SocketPath(u), began, wrap)
	case "unixs":
		return d.secure(ctx, "unix", SocketPath(u), began, wrap)
	}
	return nil, fmt.Errorf("unknown scheme in peer URL %s", u.String())
}

func unwrapped(c net.Conn) net.Conn { return c }

func (d *Dialer) plain(ctx context.Context, network, addr string, began time.Time, wrap func(net.Conn) net.Conn) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, d.Timeout)
	defer cancel()
	conn, err := d.Dial(ctx, network, addr)
	if err != nil {
		return nil, dialError(err)
	}
	if d.Verify != nil {
		if err := d.Verify(addr, nil, began); err != nil {
			closeconn.Close(conn)
			return nil, err
		}
	} else if closesQuickly(conn) {
		return conn, nil
	}
	return d.track(&Dialed{Conn: wrap(conn), Began: began}), nil
}

// closesQuickly reports whether the Close of a connection never waits. One of
// DialContext may.
func closesQuickly(c net.Conn) bool {
	_, encrypted := c.(*tls.Conn)
	return !encrypted && closeconn.IsQuick(c)
}

func (d *Dialer) secure(ctx context.Context, network, addr string, began time.Time, wrap func(net.Conn) net.Conn) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, d.Timeout)
	defer cancel()
	conn, err := d.Dial(ctx, network, addr)
	if err != nil {
		return nil, dialError(err)
	}
	generation := d.Files.Generation()
	cfg := d.TLS.Clone()
	cfg.RootCAs = d.Files.Authorities()
	if cfg.ServerName == "" {
		cfg.ServerName = serverName(network, addr)
	}
	tc := tls.Client(wrap(conn), cfg)
	if err := tlsHandshake(ctx, tc); err != nil {
		closeconn.Close(conn)
		return nil, dialError(fmt.Errorf("TLS handshake with %s: %w", addr, errs.PlainError(err))) // it has text of the server
	}
	state := tc.ConnectionState()
	if len(state.PeerCertificates) > 0 {
		d.sawCertificate(period{state.PeerCertificates[0].NotBefore, state.PeerCertificates[0].NotAfter}, began)
	}
	if d.Verify != nil {
		if err := d.Verify(addr, &state, began); err != nil {
			closeconn.Close(conn)
			return nil, err
		}
	}
	return d.track(&Dialed{Conn: tc, Began: began, state: &state, generation: generation}), nil
}

// tlsHandshake is HandshakeContext, which would wait for Close of the connection below.
func tlsHandshake(ctx context.Context, c *tls.Conn) error {
	interrupted := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(interrupted)
		closeconn.Close(c)
	})
	err := c.Handshake()
	if !stop() {
		<-interrupted
		return ctx.Err()
	}
	return err
}

// IsTimeout reports whether an error is from a deadline, ours or the system's.
func IsTimeout(err error) bool {
	var timeout interface{ Timeout() bool }
	return errors.As(err, &timeout) && timeout.Timeout()
}

// dialError adds ErrDialTimeout if err means that a connection took too long.
func dialError(err error) error {
	if IsTimeout(err) {
		return fmt.Errorf("%w: %w", ErrDialTimeout, err)
	}
	return err
}

// NewHTTPTransport returns a pool of HTTP/1.1 connections to the member, of which at most
// maxIdle are idle, for half of the read timeout: a stock listener closes an idle connection
// after its read timeout, and ours is closed before that, so that no request uses a
// half-closed connection. The head of a response may have maxHead bytes. The caller
// closes idle connections.
func (d *Dialer) NewHTTPTransport(readTimeout time.Duration, maxIdle int, maxHead int64) *http.Transport {
	return &http.Transport{
		DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
			network, addr := dialTarget(addr)
			return pooled(d.plain(ctx, network, addr, time.Now(), unwrapped))
		},
		DialTLSContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
			network, addr := dialTarget(addr)
			return pooled(d.secure(ctx, network, addr, time.Now(), unwrapped))
		},
		DisableCompression:     true,
		IdleConnTimeout:        readTimeout / 2,
		MaxIdleConnsPerHost:    maxIdle,
		MaxResponseHeaderBytes: maxHead,
	}
}

// pooledConn is a Dialed in a pool of net/http, which holds a lock while it closes a
// connection: its Close does not block.
type pooledConn struct{ net.Conn }

func pooled(c net.Conn, err error) (net.Conn, error) {
	if dc, ok := c.(*Dialed); ok && !closeconn.IsQuick(dc.Conn) {
		return pooledConn{dc}, nil
	}
	return c, err
}

// Close implements net.Conn.
func (c pooledConn) Close() error {
	go c.Conn.Close() // takes at most a second
	return nil
}
