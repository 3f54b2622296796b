package rafthttp

import (
	"net"
	"net/http"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"

	"github.com/seed-4d73690b/rafthttp/internal/conn"
	"github.com/seed-4d73690b/rafthttp/internal/protocol"
	"github.com/seed-4d73690b/rafthttp/internal/queue"
)

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
	dialer := &conn.Dialer{Dial: d.DialContext, TLS: cfg, Files: files, Timeout: timeout}
	return conn.Schemes{Transport: newHTTPTransport(dialer, DefaultConnReadTimeout)}, nil
}

// newHTTPTransport returns the connections for posts and probes of a dialer. Below a stock
// listener an idle connection is closed after its read timeout; ours is gone before that, and
// no post meets a connection that is half closed.
func newHTTPTransport(d *conn.Dialer, readTimeout time.Duration) *http.Transport {
	t := d.NewHTTPTransport()
	t.IdleConnTimeout = readTimeout / 2
	t.MaxIdleConnsPerHost = int(queue.Kinds) * pipelineWorkers
	t.MaxResponseHeaderBytes = protocol.MaxAnswerBytes
	return t
}

// newNetDialer makes what dials for timeout, and connections that are given up
// when they are dead for idle.
func newNetDialer(localAddr string, timeout, idle time.Duration) (*net.Dialer, error) {
	d := &net.Dialer{Timeout: timeout, KeepAliveConfig: conn.KeepAlive(idle), Control: conn.Control(idle)}
	if localAddr != "" {
		addr, err := net.ResolveTCPAddr("tcp", net.JoinHostPort(localAddr, "0"))
		if err != nil {
			return nil, err
		}
		d.LocalAddr = addr
	}
	return d, nil
}
