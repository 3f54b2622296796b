package rafthttp

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
)

// tlsFiles are the files of a TLSInfo, as they are now: every handshake reads
// them again, and parses those that have changed. They are small, so that
// comparing them costs less than a signature of the handshake. A certificate, a
// key or a bundle of authorities that cannot be used, such as one that is half
// written, leaves the last good one in force. A revocation list that cannot be
// read refuses handshakes, as etcd does; what is connected is held to the last
// good one.
//
// It is safe for concurrent use.
type tlsFiles struct {
	caFile, crlFile       string
	log                   *zap.Logger
	caWarning, crlWarning quiet

	mu      sync.Mutex
	caText  []byte
	pool    *x509.CertPool      // nil: the system's
	anchors map[string]bool     // authorities, by anchorOf: true for those of pool, false for former ones
	crlText []byte              // nil: not read yet
	revoked map[string]struct{} // serial numbers

	shown  func() (*tls.Certificate, error) // what we show to servers; nil: nothing
	chain  [][]byte                         // the last such
	chains uint64                           // how often it changed
}

// newTLSFiles reads the bundle of authorities and the revocation list; that it
// cannot is an error only here.
func newTLSFiles(info *transport.TLSInfo, log *zap.Logger) (*tlsFiles, error) {
	if log == nil {
		log = zap.NewNop()
	}
	f := &tlsFiles{caFile: info.TrustedCAFile, crlFile: info.CRLFile, log: log, anchors: map[string]bool{}}
	if f.caFile != "" {
		if err := f.readAuthorities(os.ReadFile); err != nil {
			return nil, err
		}
	}
	return f, f.readRevoked(os.ReadFile)
}

// client returns the configuration for dialling, but for the authorities.
func (f *tlsFiles) client(info transport.TLSInfo) (*tls.Config, error) {
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
		f.reload()
	}
	cfg.VerifyConnection = f.unlessRevoked(cfg.VerifyConnection)
	return cfg, nil
}

// server returns the configuration for listening, but for the authorities.
func (f *tlsFiles) server(info transport.TLSInfo) (*tls.Config, error) {
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
	// Nobody resumes what was agreed on with an authority that is gone. Connections
	// between members are few and long.
	cfg.SessionTicketsDisabled = true
	return cfg, nil
}

// certificate returns what reads a pair of files, and falls back on what they had.
// That they cannot be used is an error only here.
func (f *tlsFiles) certificate(pair *keyPair) (func() (*tls.Certificate, error), error) {
	if _, err := pair.read(os.ReadFile); err != nil {
		return nil, err
	}
	warning := new(quiet)
	return func() (*tls.Certificate, error) {
		c, err := pair.readOrLast()
		if err != nil {
			f.keepsLast(warning, err)
		}
		return c, nil
	}, nil
}

// keepsLast says that a file cannot be used, and what is done.
func (f *tlsFiles) keepsLast(warning *quiet, err error) {
	if warning.due(time.Now()) {
		f.log.Warn("cannot use a changed file of TLSInfo; going on with the last good one", zap.Error(err))
	}
}

// authorities returns those that are current; nil means the system's.
func (f *tlsFiles) authorities() *x509.CertPool {
	if f.caFile == "" {
		return nil
	}
	if err := f.readAuthorities(readAgain); err != nil {
		f.keepsLast(&f.caWarning, err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.pool
}

func (f *tlsFiles) readAuthorities(read readFunc) error {
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

// anchorOf names an authority: a renewed certificate of the same one, for the same
// key, vouches for what the older one did.
func anchorOf(c *x509.Certificate) string {
	return string(c.RawSubject) + string(c.RawSubjectPublicKeyInfo)
}

// readRevoked reads the revocation list.
func (f *tlsFiles) readRevoked(read readFunc) error {
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
func (f *tlsFiles) unlessRevoked(before func(tls.ConnectionState) error) func(tls.ConnectionState) error {
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

// onList is called with mu held.
func (f *tlsFiles) onList(certs []*x509.Certificate) error {
	for _, c := range certs {
		if _, ok := f.revoked[string(c.SerialNumber.Bytes())]; ok {
			return fmt.Errorf("certificate %x is revoked", c.SerialNumber)
		}
	}
	return nil
}

// reload reads all files again.
func (f *tlsFiles) reload() {
	f.authorities()
	if err := f.readRevoked(readAgain); err != nil && f.crlWarning.due(time.Now()) {
		// What is connected is held to the last list that could be read.
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

// generation counts the certificates that we have shown, each with its chain.
func (f *tlsFiles) generation() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.chains
}

// standing is what the files say of a connection that they let in before.
type standing int

const (
	good     standing = iota
	ending            // the other end's certificate ends soon
	outdated          // its certificate has ended, or its authority is no longer trusted
	revoked           // its certificate is revoked
)

// judge says how a connection stands; soon is when a certificate ends soon. It
// reads no file, verifies no signature and takes what reload last found.
func (f *tlsFiles) judge(state *tls.ConnectionState, soon time.Duration) (standing, error) {
	if state == nil {
		return good, nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.onList(state.PeerCertificates); err != nil {
		return revoked, err
	}
	if len(state.VerifiedChains) == 0 {
		return good, nil
	}
	now := time.Now()
	valid := func(at time.Time) func([]*x509.Certificate) bool {
		return func(chain []*x509.Certificate) bool {
			// An authority that never was one of ours is for whoever let it in.
			if trusted, known := f.anchors[anchorOf(chain[len(chain)-1])]; known && !trusted {
				return false
			}
			return !slices.ContainsFunc(chain, func(c *x509.Certificate) bool { return at.After(c.NotAfter) })
		}
	}
	switch {
	case !slices.ContainsFunc(state.VerifiedChains, valid(now)):
		return outdated, errors.New("certificate has ended, or its authority is no longer trusted")
	case !slices.ContainsFunc(state.VerifiedChains, valid(now.Add(soon))):
		return ending, nil
	}
	return good, nil
}
