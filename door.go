package rafthttp

import (
	"net/http"
	"path"

	"go.etcd.io/etcd/client/pkg/v3/types"
)

// This file is the door: whatever another member sends comes in by it, whichever
// way it takes. ServeHTTP checks requests, admit checks messages.

// handler serves an endpoint, and maps what serve returns to an answer.
type handler struct {
	t      *Transport
	at     endpoint
	method string // "": any
	serve  func(*request) error
}

// request is one request while it is served.
type request struct {
	*engine
	at   endpoint
	w    http.ResponseWriter
	r    *http.Request
	rc   *http.ResponseController
	from types.ID // 0: not stated

	taken *takenResponse // w, where the connection was taken over to read a snapshot
}

// ServeHTTP implements http.Handler.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if h.method != "" && r.Method != h.method {
		w.Header().Set("Allow", h.method)
		refuse(w, errMethodNotAllowed, h.at)
		return
	}
	e := h.t.engine.Load()
	if e == nil {
		refuse(w, errNotStarted, h.at)
		return
	}
	e.introduce(w.Header(), h.at)
	if !e.enter() {
		refuse(w, ErrStopped, h.at)
		return
	}
	defer e.leave()
	q := &request{engine: e, at: h.at, w: w, r: r, rc: http.NewResponseController(w)}
	defer q.finish()
	err := q.check()
	if err == nil {
		err = h.serve(q)
	}
	if err != nil {
		q.answer(err)
	}
}

// introduce states what answers of an endpoint say of the local member (protocol:
// request headers; extensions). A stream's dialler believes no answer, not even
// that it was removed, without a version.
func (s *settings) introduce(h http.Header, at endpoint) {
	if at != endpointProbe {
		h.Set(headerClusterID, s.clusterID.String())
	}
	if at&(endpointStreams|endpointOffset) != 0 {
		h.Set(headerVersion, s.serverVersionText)
	}
	if at&endpointMessages == 0 {
		s.stateExtensions(h)
	}
}

// refuse answers a request before anything of it was looked at.
func refuse(w http.ResponseWriter, err error, at endpoint) {
	code, body := answerOf(err, at)
	http.Error(w, body, code)
}

// check does what all requests have in common (protocol: what the handler
// checks). A probe says nothing of its sender.
func (q *request) check() error {
	if q.at != endpointProbe {
		if err := q.checkRequest(q.r.Header); err != nil {
			return err
		}
		if err := q.identify(); err != nil {
			return err
		}
	}
	return q.stands()
}

// identify finds out who the request says it is of, and has VerifyPeer decide
// whether it is.
func (q *request) identify() (err error) {
	switch {
	case q.r.Header.Get(headerFrom) != "":
		if q.from, err = idHeader(q.r.Header, headerFrom); err != nil {
			return err
		}
		if q.from == 0 {
			return &badRequest{http.StatusBadRequest, "header " + headerFrom + ": no member has the id 0"}
		}
	case q.at&endpointStreams != 0:
		if q.from, err = types.IDFromString(path.Base(q.r.URL.Path)); err != nil {
			return nil // such a path is not served
		}
	}
	if q.verifyPeer == nil {
		return nil
	}
	if err := q.verifyPeer(q.from, q.r.TLS); err != nil {
		return q.refuseIdentity(err)
	}
	return nil
}

// stands returns why a request is no longer one of its member: its certificate was
// revoked, or has ended, since the connection was made.
func (q *request) stands() error {
	if st, err := q.files.judge(q.r.TLS, 0); st >= outdated {
		q.w.Header().Set("Connection", "close")
		return q.refuseIdentity(err)
	}
	return nil
}
