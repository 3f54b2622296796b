package rafthttp

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/seed-4d73690b/rafthttp/internal/conn"
	"github.com/seed-4d73690b/rafthttp/internal/loglimit"
)

// handshakeReasons are why TLS handshakes fail, in the words of the log and what
// their errors have in them. The first that fits counts. They are compared as
// texts, since net/http has only those.
var handshakeReasons = [...]struct {
	reason string
	texts  []string
}{
	{"refused by the client", []string{"remote error: "}},
	{"no certificate", []string{"tls: client didn't provide a certificate"}},
	{"unknown authority", []string{"x509: certificate signed by unknown authority"}},
	{"expired", []string{"x509: certificate has expired or is not yet valid"}},
	{"wrong address", []string{"certificate of "}},
	{"revoked", []string{" revoked"}},
	{"no TLS", []string{"tls: first record does not look like a TLS handshake", "HTTP request to an HTTPS server"}},
	{"too many", []string{conn.ErrTooManyHandshakes.Error()}},
	{"other", []string{""}},
}

// handshakeFailures counts and logs the TLS handshakes of clients that failed: one
// line a minute for each address and reason, and maxRefusals in all. Its zero
// value is ready, and it is safe for concurrent use.
type handshakeFailures struct {
	lines  refusals[handshakeFailure]
	counts [len(handshakeReasons)]atomic.Uint64 // by reason
}

type handshakeFailure struct{ address, reason string }

// maxHandshakeError is how much of an error's text is logged: certificates of
// strangers have a part in it.
const maxHandshakeError = 256

// failed takes in one failure. The log may be nil.
func (f *handshakeFailures) failed(log *zap.Logger, from, text string, fields ...zap.Field) {
	contained := func(part string) bool { return strings.Contains(text, part) }
	n := 0
	for !slices.ContainsFunc(handshakeReasons[n].texts, contained) {
		n++
	}
	reason := handshakeReasons[n].reason
	total := f.counts[n].Add(1)
	if log == nil || !f.lines.first(handshakeFailure{conn.HostOfAddress(from), reason}) {
		return
	}
	log.Warn("a TLS handshake failed; further ones like it are not logged for a while", append(fields,
		zap.String("remote-addr", from), zap.String("reason", reason), zap.Uint64("failed-total", total),
		zap.String("error", fmt.Sprintf("%.*s", maxHandshakeError, text)))...)
}

// handshakeFailed counts and logs a handshake that failed.
func (l *tlsListener) handshakeFailed(from net.Addr, err error) {
	to, log := &l.failures, l.log
	if t := l.serves.Load(); t != nil {
		to = &t.handshakes
		if log == nil {
			log = t.logger()
		}
	}
	var fields []zap.Field
	if bad, ok := errors.AsType[*tls.CertificateVerificationError](err); ok && len(bad.UnverifiedCertificates) > 0 {
		leaf := bad.UnverifiedCertificates[0]
		fields = append(fields, zap.String("certificate", fmt.Sprintf("%.*q, serial %x", maxHandshakeError, leaf.Subject, leaf.SerialNumber)))
	}
	to.failed(log, from.String(), err.Error(), fields...)
}

// serverLog takes the log of a server, of which it keeps that connections cannot be
// accepted, and the TLS handshakes that failed: those of a listener of the
// application's.
type serverLog struct{ handler http.Handler }

// acceptFails says that the listener cannot take connections for now.
func (l *tlsListener) acceptFails(err error) {
	log := l.log
	if t := l.serves.Load(); t != nil && log == nil {
		log = t.logger()
	}
	logAcceptFailure(log, &l.notAccepting, err.Error())
}

// logAcceptFailure logs that connections cannot be accepted for now: once a minute,
// since that is tried again and again. The log may be nil.
func logAcceptFailure(log *zap.Logger, lines *loglimit.Limiter, text string) {
	if log != nil && lines.Due(time.Now()) {
		log.Warn("cannot accept connections; trying again, and not logged again for a while", zap.String("error", text))
	}
}

// Write implements io.Writer.
func (l serverLog) Write(line []byte) (int, error) {
	if text, ok := strings.CutPrefix(string(line), "http: Accept error: "); ok {
		if t := transportBehind(l.handler); t != nil {
			text, _, _ = strings.Cut(text, "; retrying in ")
			logAcceptFailure(t.logger(), &t.notAccepting, text)
		}
		return len(line), nil
	}
	rest, ok := strings.CutPrefix(string(line), "http: TLS handshake error from ")
	from, text, found := strings.Cut(strings.TrimSpace(rest), ": ")
	t := transportBehind(l.handler)
	if ok && found && t != nil && !saysOnlyConnected(text) {
		t.handshakes.failed(t.logger(), from, text)
	}
	return len(line), nil
}

// saysOnlyConnected reports whether a handshake failed, by its text, because the client left
// or fell silent.
func saysOnlyConnected(text string) bool {
	for _, end := range []string{"EOF", "i/o timeout", "connection reset by peer", "broken pipe", "use of closed network connection", "context canceled"} {
		if strings.HasSuffix(text, end) {
			return true
		}
	}
	return false
}

// logger returns the log of a transport that was started, or nil.
func (t *Transport) logger() *zap.Logger {
	if e := t.engine.Load(); e != nil {
		return e.cfg.log
	}
	return nil
}

// serverFor makes the server of NewServer tell the transport behind its handler of
// handshakes.
func serverFor(s *http.Server) *http.Server {
	s.ErrorLog = log.New(serverLog{s.Handler}, "", 0)
	s.BaseContext = func(l net.Listener) context.Context {
		if tl, ok := l.(*tlsListener); ok {
			tl.serves.Store(transportBehind(s.Handler))
		}
		return context.Background()
	}
	return s
}

// ownHandler is Transport.Handler.
type ownHandler struct {
	http.Handler
	t *Transport
}

// transportBehind returns the transport whose handler h is, or has on its mux, or the
// first of a Mux that runs, or nil.
func transportBehind(h http.Handler) *Transport {
	if mux, ok := h.(*http.ServeMux); ok {
		h, _ = mux.Handler(&http.Request{Method: http.MethodPost, URL: &url.URL{Path: RaftPrefix}})
	}
	switch own := h.(type) {
	case *ownHandler:
		return own.t
	case *Mux:
		return own.first()
	}
	return nil
}
