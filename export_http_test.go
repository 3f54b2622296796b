package rafthttp

import (
	"net"
	"net/http"
	"net/url"
	"slices"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/client/pkg/v3/types"

	"github.com/seed-4d73690b/rafthttp/internal/protocol"
)

// Endpoint is one of those that the meaning of a status belongs to.
type Endpoint = protocol.Endpoint

// Endpoints are all of them, by name.
var Endpoints = map[string]Endpoint{
	"post": protocol.EndpointPost, "message": protocol.EndpointMessage, "msgapp": protocol.EndpointMsgApp,
	"snapshot": protocol.EndpointSnapshot, "offset": protocol.EndpointOffset, "probing": protocol.EndpointProbe,
}

// The two directions of the table between errors and answers.
var (
	AnswerOf    = answerOf
	AnswerError = func(resp *http.Response, at Endpoint, ofOurCluster bool) error {
		return answerError(resp, at, ofOurCluster)
	}
)

// RowsOfAnswers are the errors of the table, each once.
func RowsOfAnswers() (errs []error) {
	for _, a := range answers {
		if !slices.Contains(errs, a.err) {
			errs = append(errs, a.err)
		}
	}
	return errs
}

// Errors of the table that are not exported.
var (
	ErrMemberGone     = protocol.ErrMemberGone
	ErrBusyPosts      = protocol.ErrBusyPosts
	ErrSnapshotOffset = protocol.ErrSnapshotOffset
	ErrStillWriting   = protocol.ErrStillWriting
	ErrNoSnapshotter  = protocol.ErrNoSnapshotter
	ErrNoStream       = protocol.ErrNoStream
	ErrBusy           = protocol.ErrTooManySnapshots
	ErrNotStarted     = protocol.ErrNotStarted
	ErrMethod         = protocol.ErrMethodNotAllowed
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
