package conn

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
)

// addSANCheck adds to cfg a check that the client's certificate fits its address.
func addSANCheck(ctx context.Context, cfg *tls.Config, remote net.Addr) {
	before := cfg.VerifyConnection
	cfg.VerifyConnection = func(state tls.ConnectionState) error {
		if before != nil {
			if err := before(state); err != nil {
				return err
			}
		}
		if len(state.PeerCertificates) == 0 {
			return nil
		}
		return checkSAN(ctx, state.PeerCertificates[0], remote)
	}
}

// checkSAN checks that a certificate with addresses or host names includes
// remote. A Unix socket has no address to compare.
func checkSAN(ctx context.Context, cert *x509.Certificate, remote net.Addr) error {
	if remote.Network() == "unix" || (len(cert.IPAddresses) == 0 && len(cert.DNSNames) == 0) {
		return nil
	}
	host, _, err := net.SplitHostPort(remote.String())
	if err != nil {
		return err
	}
	host = WithoutZone(host)
	if len(cert.IPAddresses) > 0 && cert.VerifyHostname(host) == nil {
		return nil
	}
	ok, err := resolvesTo(ctx, cert.DNSNames, host)
	if !ok {
		return errors.Join(fmt.Errorf("certificate of %s is for %v %q", host, cert.IPAddresses, cert.DNSNames), err)
	}
	return nil
}

// resolvesTo reports whether addr's reverse name is one of names, which may be
// wildcards, or one of names resolves to addr, which has no zone.
func resolvesTo(ctx context.Context, names []string, addr string) (bool, error) {
	if len(names) == 0 {
		return false, nil
	}
	reverse, failure := net.DefaultResolver.LookupAddr(ctx, addr)
	for _, r := range reverse {
		r = strings.TrimSuffix(r, ".")
		for _, name := range names {
			if suffix, ok := strings.CutPrefix(name, "*"); r == name || (ok && strings.HasSuffix(r, suffix)) {
				return true, nil
			}
		}
	}
	for _, name := range names {
		if strings.HasPrefix(name, "*.") {
			continue
		}
		addrs, err := net.DefaultResolver.LookupHost(ctx, name)
		if slices.ContainsFunc(addrs, func(a string) bool { return WithoutZone(a) == addr }) {
			return true, nil
		}
		failure = errors.Join(failure, err)
	}
	return false, failure
}
