// Package peerid has functions for rafthttp.Transport.VerifyPeer: they
// bind a certificate to the id of one member of the cluster.
//
// Without such a binding, the holder of any certificate of the cluster's
// authority can act as any of its members. A certificate identifies its
// member
//
//   - in a subject alternative name: [SPIFFE], [URI] and [DNS], which need no list
//     of members,
//   - in a list of the application: [PublicKeys], [CommonNames] and [Hosts].
//
// [All] and [Any] combine them, for example while certificates move
// from one scheme to another.
//
// # Who is trusted
//
// All except PublicKeys trust the content of a certificate, so it must have been
// verified: TLSInfo needs TrustedCAFile and ClientCertAuth, and must not have
// InsecureSkipVerify. A connection whose certificate was not verified is refused.
// PublicKeys needs no authority, since the handshake proves possession of the key.
//
// # Lists that change
//
// The functions copy their lists. If members change, call the current
// verifier:
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
// means yes. It is the type of rafthttp.Transport.VerifyPeer. Those of this
// package never block, are safe for concurrent use, refuse a state that is nil
// (a connection without TLS) and the id 0 (a member that states none).
type Verifier func(id types.ID, state *tls.ConnectionState) error

// Reasons to refuse a connection. The errors of a Verifier wrap one of them.
var (
	// ErrNoCertificate means that the connection has no certificate, or
	// an unverified one.
	ErrNoCertificate = errors.New("no verified certificate")
	// ErrNoID means that the member states no id.
	ErrNoID = errors.New("the member states no id")
	// ErrOtherMember means that the certificate is not the member's.
	ErrOtherMember = errors.New("certificate of another member")
	// ErrAmbiguous means that the certificate would be valid for more than one member.
	ErrAmbiguous = errors.New("certificate for more than one member")
)

// leaf returns the verified certificate of the other end.
func leaf(id types.ID, state *tls.ConnectionState) (*x509.Certificate, error) {
	cert, err := proven(id, state)
	if err == nil && len(state.VerifiedChains) == 0 {
		return nil, ErrNoCertificate
	}
	return cert, err
}

// proven returns the certificate of which the other end has proven to hold the key.
func proven(id types.ID, state *tls.ConnectionState) (*x509.Certificate, error) {
	switch {
	case state == nil || len(state.PeerCertificates) == 0:
		return nil, ErrNoCertificate
	case id == 0:
		return nil, ErrNoID
	}
	return state.PeerCertificates[0], nil
}

// All accepts a connection that every verifier accepts. It needs at least one.
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

// Any accepts a connection that one of the verifiers accepts. It needs at least one.
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
