package peerid_test

import (
	"crypto/tls"
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/peerid"
)

// A Verifier is what the field takes.
var _ = rafthttp.Transport{VerifyPeer: peerid.Verifier(nil)}

func must(v peerid.Verifier, err error) peerid.Verifier {
	if err != nil {
		panic(err)
	}
	return v
}

func TestNames(t *testing.T) {
	const id = types.ID(0xa1)
	spiffe := must(peerid.SPIFFE("example.org"))
	uri := must(peerid.URI("https://example.org/raft/{id}/peer"))
	dns := must(peerid.DNS("Member-{id}.raft.example.org"))
	bare := must(peerid.DNS("{id}.raft.example.org"))
	tests := []struct {
		name   string
		verify peerid.Verifier
		uris   []string
		dns    []string
		err    error
	}{
		{"SPIFFE", spiffe, []string{"spiffe://example.org/member/a1"}, nil, nil},
		{"SPIFFE of another", spiffe, []string{"spiffe://example.org/member/a2"}, nil, peerid.ErrOtherMember},
		{"SPIFFE of another domain", spiffe, []string{"spiffe://example.com/member/a1"}, nil, peerid.ErrOtherMember},
		{"SPIFFE of a domain below", spiffe, []string{"spiffe://example.org.evil.com/member/a1"}, nil, peerid.ErrOtherMember},
		{"SPIFFE of something else", spiffe, []string{"spiffe://example.org/client/a1"}, nil, peerid.ErrOtherMember},
		{"SPIFFE with leading zeros", spiffe, []string{"spiffe://example.org/member/00a1"}, nil, peerid.ErrOtherMember},
		{"SPIFFE in upper case", spiffe, []string{"spiffe://example.org/member/A1"}, nil, peerid.ErrOtherMember},
		{"SPIFFE, escaped", spiffe, []string{"spiffe://example.org/member/%611"}, nil, peerid.ErrOtherMember},
		{"SPIFFE with a query", spiffe, []string{"spiffe://example.org/member/a1?x"}, nil, peerid.ErrOtherMember},
		{"SPIFFE with a fragment", spiffe, []string{"spiffe://example.org/member/a1#x"}, nil, peerid.ErrOtherMember},
		{"SPIFFE with a user", spiffe, []string{"spiffe://a@example.org/member/a1"}, nil, peerid.ErrOtherMember},
		{"SPIFFE with a port", spiffe, []string{"spiffe://example.org:1/member/a1"}, nil, peerid.ErrOtherMember},
		{"SPIFFE with a path behind", spiffe, []string{"spiffe://example.org/member/a1/x"}, nil, peerid.ErrOtherMember},
		{"another scheme", spiffe, []string{"https://example.org/member/a1"}, nil, peerid.ErrOtherMember},
		{"no URI", spiffe, nil, []string{"spiffe://example.org/member/a1"}, peerid.ErrOtherMember},
		{"two members by SPIFFE", spiffe, []string{"spiffe://example.org/member/a1", "spiffe://example.org/member/a2"}, nil, peerid.ErrAmbiguous},
		{"SPIFFE and another URI", spiffe, []string{"spiffe://example.org/member/a1", "https://example.org/x"}, nil, peerid.ErrAmbiguous},

		{"URI", uri, []string{"https://example.org/raft/a1/peer"}, nil, nil},
		{"URI and others", uri, []string{"https://example.org/x", "https://example.org/raft/a1/peer", "https://example.org/raft/x/peer"}, nil, nil},
		{"URI of two members", uri, []string{"https://example.org/raft/a1/peer", "https://example.org/raft/a2/peer"}, nil, peerid.ErrAmbiguous},
		{"URI of two others", uri, []string{"https://example.org/raft/a3/peer", "https://example.org/raft/a2/peer"}, nil, peerid.ErrAmbiguous},
		{"URI without its end", uri, []string{"https://example.org/raft/a1"}, nil, peerid.ErrOtherMember},

		{"DNS", dns, nil, []string{"member-a1.raft.example.org"}, nil},
		{"DNS in upper case", dns, nil, []string{"MEMBER-A1.raft.example.org"}, nil},
		{"DNS and a host's name", dns, nil, []string{"db1.example.org", "localhost", "member-a1.raft.example.org"}, nil},
		{"DNS of another", dns, nil, []string{"member-a2.raft.example.org"}, peerid.ErrOtherMember},
		{"DNS of two members", dns, nil, []string{"member-a1.raft.example.org", "member-a2.raft.example.org"}, peerid.ErrAmbiguous},
		{"wildcard", dns, nil, []string{"*.raft.example.org"}, peerid.ErrAmbiguous},
		{"wildcard beside the name", dns, nil, []string{"member-a1.raft.example.org", "*.RAFT.example.org"}, peerid.ErrAmbiguous},
		{"wildcard for other names", dns, nil, []string{"member-a1.raft.example.org", "*.example.org"}, nil},
		{"name as a URI", dns, []string{"member-a1.raft.example.org"}, nil, peerid.ErrOtherMember},
		{"id alone, and a host", bare, nil, []string{"a1.raft.example.org", "host1.raft.example.org"}, nil},
		{"id alone, and a host that looks like one", bare, nil, []string{"a1.raft.example.org", "cafe.raft.example.org"}, peerid.ErrAmbiguous},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			require.ErrorIs(t, tc.verify(id, member(t, "a1", tc.uris, tc.dns, nil).state()), tc.err)
		})
	}
}

func TestLists(t *testing.T) {
	one, renewed, two := member(t, "one", nil, nil, nil), member(t, "1", nil, nil, nil), member(t, "two", nil, nil, nil)
	keys := must(peerid.PublicKeys(map[types.ID][]peerid.Pin{1: {peerid.PinOf(one.cert), peerid.PinOf(renewed.cert)}, 2: {peerid.PinOf(two.cert)}}))
	names := must(peerid.CommonNames(map[types.ID][]string{1: {"one", "1"}, 2: {"two"}}))
	hosts := must(peerid.Hosts(map[types.ID][]string{1: {"A.example.org", "10.0.0.1"}, 2: {"b.example.org", "::ffff:10.0.0.2"}, 3: {"2001:DB8::3"}}))
	host := func(dns []string, ips ...string) *holder { return member(t, "one", nil, dns, ips) }
	tests := []struct {
		name   string
		verify peerid.Verifier
		id     types.ID
		cert   *holder
		err    error
	}{
		{"key", keys, 1, one, nil},
		{"next key", keys, 1, renewed, nil},
		{"key of another", keys, 1, two, peerid.ErrOtherMember},
		{"key for another", keys, 2, one, peerid.ErrOtherMember},
		{"key of nobody", keys, 1, member(t, "one", nil, nil, nil), peerid.ErrOtherMember},
		{"key of a member that is not listed", keys, 3, one, peerid.ErrOtherMember},
		{"common name", names, 1, one, nil},
		{"other common name", names, 1, renewed, nil},
		{"common name of another", names, 1, two, peerid.ErrOtherMember},
		{"common name for nobody", names, 3, two, peerid.ErrOtherMember},
		{"no common name", names, 3, member(t, "", nil, nil, nil), peerid.ErrOtherMember},
		{"host", hosts, 1, host([]string{"a.EXAMPLE.org"}), nil},
		{"host among others", hosts, 1, host([]string{"localhost", "a.example.org"}, "127.0.0.1"), nil},
		{"address", hosts, 1, host(nil, "10.0.0.1"), nil},
		{"mapped address", hosts, 2, host(nil, "10.0.0.2"), nil},
		{"address of IPv6", hosts, 3, host(nil, "2001:db8:0::3"), nil},
		{"host of another", hosts, 2, host([]string{"a.example.org"}), peerid.ErrOtherMember},
		{"hosts of two", hosts, 1, host([]string{"a.example.org"}, "10.0.0.2"), peerid.ErrOtherMember},
		{"wildcard", hosts, 1, host([]string{"*.example.org"}), peerid.ErrOtherMember},
		{"no host", hosts, 1, one, peerid.ErrOtherMember},
		{"host of nobody", hosts, 4, host([]string{"a.example.org"}), peerid.ErrOtherMember},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			require.ErrorIs(t, tc.verify(tc.id, tc.cert.state()), tc.err)
		})
	}
}

// TestNothingToLookAt: every Verifier refuses what proves nothing.
func TestNothingToLookAt(t *testing.T) {
	cert := member(t, "1", []string{"spiffe://example.org/member/1"}, []string{"m1.example.org"}, nil)
	zero := member(t, "0", []string{"spiffe://example.org/member/0"}, []string{"m0.example.org"}, nil)
	all := map[string]peerid.Verifier{
		"SPIFFE":      must(peerid.SPIFFE("example.org")),
		"URI":         must(peerid.URI("spiffe://example.org/member/{id}")),
		"DNS":         must(peerid.DNS("m{id}.example.org")),
		"PublicKeys":  must(peerid.PublicKeys(map[types.ID][]peerid.Pin{1: {peerid.PinOf(cert.cert)}})),
		"CommonNames": must(peerid.CommonNames(map[types.ID][]string{1: {"1"}})),
		"Hosts":       must(peerid.Hosts(map[types.ID][]string{1: {"m1.example.org"}})),
	}
	for name, verify := range all {
		t.Run(name, func(t *testing.T) {
			unverified := cert.state()
			unverified.VerifiedChains = nil
			require.NoError(t, verify(1, cert.state()))
			require.ErrorIs(t, verify(1, nil), peerid.ErrNoCertificate)
			require.ErrorIs(t, verify(1, &tls.ConnectionState{}), peerid.ErrNoCertificate)
			require.ErrorIs(t, verify(0, cert.state()), peerid.ErrNoID)
			require.ErrorIs(t, verify(0, zero.state()), peerid.ErrNoID)
			if name == "PublicKeys" {
				require.NoError(t, verify(1, unverified), "the handshake proves the key")
			} else {
				require.ErrorIs(t, verify(1, unverified), peerid.ErrNoCertificate)
			}
		})
	}
}

func TestCombinations(t *testing.T) {
	yes := func(types.ID, *tls.ConnectionState) error { return nil }
	no, never := errors.New("no"), errors.New("never")
	refuse := func(err error) peerid.Verifier {
		return func(types.ID, *tls.ConnectionState) error { return err }
	}
	require.NoError(t, must(peerid.All(yes, yes))(1, nil))
	require.ErrorIs(t, must(peerid.All(yes, refuse(no)))(1, nil), no)
	require.NoError(t, must(peerid.Any(refuse(no), yes))(1, nil))
	err := must(peerid.Any(refuse(no), refuse(never)))(1, nil)
	require.ErrorIs(t, err, no)
	require.ErrorIs(t, err, never)
	verifiers := []peerid.Verifier{yes}
	all := must(peerid.All(verifiers...))
	verifiers[0] = refuse(no)
	require.NoError(t, all(1, nil), "it has copied them")
}

func TestBadArguments(t *testing.T) {
	pin := peerid.Pin{1}
	tests := map[string]func() (peerid.Verifier, error){
		"no trust domain":            func() (peerid.Verifier, error) { return peerid.SPIFFE("") },
		"trust domain in upper case": func() (peerid.Verifier, error) { return peerid.SPIFFE("Example.org") },
		"trust domain with a path":   func() (peerid.Verifier, error) { return peerid.SPIFFE("example.org/x") },
		"URI without id":             func() (peerid.Verifier, error) { return peerid.URI("https://example.org") },
		"URI with two ids":           func() (peerid.Verifier, error) { return peerid.URI("https://{id}/{id}") },
		"URI without scheme":         func() (peerid.Verifier, error) { return peerid.URI("example/{id}") },
		"URI that is written otherwise": func() (peerid.Verifier, error) {
			return peerid.URI("HTTPS://example.org/{id}")
		},
		"id alone":           func() (peerid.Verifier, error) { return peerid.DNS("{id}") },
		"wildcard":           func() (peerid.Verifier, error) { return peerid.DNS("*.{id}.example.org") },
		"DNS with a port":    func() (peerid.Verifier, error) { return peerid.DNS("{id}.example.org:80") },
		"no keys":            func() (peerid.Verifier, error) { return peerid.PublicKeys(nil) },
		"member without key": func() (peerid.Verifier, error) { return peerid.PublicKeys(map[types.ID][]peerid.Pin{1: nil}) },
		"empty key":          func() (peerid.Verifier, error) { return peerid.PublicKeys(map[types.ID][]peerid.Pin{1: {{}}}) },
		"key of member 0":    func() (peerid.Verifier, error) { return peerid.PublicKeys(map[types.ID][]peerid.Pin{0: {pin}}) },
		"key of two": func() (peerid.Verifier, error) {
			return peerid.PublicKeys(map[types.ID][]peerid.Pin{1: {pin}, 2: {pin}})
		},
		"empty common name": func() (peerid.Verifier, error) { return peerid.CommonNames(map[types.ID][]string{1: {""}}) },
		"host of two":       func() (peerid.Verifier, error) { return peerid.Hosts(map[types.ID][]string{1: {"a"}, 2: {"A"}}) },
		"address of two": func() (peerid.Verifier, error) {
			return peerid.Hosts(map[types.ID][]string{1: {"::ffff:10.0.0.1"}, 2: {"10.0.0.1"}})
		},
		"wildcard host":   func() (peerid.Verifier, error) { return peerid.Hosts(map[types.ID][]string{1: {"*.example.org"}}) },
		"all of nothing":  func() (peerid.Verifier, error) { return peerid.All() },
		"any of nothing":  func() (peerid.Verifier, error) { return peerid.Any() },
		"nil in a choice": func() (peerid.Verifier, error) { return peerid.Any(nil) },
	}
	for name, make := range tests {
		t.Run(name, func(t *testing.T) {
			v, err := make()
			require.ErrorContains(t, err, "peerid: ")
			require.Nil(t, v)
		})
	}
}

func TestListsAreCopied(t *testing.T) {
	list := map[types.ID][]string{1: {"one"}}
	names := must(peerid.CommonNames(list))
	list[1][0], list[2] = "two", []string{"two"}
	require.NoError(t, names(1, member(t, "one", nil, nil, nil).state()))
	require.Error(t, names(2, member(t, "two", nil, nil, nil).state()))
}

func TestPins(t *testing.T) {
	cert := member(t, "x", nil, nil, nil)
	pin := peerid.PinOf(cert.cert)
	for _, text := range []string{pin.String(), strings.TrimPrefix(pin.String(), "sha256/")} {
		got, err := peerid.ParsePin(text)
		require.NoError(t, err)
		require.Equal(t, pin, got)
	}
	for _, bad := range []string{"", "sha256/", "sha1/" + pin.String()[7:], pin.String()[:20], pin.String() + "AAAA", strings.Repeat("!", 1000)} {
		_, err := peerid.ParsePin(bad)
		require.Error(t, err, bad)
		require.Less(t, len(err.Error()), 400)
	}
}
