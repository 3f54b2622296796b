package testmember

import (
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/seed-4d73690b/rafthttp"
)

// StatusWriter is a ResponseWriter that keeps the status.
type StatusWriter struct {
	HeaderMap http.Header
	code      int
}

// Header implements http.ResponseWriter.
func (a *StatusWriter) Header() http.Header { return a.HeaderMap }

// WriteHeader keeps the status.
func (a *StatusWriter) WriteHeader(code int) { a.code = code }

// Write does nothing.
func (a *StatusWriter) Write(p []byte) (int, error) { return len(p), nil }

// BasicWriter is a ResponseWriter as middleware makes it: there is no way to hijack the connection below, nor to bound its writes.
type BasicWriter struct{ W http.ResponseWriter }

// Header implements http.ResponseWriter.
func (b BasicWriter) Header() http.Header { return b.W.Header() }

// Write implements http.ResponseWriter.
func (b BasicWriter) Write(p []byte) (int, error) { return b.W.Write(p) }

// WriteHeader implements http.ResponseWriter.
func (b BasicWriter) WriteHeader(code int) { b.W.WriteHeader(code) }

// Flush implements http.Flusher.
func (b BasicWriter) Flush() { b.W.(http.Flusher).Flush() }

// DeadlineWriter is one that takes deadlines as well.
type DeadlineWriter struct{ BasicWriter }

// NewDeadlineWriter returns a DeadlineWriter over w.
func NewDeadlineWriter(w http.ResponseWriter) DeadlineWriter { return DeadlineWriter{BasicWriter{w}} }

// SetReadDeadline is for http.ResponseController.
func (d DeadlineWriter) SetReadDeadline(t time.Time) error {
	return http.NewResponseController(d.W).SetReadDeadline(t)
}

// SetWriteDeadline is for http.ResponseController.
func (d DeadlineWriter) SetWriteDeadline(t time.Time) error {
	return http.NewResponseController(d.W).SetWriteDeadline(t)
}

// Writers are the ways in which a handler may see the connection of a stream.
var Writers = map[string]func(http.ResponseWriter) http.ResponseWriter{
	"hijacked":       func(w http.ResponseWriter) http.ResponseWriter { return w },
	"with deadlines": func(w http.ResponseWriter) http.ResponseWriter { return DeadlineWriter{BasicWriter{w}} },
}

// WrapWriters changes the ResponseWriters of a simulated member, before its first request. It returns how many stream handlers run.
func WrapWriters(m *Member, f func(http.ResponseWriter) http.ResponseWriter) *atomic.Int32 {
	running, h := new(atomic.Int32), m.Server.Handler
	m.Server.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, rafthttp.RaftStreamPrefix) {
			running.Add(1)
			defer running.Add(-1)
		}
		h.ServeHTTP(f(w), r)
	})
	return running
}
