package rafthttp

import (
	"net"
	"net/url"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/client/pkg/v3/types"

	"github.com/seed-4d73690b/rafthttp/internal/conn"
	"github.com/seed-4d73690b/rafthttp/internal/listener"
)

// URLPicker is the picker of a peer's URLs.
type URLPicker struct{ p *urlPicker }

func NewURLPicker(urls ...string) URLPicker {
	return URLPicker{newURLPicker(types.MustNewURLs(urls))}
}

func (p URLPicker) Pick() url.URL            { return p.p.Pick() }
func (p URLPicker) Unreachable(u url.URL)    { p.p.Unreachable(u) }
func (p URLPicker) Update(urls ...string)    { p.p.update(types.MustNewURLs(urls)) }
func (p URLPicker) Same(urls ...string) bool { return p.p.same(types.MustNewURLs(urls)) }
func (p URLPicker) List() []string           { return p.p.list() }

// NewTLSListener is what NewListener puts over a plain listener.
func NewTLSListener(l net.Listener, info *transport.TLSInfo) (net.Listener, error) {
	return listener.NewTLS(l, info, conn.DefaultListenLimits)
}
