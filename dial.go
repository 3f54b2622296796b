package rafthttp

import (
	"context"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/client/pkg/v3/types"

	"github.com/seed-4d73690b/rafthttp/internal/closeconn"
	"github.com/seed-4d73690b/rafthttp/internal/conn"
)

type dialFunc = func(ctx context.Context, network, addr string) (net.Conn, error)

// socketHost marks the host of a request URL that stands for a Unix socket: its
// path in hexadecimal, then this.
const socketHost = ".unix-socket"

// NewRoundTripper returns the round tripper that a Transport with the same
// TLSInfo and DialTimeout uses for its posts, without a binding to a member:
// it knows the schemes http, https, unix and unixs, takes no proxy from the
// environment, and keeps idle connections for half of DefaultConnReadTimeout.
// A dialTimeout of zero means 5 s; a *ConfigError says that one cannot work, as
// for Transport.DialTimeout.
//
// Close its idle connections with (*http.Client).CloseIdleConnections when it
// is no longer used.
func NewRoundTripper(tlsInfo transport.TLSInfo, dialTimeout time.Duration) (http.RoundTripper, error) {
	if err := checkTimeout("DialTimeout", dialTimeout, 1); err != nil {
		return nil, err
	}
	files, err := conn.NewFiles(&tlsInfo, tlsInfo.Logger)
	if err != nil {
		return nil, err
	}
	cfg, err := files.Client(tlsInfo)
	if err != nil {
		return nil, err
	}
	timeout := orDefault(dialTimeout, defaultDialTimeout)
	d, err := newNetDialer(tlsInfo.LocalAddr, timeout, DefaultConnReadTimeout)
	if err != nil {
		return nil, err
	}
	dialer := &dialer{dial: d.DialContext, tls: cfg, files: files, timeout: timeout}
	return schemes{dialer.newHTTPTransport(DefaultConnReadTimeout / 2)}, nil
}

// schemes maps URLs with a peer URL's scheme to what net/http knows.
type schemes struct{ *http.Transport }

func (s schemes) RoundTrip(r *http.Request) (*http.Response, error) {
	u, err := requestURL(*r.URL, r.URL.Path)
	if err != nil {
		if r.Body != nil {
			r.Body.Close()
		}
		return nil, err
	}
	u.RawQuery = r.URL.RawQuery
	r = r.Clone(r.Context())
	r.URL = u
	return s.Transport.RoundTrip(r)
}

// dialer makes connections to one peer: dialled, encrypted where the scheme
// says so, and verified.
type dialer struct {
	dial    dialFunc
	tls     *tls.Config // but for the authorities
	files   *conn.Files
	timeout time.Duration // for dialling and the TLS handshake together
	peer    types.ID
	verify  func(types.ID, *tls.ConnectionState) error // may be nil
	refused func(addr string, cause error) error       // counts what verify refused; nil with verify

	mu    sync.Mutex
	conns map[*dialedConn]struct{} // those that are up, and checked again

	certExpires atomic.Pointer[time.Time] // of the certificate that the peer showed last
}

// connect dials a peer URL. The connection is the caller's to close.
func (d *dialer) connect(ctx context.Context, u url.URL) (net.Conn, error) {
	return d.connectOver(ctx, u, unwrapped)
}

// connectOver is connect, but what it returns is over what wrap returns for the connection
// to the network, unless it is that itself, as the system has it.
func (d *dialer) connectOver(ctx context.Context, u url.URL, wrap func(net.Conn) net.Conn) (net.Conn, error) {
	switch u.Scheme {
	case "http":
		return d.plain(ctx, "tcp", u.Host, wrap)
	case "https":
		return d.secure(ctx, "tcp", u.Host, wrap)
	case "unix":
		return d.plain(ctx, "unix", socketPath(u), wrap)
	case "unixs":
		return d.secure(ctx, "unix", socketPath(u), wrap)
	}
	return nil, fmt.Errorf("unknown scheme in peer URL %s", u.String())
}

func unwrapped(c net.Conn) net.Conn { return c }

func (d *dialer) plain(ctx context.Context, network, addr string, wrap func(net.Conn) net.Conn) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	conn, err := d.dial(ctx, network, addr)
	if err != nil {
		return nil, dialError(err)
	}
	if d.verify != nil {
		if err := d.verify(d.peer, nil); err != nil {
			closeconn.Close(conn)
			return nil, d.refused(addr, err)
		}
	} else if closesQuickly(conn) {
		return conn, nil
	}
	return d.keep(wrap(conn), nil, 0), nil
}

// closesQuickly reports whether the Close of a connection waits for nothing. One of
// DialContext may.
func closesQuickly(c net.Conn) bool {
	_, encrypted := c.(*tls.Conn)
	return !encrypted && closeconn.IsQuick(c)
}

func (d *dialer) secure(ctx context.Context, network, addr string, wrap func(net.Conn) net.Conn) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	conn, err := d.dial(ctx, network, addr)
	if err != nil {
		return nil, dialError(err)
	}
	generation := d.files.Generation()
	cfg := d.tls.Clone()
	cfg.RootCAs = d.files.Authorities()
	if cfg.ServerName == "" {
		cfg.ServerName = serverName(network, addr)
	}
	tc := tls.Client(wrap(conn), cfg)
	if err := tlsHandshake(ctx, tc); err != nil {
		closeconn.Close(conn)
		return nil, dialError(fmt.Errorf("TLS handshake with %s: %w", addr, err))
	}
	state := tc.ConnectionState()
	if len(state.PeerCertificates) > 0 {
		d.certExpires.Store(&state.PeerCertificates[0].NotAfter)
	}
	if d.verify != nil {
		if err := d.verify(d.peer, &state); err != nil {
			closeconn.Close(conn)
			return nil, d.refused(addr, err)
		}
	}
	return d.keep(tc, &state, generation), nil
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

// dialError says that a connection took too long, if that is what err is about.
func dialError(err error) error {
	if isTimeout(err) {
		return fmt.Errorf("%w: %w", errDialTimeout, err)
	}
	return err
}

// newHTTPTransport returns a pool of HTTP/1.1 connections to the peer.
func (d *dialer) newHTTPTransport(idle time.Duration) *http.Transport {
	return &http.Transport{
		DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
			network, addr := dialTarget(addr)
			return pooled(d.plain(ctx, network, addr, unwrapped))
		},
		DialTLSContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
			network, addr := dialTarget(addr)
			return pooled(d.secure(ctx, network, addr, unwrapped))
		},
		IdleConnTimeout:     idle,
		MaxIdleConnsPerHost: int(kinds) * pipelineWorkers,
		DisableCompression:  true,
		// Bounds what a peer can make us hold in an answer's head.
		MaxResponseHeaderBytes: maxAnswerBytes,
	}
}

// pooledConn is a connection of a pool of net/http, which holds a lock while it closes
// one: its Close does not block.
type pooledConn struct{ *dialedConn }

func pooled(c net.Conn, err error) (net.Conn, error) {
	if dc, ok := c.(*dialedConn); ok && !closeconn.IsQuick(dc.Conn) {
		return pooledConn{dc}, nil
	}
	return c, err
}

// Close implements net.Conn.
func (c pooledConn) Close() error {
	go c.dialedConn.Close() // which takes a second at most
	return nil
}

// requestURL returns the URL of a request to a peer URL, as net/http takes it.
func requestURL(base url.URL, path string) (*url.URL, error) {
	switch base.Scheme {
	case "http", "https":
		return &url.URL{Scheme: base.Scheme, Host: base.Host, Path: path}, nil
	case "unix", "unixs":
		if base.Path == path {
			base.Path = "" // the path of a request, not of the socket
		}
		host := hex.EncodeToString([]byte(socketPath(base))) + socketHost
		return &url.URL{Scheme: strings.Replace(base.Scheme, "unix", "http", 1), Host: host, Path: path}, nil
	}
	return nil, fmt.Errorf("unknown scheme in peer URL %s", base.String())
}

// socketPath returns the file of a Unix socket: unix:///run/a.sock is an
// absolute path, unix://a.sock:0 a file of that name in the working directory,
// as for etcd.
func socketPath(u url.URL) string { return u.Host + u.Path }

// dialTarget undoes requestURL for the address that net/http dials.
func dialTarget(addr string) (network, target string) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return "tcp", addr
	}
	if enc, ok := strings.CutSuffix(host, socketHost); ok {
		if path, err := hex.DecodeString(enc); err == nil {
			return "unix", string(path)
		}
	}
	return "tcp", addr
}

// serverName is the name, or the address without its zone, that the certificate of
// addr must carry where TLSInfo names none.
func serverName(network, addr string) string {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		host = addr
	}
	if network == "unix" && (host == "" || strings.ContainsRune(host, '/')) {
		return "localhost"
	}
	return withoutZone(host)
}

// withoutZone returns an address without its zone, such as eth0 in fe80::1%eth0:
// that is the name of an interface on one machine, and in no certificate. A name is
// returned as it is.
func withoutZone(host string) string {
	if ip, err := netip.ParseAddr(host); err == nil && ip.Zone() != "" {
		return ip.WithZone("").String()
	}
	return host
}
