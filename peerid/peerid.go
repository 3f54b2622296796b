// Package peerid has ready functions for rafthttp.Transport.VerifyPeer: they
// bind a certificate to the id of one member of the cluster.
//
// Without such a binding, whoever holds any certificate of the cluster's
// authority can speak as any member of it. What a certificate says of its
// member can be
//
//   - in a subject alternative name: [SPIFFE], [URI] and [DNS], which need no list
//     of members,
//   - in a list that the application has: [PublicKeys], [CommonNames] and [Hosts].
//
// [All] and [Any] combine them, such as for the time in which certificates move
// from one scheme to another.
//
// # Who is trusted
//
// All but PublicKeys believe what a certificate says, so it must have been
// verified: TLSInfo needs TrustedCAFile and ClientCertAuth, and neither
// InsecureSkipVerify. A connection whose certificate was not verified is refused.
// PublicKeys needs no authority, since the handshake proves who holds the key.
//
// # Lists that change
//
// The functions copy their lists. For members that come and go, have one call
// what is current:
//
//	var current atomic.Pointer[peerid.Verifier]
//	t.VerifyPeer = func(id types.ID, s *tls.ConnectionState) error { return (*current.Load())(id, s) }
package peerid

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"

	"go.etcd.io/etcd/client/pkg/v3/types"
)

// Verifier decides whether a connection is that of the member with this id: nil
// says yes. It is what rafthttp.Transport.VerifyPeer takes. The ones of this
// package never block, are safe for concurrent use, refuse a state that is nil
// (a connection without TLS) and the id 0 (a member that states none).
type Verifier func(id types.ID, state *tls.ConnectionState) error

// Reasons to refuse a connection. What a Verifier returns wraps one of them.
var (
	// ErrNoCertificate says that the connection has no certificate to look at, or
	// one that nobody has verified.
	ErrNoCertificate = errors.New("no verified certificate")
	// ErrNoID says that the member states no id.
	ErrNoID = errors.New("the member states no id")
	// ErrOtherMember says that the certificate is not the member's.
	ErrOtherMember = errors.New("certificate of another member")
	// ErrAmbiguous says that the certificate would do for more than one member.
	ErrAmbiguous = errors.New("certificate for more than one member")
)

// leaf returns the certificate of the other end, which was verified.
func leaf(id types.ID, state *tls.ConnectionState) (*x509.Certificate, error) {
	cert, err := proven(id, state)
	if err == nil && len(state.VerifiedChains) == 0 {
		return nil, ErrNoCertificate
	}
	return cert, err
}

// proven returns the certificate whose key the other end has shown to hold.
func proven(id types.ID, state *tls.ConnectionState) (*x509.Certificate, error) {
	switch {
	case state == nil || len(state.PeerCertificates) == 0:
		return nil, ErrNoCertificate
	case id == 0:
		return nil, ErrNoID
	}
	return state.PeerCertificates[0], nil
}

// All accepts what every one of the verifiers accepts. It needs at least one.
func All(verifiers ...Verifier) (Verifier, error) {
	if err := usable(verifiers); err != nil {
		return nil, err
	}
	vs := append([]Verifier(nil), verifiers...)
	return func(id types.ID, state *tls.ConnectionState) error {
		for _, v := range vs {
			if err := v(id, state); err != nil {
				return err
			}
		}
		return nil
	}, nil
}

// Any accepts what one of the verifiers accepts. It needs at least one.
func Any(verifiers ...Verifier) (Verifier, error) {
	if err := usable(verifiers); err != nil {
		return nil, err
	}
	vs := append([]Verifier(nil), verifiers...)
	return func(id types.ID, state *tls.ConnectionState) error {
		var all []error
		for _, v := range vs {
			err := v(id, state)
			if err == nil {
				return nil
			}
			all = append(all, err)
		}
		return errors.Join(all...)
	}, nil
}

func usable(verifiers []Verifier) error {
	if len(verifiers) == 0 {
		return errors.New("peerid: no verifier")
	}
	for i, v := range verifiers {
		if v == nil {
			return fmt.Errorf("peerid: verifier %d is nil", i)
		}
	}
	return nil
}
