package conn

import (
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/seed-4d73690b/rafthttp/internal/errs"
	"github.com/seed-4d73690b/rafthttp/internal/loglimit"
)

// handshakeReasons are the reasons why TLS handshakes fail, in the words of the log, and the
// texts that their errors contain. The first match counts. They are compared as texts,
// since net/http provides only texts.
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
	{"too many", []string{ErrTooManyHandshakes.Error()}},
	{"other", []string{""}},
}

// Failures counts and logs the failures of a listener: TLS handshakes of clients, one line a
// minute for each address and reason and 64 in total, and connections that cannot be accepted,
// one line a minute. The zero value is ready. It is safe for concurrent use.
type Failures struct {
	lines   loglimit.Recent[handshakeFailure]
	accepts loglimit.Limiter

	mu       sync.Mutex
	byReason [len(handshakeReasons)]FailedHandshakes
}

// FailedHandshakes are those that failed for one reason.
type FailedHandshakes struct {
	Reason   string // in the words of the log
	Failures uint64
	// Since is when the run began that the last of them belongs to: a run ends with handshakeRun
	// without a failure. LastAt, LastAddress and LastError are of the last one.
	Since, LastAt          time.Time
	LastAddress, LastError string
}

// handshakeRun is how long a failed handshake counts as going on.
const handshakeRun = 5 * time.Minute

// Handshakes returns the failed handshakes for each reason, in a fixed order, also for those that
// have not occurred.
func (f *Failures) Handshakes() []FailedHandshakes {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := slices.Clone(f.byReason[:])
	for n := range all {
		all[n].Reason = handshakeReasons[n].reason
	}
	return all
}

// count counts a handshake that failed, and returns how many did for the same reason.
func (f *Failures) count(reason int, from, text string) uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	c, now := &f.byReason[reason], time.Now()
	if now.Sub(c.LastAt) >= handshakeRun {
		c.Since = now
	}
	c.Failures++
	c.LastAt, c.LastAddress, c.LastError = now, from, text
	return c.Failures
}

type handshakeFailure struct{ address, reason string }

// maxHandshakeError is the most bytes of an error's text that are logged and kept: the certificates of
// unauthenticated clients contribute to it.
const maxHandshakeError = 256

// Handshake counts and logs a failed handshake. The log may be nil.
func (f *Failures) Handshake(log *zap.Logger, from string, err error) {
	var fields []zap.Field
	if bad, ok := errors.AsType[*tls.CertificateVerificationError](err); ok && len(bad.UnverifiedCertificates) > 0 {
		leaf := bad.UnverifiedCertificates[0]
		fields = append(fields, zap.String("certificate", fmt.Sprintf("%q, serial %x", errs.Plain(leaf.Subject.String(), maxHandshakeError), leaf.SerialNumber)))
	}
	f.handshake(log, from, err.Error(), fields...)
}

func (f *Failures) handshake(log *zap.Logger, from, text string, fields ...zap.Field) {
	contained := func(part string) bool { return strings.Contains(text, part) }
	n := 0
	for !slices.ContainsFunc(handshakeReasons[n].texts, contained) {
		n++
	}
	reason := handshakeReasons[n].reason
	text = errs.Plain(text, maxHandshakeError)
	total := f.count(n, from, text)
	if log == nil || !f.lines.First(handshakeFailure{HostOfAddress(from), reason}) {
		return
	}
	log.Warn("a TLS handshake failed; further ones like it are not logged for a while", append(fields,
		zap.String("remote-addr", from), zap.String("reason", reason), zap.Uint64("failed-total", total),
		zap.String("error", text))...)
}

// Accept logs that connections cannot be accepted at the moment. The log may be nil.
func (f *Failures) Accept(log *zap.Logger, text string) {
	if log != nil && f.accepts.Due(time.Now()) {
		log.Warn("cannot accept connections; trying again, and not logged again for a while", zap.String("error", text))
	}
}

// ServerLine handles a line of the ErrorLog of an http.Server. It counts and logs failures of its
// listener, and ignores all other lines, and clients that only connected. The log may be nil.
func (f *Failures) ServerLine(log *zap.Logger, line string) {
	if text, ok := strings.CutPrefix(line, "http: Accept error: "); ok {
		text, _, _ = strings.Cut(text, "; retrying in ")
		f.Accept(log, text)
		return
	}
	rest, ok := strings.CutPrefix(line, "http: TLS handshake error from ")
	from, text, found := strings.Cut(strings.TrimSpace(rest), ": ")
	if ok && found && !saysOnlyConnected(text) {
		f.handshake(log, from, text)
	}
}

// saysOnlyConnected is onlyConnected for the text of an error.
func saysOnlyConnected(text string) bool {
	for _, end := range []string{"EOF", "i/o timeout", "connection reset by peer", "broken pipe", "use of closed network connection", "context canceled"} {
		if strings.HasSuffix(text, end) {
			return true
		}
	}
	return false
}
