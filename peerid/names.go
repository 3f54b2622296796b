package peerid

import (
	"crypto/tls"
	"fmt"
	"net/url"
	"strings"

	"go.etcd.io/etcd/client/pkg/v3/types"
)

// placeholder stands for the id of a member in a pattern.
const placeholder = "{id}"

// SPIFFE accepts a certificate whose one URI is
// spiffe://trustDomain/member/<id>, with the id in lower-case hexadecimal without
// leading zeros, as types.ID.String writes it. By the rules of SPIFFE a
// certificate has exactly one URI. The trust domain is lower case, without port.
func SPIFFE(trustDomain string) (Verifier, error) {
	if trustDomain == "" || strings.Trim(trustDomain, "abcdefghijklmnopqrstuvwxyz0123456789.-_") != "" {
		return nil, fmt.Errorf("peerid: %q is no trust domain", trustDomain)
	}
	uri, err := URI("spiffe://" + trustDomain + "/member/" + placeholder)
	if err != nil {
		return nil, err
	}
	return func(id types.ID, state *tls.ConnectionState) error {
		if cert, err := leaf(id, state); err != nil {
			return err
		} else if len(cert.URIs) > 1 {
			return fmt.Errorf("%w: %d URIs", ErrAmbiguous, len(cert.URIs))
		}
		return uri(id, state)
	}, nil
}

// URI accepts a certificate that has the member's URI, and that of no other
// member. The pattern has {id} in place of the id, in
// lower-case hexadecimal without leading zeros: spiffe://example.org/raft/{id}.
func URI(pattern string) (Verifier, error) {
	p, err := parsePattern(pattern)
	if err != nil {
		return nil, err
	}
	if u, err := url.Parse(p.of(1)); err != nil || u.Scheme == "" || u.String() != p.of(1) {
		return nil, fmt.Errorf("peerid: %q is not the pattern of a URI", pattern)
	}
	return func(id types.ID, state *tls.ConnectionState) error {
		cert, err := leaf(id, state)
		if err != nil {
			return err
		}
		names := make([]string, 0, len(cert.URIs))
		for _, u := range cert.URIs {
			names = append(names, u.String())
		}
		return p.verify(id, names)
	}, nil
}

// DNS accepts a certificate that has the member's DNS name, and that of no other
// member. The pattern has {id} in place of the id, in hexadecimal without leading
// zeros: member-{id}.raft.example.org. Case does not matter. A certificate with a
// wildcard that would match such a name is refused: its holder could be
// any member. If {id} is a complete label, beware of hosts whose
// names look like an id, such as cafe.
func DNS(pattern string) (Verifier, error) {
	p, err := parsePattern(strings.ToLower(pattern))
	if err != nil {
		return nil, err
	}
	if strings.ContainsAny(pattern, "*/: ") {
		return nil, fmt.Errorf("peerid: %q is not the pattern of a DNS name", pattern)
	}
	return func(id types.ID, state *tls.ConnectionState) error {
		cert, err := leaf(id, state)
		if err != nil {
			return err
		}
		names := make([]string, 0, len(cert.DNSNames))
		for _, name := range cert.DNSNames {
			name = strings.ToLower(name)
			if parent, ok := strings.CutPrefix(name, "*."); ok && parent == parentOf(p.of(id)) {
				return fmt.Errorf("%w: %.256q", ErrAmbiguous, name)
			}
			names = append(names, name)
		}
		return p.verify(id, names)
	}, nil
}

// parentOf returns a DNS name without its first label.
func parentOf(name string) string {
	_, parent, _ := strings.Cut(name, ".")
	return parent
}

// pattern is a name with a member's id in it.
type pattern struct{ prefix, suffix string }

func parsePattern(s string) (pattern, error) {
	prefix, suffix, ok := strings.Cut(s, placeholder)
	if !ok || strings.Contains(suffix, placeholder) || prefix+suffix == "" {
		return pattern{}, fmt.Errorf("peerid: %q must have %s once, and more than that", s, placeholder)
	}
	return pattern{prefix, suffix}, nil
}

func (p pattern) of(id types.ID) string { return p.prefix + id.String() + p.suffix }

// verify checks that the names that match the pattern are the member's, and that there is one.
func (p pattern) verify(id types.ID, names []string) error {
	own, others := 0, 0
	for _, name := range names {
		switch {
		case name == p.of(id):
			own++
		case p.fits(name):
			others++
		}
	}
	switch {
	case own > 0 && others > 0, others > 1:
		return fmt.Errorf("%w: %.256q", ErrAmbiguous, names)
	case own == 0:
		return fmt.Errorf("%w: %.256q has no %s", ErrOtherMember, names, p.of(id))
	}
	return nil
}

// fits reports whether name is that of some member.
func (p pattern) fits(name string) bool {
	rest, ok := strings.CutPrefix(name, p.prefix)
	if !ok {
		return false
	}
	text, ok := strings.CutSuffix(rest, p.suffix)
	if !ok {
		return false
	}
	id, err := types.IDFromString(text)
	return err == nil && id.String() == text
}
