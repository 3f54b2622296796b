package rafthttp

import (
	"net"
	"net/http"
	"net/url"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/client/pkg/v3/types"
)

// ParseVersion is what all version headers and fields go through.
func ParseVersion(s string) (major, minor int, err error) {
	v, err := parseVersion(s)
	return v.major, v.minor, err
}

// The two directions of the table between errors and answers.
var (
	AnswerOf    = answerOf
	AnswerError = func(resp *http.Response, want int) error { return answerError(resp, want) }
)

// Errors of the table that are not exported.
var (
	ErrMemberGone    = errMemberGone
	ErrNoSnapshotter = errNoSnapshotter
	ErrBusy          = errBusy
	ErrNotStarted    = errNotStarted
	ErrMethod        = errMethodNotAllowed
)

// ProcessError is an error of Raft.Process on its way to the answer.
func ProcessError(err error) error { return &processError{err: err} }

// URLPicker is the picker of a peer's URLs.
type URLPicker struct{ p *urlPicker }

func NewURLPicker(urls ...string) URLPicker {
	return URLPicker{newURLPicker(types.MustNewURLs(urls))}
}

func (p URLPicker) Pick() url.URL            { return p.p.pick() }
func (p URLPicker) Unreachable(u url.URL)    { p.p.unreachable(u) }
func (p URLPicker) Update(urls ...string)    { p.p.update(types.MustNewURLs(urls)) }
func (p URLPicker) Same(urls ...string) bool { return p.p.same(types.MustNewURLs(urls)) }
func (p URLPicker) List() []string           { return p.p.list() }

// NewTLSListener is what NewListener puts over a plain listener.
func NewTLSListener(l net.Listener, info *transport.TLSInfo) (net.Listener, error) {
	return newTLSListener(l, info)
}
