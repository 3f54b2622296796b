package peerid_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log"
	"net/url"

	"go.etcd.io/etcd/client/pkg/v3/types"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/peerid"
)

// A certificate is good for the member that its URI names, and for no other.
func ExampleSPIFFE() {
	verify, err := peerid.SPIFFE("cluster.example")
	if err != nil {
		log.Fatal(err)
	}
	_ = rafthttp.Transport{VerifyPeer: verify}

	// What a connection of member 26 looks like: its certificate was verified, and says who it is.
	u, err := url.Parse("spiffe://cluster.example/member/1a")
	if err != nil {
		log.Fatal(err)
	}
	cert := &x509.Certificate{URIs: []*url.URL{u}}
	state := &tls.ConnectionState{
		PeerCertificates: []*x509.Certificate{cert},
		VerifiedChains:   [][]*x509.Certificate{{cert}},
	}
	fmt.Println(verify(26, state))
	fmt.Println(errors.Is(verify(27, state), peerid.ErrOtherMember))
	// Output:
	// <nil>
	// true
}

// For the time in which certificates move from a list of hosts to URIs, both will do.
func ExampleAny() {
	byURI, err := peerid.SPIFFE("cluster.example")
	if err != nil {
		log.Fatal(err)
	}
	byHost, err := peerid.Hosts(map[types.ID][]string{1: {"a.example"}, 2: {"b.example"}})
	if err != nil {
		log.Fatal(err)
	}
	verify, err := peerid.Any(byURI, byHost)
	if err != nil {
		log.Fatal(err)
	}
	cert := &x509.Certificate{DNSNames: []string{"b.example"}}
	state := &tls.ConnectionState{
		PeerCertificates: []*x509.Certificate{cert},
		VerifiedChains:   [][]*x509.Certificate{{cert}},
	}
	fmt.Println(verify(2, state))
	// Output: <nil>
}

// No authority is needed where each member knows the keys of the others: a certificate may be self-signed, and be renewed
// for the same key.
func ExamplePublicKeys() {
	cert := &x509.Certificate{RawSubjectPublicKeyInfo: []byte("the key of member 2")}
	pin := peerid.PinOf(cert)
	fmt.Println(pin) // what goes into the configuration of the others: ParsePin reads it

	verify, err := peerid.PublicKeys(map[types.ID][]peerid.Pin{2: {pin}})
	if err != nil {
		log.Fatal(err)
	}
	state := &tls.ConnectionState{PeerCertificates: []*x509.Certificate{cert}}
	fmt.Println(verify(2, state))
	fmt.Println(errors.Is(verify(3, state), peerid.ErrOtherMember))
	// Output:
	// sha256/ELrAEReBxtWHdSpPI0MQRATHFSs3AtWzJWxTkUjbnQ4=
	// <nil>
	// true
}
