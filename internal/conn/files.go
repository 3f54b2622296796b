package conn

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.uber.org/zap"

	"github.com/seed-4d73690b/rafthttp/internal/loglimit"
)

// Files are the current files of a TLSInfo: every handshake reads them again, and
// parses those that have changed. They are small, so comparing them costs less than a
// signature of the handshake. If a certificate, a key or a bundle of authorities is
// unusable, for example incomplete, the last usable version stays in force. If a
// revocation list cannot be read, handshakes are refused, as etcd does, and existing
// connections are validated by the last usable list.
//
// It is safe for concurrent use.
type Files struct {
	caFile, crlFile       string
	log                   *zap.Logger
	caWarning, crlWarning loglimit.Limiter

	mu      sync.Mutex
	caText  []byte
	pool    *x509.CertPool      // nil: the system's
	anchors map[string]bool     // authorities, by anchorOf: true for those of pool, false for former ones
	crlText []byte              // nil: not read yet
	revoked map[string]struct{} // serial numbers

	shown  func() (*tls.Certificate, error) // our certificate for servers; nil: none
	chain  [][]byte                         // the last one
	chains uint64                           // number of its changes
}

// NewFiles reads the bundle of authorities and the revocation list. Unusable files are an
// error only here. The log may be nil.
func NewFiles(info *transport.TLSInfo, log *zap.Logger) (*Files, error) {
	if log == nil {
		log = zap.NewNop()
	}
	f := &Files{caFile: info.TrustedCAFile, crlFile: info.CRLFile, log: log, anchors: map[string]bool{}}
	if f.caFile != "" {
		if err := f.readAuthorities(os.ReadFile); err != nil {
			return nil, err
		}
	}
	return f, f.readRevoked(os.ReadFile)
}

// Client returns the configuration for dialling. The caller sets RootCAs to Authorities for
// each handshake. It is called at most once, before all other methods.
func (f *Files) Client(info transport.TLSInfo) (*tls.Config, error) {
	info.Logger = nil // it would log every handshake
	cfg, err := info.ClientConfig()
	if err != nil {
		return nil, err
	}
	if cfg.GetClientCertificate != nil {
		pair := &keyPair{certFile: info.CertFile, keyFile: info.KeyFile}
		if info.ClientCertFile != "" {
			pair = &keyPair{certFile: info.ClientCertFile, keyFile: info.ClientKeyFile}
		}
		if f.shown, err = f.certificate(pair); err != nil {
			return nil, err
		}
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return f.shown() }
		f.Reload()
	}
	cfg.VerifyConnection = f.unlessRevoked(cfg.VerifyConnection)
	return cfg, nil
}

// Server returns the configuration for listening. The caller sets ClientCAs to Authorities
// for each handshake.
func (f *Files) Server(info transport.TLSInfo) (*tls.Config, error) {
	info.Logger = nil
	cfg, err := info.ServerConfig()
	if err != nil {
		return nil, err
	}
	shown, err := f.certificate(&keyPair{certFile: info.CertFile, keyFile: info.KeyFile})
	if err != nil {
		return nil, err
	}
	cfg.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return shown() }
	cfg.VerifyConnection = f.unlessRevoked(cfg.VerifyConnection)
	// A session must not be resumed after its authority was removed. Connections between
	// members are few and long-lived.
	cfg.SessionTicketsDisabled = true
	return cfg, nil
}

// certificate returns a function that reads a pair of files, and falls back on the last usable pair.
// An unusable pair is an error only here.
func (f *Files) certificate(pair *keyPair) (func() (*tls.Certificate, error), error) {
	if _, err := pair.read(os.ReadFile); err != nil {
		return nil, err
	}
	warning := new(loglimit.Limiter)
	return func() (*tls.Certificate, error) {
		c, err := pair.readOrLast()
		if err != nil {
			f.logFallback(warning, err)
		}
		return c, nil
	}, nil
}

// logFallback logs that a file is unusable and that its last usable version is used.
func (f *Files) logFallback(warning *loglimit.Limiter, err error) {
	if warning.Due(time.Now()) {
		f.log.Warn("cannot use a changed file of TLSInfo; going on with the last good one", zap.Error(err))
	}
}

// Authorities reads the bundle of authorities and returns the last usable one; nil stands for that
// of the system.
func (f *Files) Authorities() *x509.CertPool {
	if f.caFile == "" {
		return nil
	}
	if err := f.readAuthorities(readAgain); err != nil {
		f.logFallback(&f.caWarning, err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.pool
}

func (f *Files) readAuthorities(read readFunc) error {
	text, err := read(f.caFile)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.pool != nil && bytes.Equal(text, f.caText) {
		return nil
	}
	certs, err := parseBundle(text)
	if err != nil {
		return fmt.Errorf("%s: %w", f.caFile, err)
	}
	f.caText, f.pool = text, x509.NewCertPool()
	for raw := range f.anchors {
		f.anchors[raw] = false
	}
	for _, c := range certs {
		f.pool.AddCert(c)
		f.anchors[anchorOf(c)] = true
	}
	return nil
}

// anchorOf identifies an authority: a renewed certificate of the same authority, with the same
// key, verifies what the older one did.
func anchorOf(c *x509.Certificate) string {
	return string(c.RawSubject) + string(c.RawSubjectPublicKeyInfo)
}

// readRevoked reads the revocation list.
func (f *Files) readRevoked(read readFunc) error {
	if f.crlFile == "" {
		return nil
	}
	text, err := read(f.crlFile)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.crlText != nil && bytes.Equal(text, f.crlText) {
		return nil
	}
	list, err := x509.ParseRevocationList(text)
	if err != nil {
		if block, _ := pem.Decode(text); block != nil {
			err = errors.New("a revocation list has to be in DER, this is PEM")
		}
		return fmt.Errorf("%s: %w", f.crlFile, err)
	}
	f.crlText, f.revoked = text, map[string]struct{}{}
	for _, e := range list.RevokedCertificateEntries {
		f.revoked[string(e.SerialNumber.Bytes())] = struct{}{}
	}
	return nil
}

// unlessRevoked adds the check of the revocation list to a VerifyConnection.
func (f *Files) unlessRevoked(before func(tls.ConnectionState) error) func(tls.ConnectionState) error {
	return func(state tls.ConnectionState) error {
		if before != nil {
			if err := before(state); err != nil {
				return err
			}
		}
		if len(state.PeerCertificates) == 0 {
			return nil
		}
		if err := f.readRevoked(readAgain); err != nil {
			return err
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.onList(state.PeerCertificates)
	}
}

// onList returns an error for revoked certificates. It is called with mu held.
func (f *Files) onList(certs []*x509.Certificate) error {
	for _, c := range certs {
		if _, ok := f.revoked[string(c.SerialNumber.Bytes())]; ok {
			return fmt.Errorf("certificate %x is revoked", c.SerialNumber)
		}
	}
	return nil
}

// Reload reads all files again, and logs unusable ones.
func (f *Files) Reload() {
	f.Authorities()
	if err := f.readRevoked(readAgain); err != nil && f.crlWarning.Due(time.Now()) {
		// Existing connections are validated by the last usable list.
		f.log.Warn("cannot use the revocation list of TLSInfo; refusing new connections until it can be read", zap.Error(err))
	}
	if f.shown == nil {
		return
	}
	c, err := f.shown()
	f.mu.Lock()
	defer f.mu.Unlock()
	if err == nil && !sameChain(c.Certificate, f.chain) {
		f.chain = c.Certificate
		f.chains++
	}
}

// Generation counts our certificates so far, each with its chain.
func (f *Files) Generation() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.chains
}

// Validity says whether an existing connection would be accepted now.
type Validity int

// The validities, from best to worst.
const (
	Valid    Validity = iota
	Expiring          // the other end's certificate expires soon
	Outdated          // it has expired, or its authority is no longer trusted
	Revoked           // it is revoked
)

// Validate checks a connection; nil is one without TLS, which is valid. A certificate that
// expires within this time is Expiring. The error is nil for Valid and Expiring. Validate
// reads no file and verifies no signature: it uses the results of the last Reload.
func (f *Files) Validate(state *tls.ConnectionState, expiresWithin time.Duration) (Validity, error) {
	if state == nil {
		return Valid, nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.onList(state.PeerCertificates); err != nil {
		return Revoked, err
	}
	if len(state.VerifiedChains) == 0 {
		return Valid, nil
	}
	now := time.Now()
	valid := func(at time.Time) func([]*x509.Certificate) bool {
		return func(chain []*x509.Certificate) bool {
			// If the authority was never one of ours, the VerifyConnection that accepted it is responsible.
			if trusted, known := f.anchors[anchorOf(chain[len(chain)-1])]; known && !trusted {
				return false
			}
			return !slices.ContainsFunc(chain, func(c *x509.Certificate) bool { return at.After(c.NotAfter) })
		}
	}
	switch {
	case !slices.ContainsFunc(state.VerifiedChains, valid(now)):
		return Outdated, errors.New("certificate has ended, or its authority is no longer trusted")
	case !slices.ContainsFunc(state.VerifiedChains, valid(now.Add(expiresWithin))):
		return Expiring, nil
	}
	return Valid, nil
}

// Change reports whether there are files whose changes affect existing connections.
func (f *Files) Change() bool { return f.caFile != "" || f.crlFile != "" || f.shown != nil }
