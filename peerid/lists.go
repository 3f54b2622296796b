package peerid

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"go.etcd.io/etcd/client/pkg/v3/types"
)

// Pin is the SHA-256 of a public key (the certificate's SubjectPublicKeyInfo). It
// stays the same when a certificate is renewed for the same key.
type Pin [sha256.Size]byte

// PinOf returns the pin of a certificate's key.
func PinOf(cert *x509.Certificate) Pin { return sha256.Sum256(cert.RawSubjectPublicKeyInfo) }

// ParsePin reads the format of String: "sha256/" and base64. The same is the output of
//
//	openssl x509 -in cert.pem -pubkey -noout | openssl pkey -pubin -outform der |
//		openssl dgst -sha256 -binary | openssl base64
//
// except for "sha256/", which is optional.
func ParsePin(s string) (Pin, error) {
	b, err := base64.StdEncoding.Strict().DecodeString(strings.TrimPrefix(s, "sha256/"))
	if err != nil || len(b) != sha256.Size {
		return Pin{}, fmt.Errorf("peerid: %.64q is not the SHA-256 of a key in base64", s)
	}
	return Pin(b), nil
}

// String returns "sha256/" and the pin in base64.
func (p Pin) String() string { return "sha256/" + base64.StdEncoding.EncodeToString(p[:]) }

// PublicKeys accepts a member whose certificate has one of its keys: the
// current and the next ones, so that it can change them. No authority is needed.
// No two members may have a key in common.
func PublicKeys(keys map[types.ID][]Pin) (Verifier, error) {
	own, err := ownedBy("key", keys)
	if err != nil {
		return nil, err
	}
	return func(id types.ID, state *tls.ConnectionState) error {
		cert, err := proven(id, state)
		if err != nil {
			return err
		}
		pin := PinOf(cert)
		if !slices.Contains(own[id], pin) {
			return fmt.Errorf("%w: key %s", ErrOtherMember, pin)
		}
		return nil
	}, nil
}

// CommonNames accepts a member whose certificate has one of its common names. No
// two members may have one in common.
func CommonNames(names map[types.ID][]string) (Verifier, error) {
	own, err := ownedBy("common name", names)
	if err != nil {
		return nil, err
	}
	return func(id types.ID, state *tls.ConnectionState) error {
		cert, err := leaf(id, state)
		if err != nil {
			return err
		}
		if !slices.Contains(own[id], cert.Subject.CommonName) {
			return fmt.Errorf("%w: common name %.256q", ErrOtherMember, cert.Subject.CommonName)
		}
		return nil
	}, nil
}

// Hosts accepts a member whose certificate has one of its hosts, a DNS name or an
// IP address, literally: a wildcard in a certificate matches no member. A
// certificate with hosts of several members is refused, and no two members may
// have one in common.
func Hosts(hosts map[types.ID][]string) (Verifier, error) {
	canonical := make(map[types.ID][]string, len(hosts))
	for id, names := range hosts {
		for _, name := range names {
			if strings.Contains(name, "*") {
				return nil, fmt.Errorf("peerid: host %q of member %s is a wildcard", name, id)
			}
			canonical[id] = append(canonical[id], canonicalHost(name))
		}
	}
	own, err := ownedBy("host", canonical)
	if err != nil {
		return nil, err
	}
	return func(id types.ID, state *tls.ConnectionState) error {
		cert, err := leaf(id, state)
		if err != nil {
			return err
		}
		names := hostsOf(cert)
		for other, theirs := range own {
			if other != id && slices.ContainsFunc(theirs, func(h string) bool { return slices.Contains(names, h) }) {
				return fmt.Errorf("%w: %.256q, of which one is %s's", ErrOtherMember, names, other)
			}
		}
		if !slices.ContainsFunc(own[id], func(h string) bool { return slices.Contains(names, h) }) {
			return fmt.Errorf("%w: hosts %.256q", ErrOtherMember, names)
		}
		return nil
	}, nil
}

func hostsOf(cert *x509.Certificate) (names []string) {
	for _, name := range cert.DNSNames {
		names = append(names, canonicalHost(name))
	}
	for _, ip := range cert.IPAddresses {
		names = append(names, canonicalHost(ip.String()))
	}
	return names
}

func canonicalHost(s string) string {
	if ip, err := netip.ParseAddr(s); err == nil {
		return ip.Unmap().String()
	}
	return strings.ToLower(s)
}

// ownedBy copies the lists of the members, of which no two may have an element in common.
func ownedBy[T comparable](what string, lists map[types.ID][]T) (map[types.ID][]T, error) {
	var none T
	owner := map[T]types.ID{}
	own := make(map[types.ID][]T, len(lists))
	for id, list := range lists {
		if id == 0 || len(list) == 0 {
			return nil, fmt.Errorf("peerid: member %s: no %s", id, what)
		}
		for _, v := range list {
			if v == none {
				return nil, fmt.Errorf("peerid: member %s: empty %s", id, what)
			}
			if other, ok := owner[v]; ok && other != id {
				return nil, fmt.Errorf("peerid: members %s and %s have a %s in common: %v", min(id, other), max(id, other), what, v)
			}
			owner[v] = id
		}
		own[id] = slices.Clone(list)
	}
	if len(own) == 0 {
		return nil, fmt.Errorf("peerid: no %s of any member", what)
	}
	return own, nil
}
