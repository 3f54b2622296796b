package protocol

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"
)

// TestVersionIn: an absent version is 2.0, and a malformed one names its header.
func TestVersionIn(t *testing.T) {
	h := http.Header{HeaderVersion: {"3.7.1"}, HeaderMinVersion: {"3.x"}}
	v, err := versionIn(h, HeaderVersion)
	require.NoError(t, err)
	require.Equal(t, Version{3, 7}, v)
	_, err = versionIn(h, HeaderMinVersion)
	require.EqualError(t, err, `header X-Min-Cluster-Version: not a semantic version: "3.x"`)
	v, err = versionIn(http.Header{}, HeaderVersion)
	require.NoError(t, err)
	require.Equal(t, Version{2, 0}, v)
}

// TestCheckID: an id that is absent or another is a mismatch, one that does not parse a bad request.
func TestCheckID(t *testing.T) {
	mismatch := errors.New("mismatch")
	for value, want := range map[string]string{
		"2a": "", "": "mismatch", "2b": "mismatch", "0x2a": `header X-Raft-To: not a hexadecimal id: "0x2a"`,
	} {
		h := http.Header{}
		if value != "" {
			h.Set("X-Raft-To", value)
		}
		err := checkID(h, HeaderRaftTo, 0x2a, mismatch)
		if want == "" {
			require.NoError(t, err, value)
			continue
		}
		require.EqualError(t, err, want, value)
	}
	require.Equal(t, "2a", statedID(http.Header{HeaderFrom: {"2a"}}, HeaderFrom))
	require.Equal(t, "not stated", statedID(http.Header{}, HeaderFrom))
}

// TestSenderAndURLsBothWays: a member is read from a request as it stated itself, and malformed headers are bad requests.
func TestSenderAndURLsBothWays(t *testing.T) {
	m := Member{ID: 0x2a, ClusterID: 1, VersionText: "3.7.0", MinVersionText: "3.0.0"}
	urls := types.MustNewURLs([]string{"http://a:1", "https://b:2"})
	h := m.StreamHeader(urls.String(), 7)
	require.Equal(t, http.Header{
		"X-Server-From": {"2a"}, "X-Server-Version": {"3.7.0"}, "X-Min-Cluster-Version": {"3.0.0"}, "X-Etcd-Cluster-Id": {"1"},
		"X-Raft-To": {"7"}, "X-Peerurls": {"http://a:1,https://b:2"},
	}, h)
	from, err := SenderIn(h)
	require.NoError(t, err)
	require.Equal(t, m.ID, from)
	list, err := PeerURLsIn(h)
	require.NoError(t, err)
	got, err := ParsePeerURLs(list)
	require.NoError(t, err)
	require.Equal(t, urls, got)

	require.NotContains(t, m.RequestHeader(""), HeaderPeerURLs)
	from, err = SenderIn(http.Header{})
	require.NoError(t, err)
	require.Zero(t, from)
	for _, bad := range []string{"0", "x"} {
		_, err = SenderIn(http.Header{HeaderFrom: {bad}})
		require.Error(t, err, bad)
	}
	for _, list := range []string{strings.Repeat(",", MaxPeerURLs), strings.Repeat("x", MaxPeerURLsBytes+1)} {
		_, err = PeerURLsIn(http.Header{HeaderPeerURLs: {list}})
		require.ErrorContains(t, err, "over 8192 bytes or 32 URLs")
	}
	_, err = ParsePeerURLs("not a URL")
	require.Error(t, err)
}

// TestStreamPathBothWays: the path of a stream says which one it is, and whose.
func TestStreamPathBothWays(t *testing.T) {
	for _, at := range []Endpoint{EndpointMessage, EndpointMsgApp} {
		got, client, err := StreamOf(StreamPathOf(at, 0x2a))
		require.NoError(t, err)
		require.Equal(t, at, got)
		require.Equal(t, types.ID(0x2a), client)
	}
	require.Equal(t, "/raft/stream/msgapp/2a", StreamPathOf(EndpointMsgApp, 0x2a))
	for path, want := range map[string]string{"/raft/stream/other/2a": "invalid path", "/raft/stream/message/x": "invalid from"} {
		_, _, err := StreamOf(path)
		require.EqualError(t, err, want, path)
	}
}
