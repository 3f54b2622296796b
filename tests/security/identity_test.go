package security_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"math"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/internal/testtls"
	"github.com/seed-4d73690b/rafthttp/peerid"
)

// named returns what a member uses whose certificate names it by SPIFFE.
func named(t *testing.T, a *testtls.Authority, id types.ID) transport.TLSInfo {
	t.Helper()
	a.Sign(t, id.String(), &x509.Certificate{
		URIs:        []*url.URL{{Scheme: "spiffe", Host: "test", Path: "/member/" + id.String()}},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	})
	return transport.TLSInfo{
		CertFile: a.File(id.String() + ".pem"), KeyFile: a.File(id.String() + ".key"),
		TrustedCAFile: a.File("ca.pem"), ClientCertAuth: true,
	}
}

// spiffe has a member verify the others by their certificates.
func spiffe(t *testing.T) func(*rafthttp.Transport) {
	verify, err := peerid.SPIFFE("test")
	require.NoError(t, err)
	return func(tr *rafthttp.Transport) { tr.VerifyPeer = verify }
}

// as does one request with the certificate of a member.
func as(t *testing.T, info transport.TLSInfo, base, method, path string, h http.Header, body []byte) int {
	t.Helper()
	rt, err := rafthttp.NewRoundTripper(info, 0)
	require.NoError(t, err)
	c := &http.Client{Transport: rt}
	defer c.CloseIdleConnections()
	req, err := http.NewRequestWithContext(t.Context(), method, base+path, bytes.NewReader(body))
	require.NoError(t, err)
	req.Header = h
	resp, err := c.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	return resp.StatusCode
}

// TestIdentityOfRequests: what a member may do is decided by its certificate,
// whatever else a request says. The status never is one that stops its sender.
func TestIdentityOfRequests(t *testing.T) {
	ca := testtls.NewAuthority(t)
	two, three := named(t, ca, 2), named(t, ca, 3)
	logs, lines := testmember.Logged(zap.NewAtomicLevelAt(zap.WarnLevel))
	a := testtls.Start(t, "https", 1, named(t, ca, 1), testmember.Tuned(spiffe(t), testmember.Receives(testmember.SavesAll), logs))
	a.AddPeer(2, []string{testmember.RefusingURL})
	from := func(id string) http.Header { return testmember.PeerHeader(map[string]string{"X-Server-From": id}) }
	post := func(m *raftpb.Message) []byte { return testmember.Marshal(t, m) }
	snapshot := func(from types.ID) []byte {
		return []byte(testmember.ReadString(t, testmember.SnapshotBody(t, testmember.MsgSnap(1, from, 7), "db")))
	}
	tests := []struct {
		name, method, path string
		info               transport.TLSInfo
		header             http.Header
		body               []byte
		code               int
		requests, messages uint64 // refused
		taken              int    // by Process
	}{
		{"post", "POST", "/raft", two, from("2"), post(testmember.Heartbeat(1, 2, 1)), 204, 0, 0, 1},
		{"post of another", "POST", "/raft", three, from("2"), post(testmember.Heartbeat(1, 2, 1)), 401, 1, 0, 0},
		{"post of nobody", "POST", "/raft", two, from(""), post(testmember.Heartbeat(1, 2, 1)), 401, 1, 0, 0},
		{"post of a stranger", "POST", "/raft", three, from("3"), post(testmember.Heartbeat(1, 3, 1)), 204, 0, 0, 1},
		{"message of another", "POST", "/raft", three, from("3"), post(testmember.Heartbeat(1, 2, 1)), 401, 0, 1, 0},
		{"message of nobody", "POST", "/raft", two, from("2"), post(&raftpb.Message{Type: raftpb.MsgHeartbeat.Enum()}), 401, 0, 1, 0},
		{"nothing at all", "POST", "/raft", two, from("2"), nil, 401, 0, 1, 0},
		{"leader transfer", "POST", "/raft", two, from("2"), post(&raftpb.Message{Type: raftpb.MsgTransferLeader.Enum(), From: new(uint64(3))}), 204, 0, 0, 1},
		{"snapshot", "POST", "/raft/snapshot", two, from("2"), snapshot(2), 204, 0, 0, 1},
		{"snapshot of another", "POST", "/raft/snapshot", three, from("2"), snapshot(2), 401, 1, 0, 0},
		{"snapshot's message of another", "POST", "/raft/snapshot", three, from("3"), snapshot(2), 401, 0, 1, 0},
		{"stream of another", "GET", "/raft/stream/message/2", three, from("2"), nil, 403, 1, 0, 0},
		{"stream of another, by its path", "GET", "/raft/stream/msgapp/2", three, from(""), nil, 403, 1, 0, 0},
		{"stream of another, by its header", "GET", "/raft/stream/message/2", three, from("3"), nil, 400, 0, 0, 0},
		{"stream of a stranger", "GET", "/raft/stream/message/3", three, from("3"), nil, 404, 0, 0, 0},
		{"question about a snapshot of another", "GET", "/raft/snapshot/offset", three, from("2"), nil, 401, 1, 0, 0},
		{"probe, which says nothing", "GET", "/raft/probing", three, from("2"), nil, 200, 0, 0, 0},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			before, taken := a.Status().Refused, len(a.Recorder.Received())
			code := as(t, tc.info, a.URL, tc.method, tc.path, tc.header, tc.body)
			after := a.Status().Refused
			require.Equal(t, tc.code, code)
			require.Equal(t, tc.requests, after.Requests-before.Requests)
			require.Equal(t, tc.messages, after.Messages-before.Messages)
			require.Len(t, a.Recorder.Received(), taken+tc.taken)
		})
	}
	of := a.Status().Peers[0].Refused
	require.Equal(t, rafthttp.IdentityStatus{Requests: 5, Messages: 2}, of, "said to be of 2")
	for key, n := range perPeerAndStatus(lines) {
		require.Equal(t, 1, n, key)
	}
	require.NotEmpty(t, lines.FilterField(zap.Int("status", 401)).All())
}

// perPeerAndStatus counts log lines about refusals.
func perPeerAndStatus(logs *observer.ObservedLogs) map[string]int {
	n := map[string]int{}
	for _, e := range logs.FilterMessageSnippet("refused a request").All() {
		n[strings.Join([]string{e.ContextMap()["remote-peer-id"].(string), http.StatusText(int(e.ContextMap()["status"].(int64)))}, " ")]++
	}
	return n
}

// TestIdentityOfStreams: a member that turned bad speaks for itself only, and
// what it may say still arrives.
func TestIdentityOfStreams(t *testing.T) {
	of := func(mt raftpb.MessageType, from uint64) *raftpb.Message {
		return &raftpb.Message{Type: mt.Enum(), To: new(uint64(1)), From: new(from)}
	}
	whole := func(m *raftpb.Message) *raftpb.Message { // a continuation of msgapp v2 carries no From
		m.Index = new(m.GetFrom())
		return m
	}
	const storage, apply = math.MaxUint64, math.MaxUint64 - 1
	tests := []struct {
		name            string
		m               *raftpb.Message
		always, refused bool // refused even without VerifyPeer; with it
	}{
		{"its own", of(raftpb.MsgHeartbeat, 2), false, false},
		{"of another", of(raftpb.MsgHeartbeat, 3), false, true},
		{"of ourselves", of(raftpb.MsgAppResp, 1), false, true},
		{"append of another", whole(of(raftpb.MsgApp, 3)), false, true},
		{"vote of another", of(raftpb.MsgVoteResp, 3), false, true},
		{"passed-on proposal", of(raftpb.MsgProp, 3), false, false},
		{"leader transfer", of(raftpb.MsgTransferLeader, 3), false, false},
		{"passed-on read", of(raftpb.MsgReadIndex, 3), false, true},
		{"local type", of(raftpb.MsgHup, 2), false, true},
		{"local type, from nobody", of(raftpb.MsgCheckQuorum, 0), false, true},
		{"word of the storage thread", of(raftpb.MsgStorageAppendResp, storage), true, true},
		{"word of the apply thread", of(raftpb.MsgStorageApplyResp, apply), true, true},
		{"proposal of a local thread", of(raftpb.MsgProp, storage), true, true},
		{"heartbeat of a local thread", of(raftpb.MsgHeartbeat, apply), true, true},
		{"append of a local thread", whole(of(raftpb.MsgApp, apply)), true, true},
	}
	ca := testtls.NewAuthority(t)
	for _, verified := range []bool{false, true} {
		t.Run(map[bool]string{false: "without VerifyPeer", true: "with VerifyPeer"}[verified], func(t *testing.T) {
			var mu sync.Mutex
			var dropped []error
			logs, lines := testmember.Logged(zap.NewAtomicLevelAt(zap.WarnLevel))
			observe := func(tr *rafthttp.Transport) {
				tr.Observer = &rafthttp.Observer{Dropped: func(_ types.ID, _ string, n int, cause error) {
					mu.Lock()
					defer mu.Unlock()
					dropped = append(dropped, slices.Repeat([]error{cause}, n)...)
				}}
			}
			var tune func(*rafthttp.Transport)
			if verified {
				tune = spiffe(t)
			}
			a := testtls.Start(t, "https", 1, named(t, ca, 1), testmember.Tuned(tune, observe, logs))
			b := testtls.Start(t, "https", 2, named(t, ca, 2), tune)
			testmember.Connect(t, a, b)
			want, refused := 0, uint64(0)
			for _, tc := range tests {
				b.Send([]*raftpb.Message{tc.m})
				if verified && tc.refused || tc.always {
					refused++
				} else {
					want++
				}
				testmember.Eventually(t, func() bool {
					return len(a.Recorder.Received()) == want && a.Status().Refused.Messages == refused
				})
			}
			require.Equal(t, rafthttp.IdentityStatus{Messages: refused}, a.Status().Peers[0].Refused)
			require.Zero(t, b.Recorder.Unreachables(1), "the streams went on")
			testmember.Eventually(t, func() bool { // the Observer is told later, of several together
				mu.Lock()
				defer mu.Unlock()
				return len(dropped) >= int(refused)
			})
			mu.Lock()
			defer mu.Unlock()
			require.Len(t, dropped, int(refused))
			for _, cause := range dropped {
				require.ErrorIs(t, cause, rafthttp.ErrIdentity)
			}
			require.Equal(t, 1, lines.FilterMessageSnippet("refused a message").Len())
		})
	}
}

// TestLocalThreadsInPosts: no post and no snapshot speaks for raft's own storage,
// also where nobody is verified.
func TestLocalThreadsInPosts(t *testing.T) {
	a := testmember.Start(t, 1, testmember.Receives(testmember.SavesAll))
	for _, from := range []uint64{raft.LocalAppendThread, raft.LocalApplyThread} {
		m := &raftpb.Message{Type: raftpb.MsgStorageAppendResp.Enum(), To: new(uint64(1)), From: new(from), Index: new(uint64(9)), LogTerm: new(uint64(9))}
		require.Equal(t, 401, testmember.Exchange(t, a.URL, "POST", "/raft", testmember.PeerHeader(nil), bytes.NewReader(testmember.Marshal(t, m))).StatusCode)
		body := testmember.SnapshotBody(t, testmember.MsgSnap(1, types.ID(from), 7), "db")
		require.Equal(t, 401, testmember.Exchange(t, a.URL, "POST", "/raft/snapshot", testmember.PeerHeader(nil), body).StatusCode)
	}
	require.Empty(t, a.Recorder.Received())
	require.EqualValues(t, 4, a.Status().Refused.Messages)
}

// TestIdentityOfDials: a server that is not the member that was dialled is told
// nothing, and a member that was refused for its certificate does not take itself
// for removed.
func TestIdentityOfDials(t *testing.T) {
	ca := testtls.NewAuthority(t)
	removed := make(chan error, 10)
	hears := func(tr *rafthttp.Transport) { tr.ErrorC = removed }
	a := testtls.Start(t, "https", 1, named(t, ca, 1), testmember.Tuned(spiffe(t), hears))
	impostor := testtls.Start(t, "https", 2, named(t, ca, 3), testmember.Tuned(hears, testmember.Receives(testmember.SavesAll)))
	a.AddPeer(2, []string{impostor.URL})
	impostor.AddPeer(1, []string{a.URL})
	for _, m := range []*testmember.Member{a, impostor} {
		other := 3 - m.ID
		m.Send([]*raftpb.Message{testmember.Heartbeat(other, m.ID, 1), testmember.Message(raftpb.MsgSnap, other)})
		snapshot := testmember.SnapshotTo(other)
		m.SendSnapshot(snapshot)
		require.False(t, <-snapshot.CloseNotify())
		testmember.Eventually(t, func() bool { return m.Recorder.Unreachables(uint64(other)) > 0 })
	}
	// Two streams, two posts and a snapshot in each direction.
	testmember.Eventually(t, func() bool { st := a.Status().Refused; return st.Dials >= 5 && st.Requests >= 5 })
	require.Zero(t, a.Status().Peers[0].Refused.Messages)
	require.Empty(t, impostor.Recorder.Received())
	require.Empty(t, a.Recorder.Received())
	require.Empty(t, removed, "nobody was removed")
	require.Contains(t, a.Status().Peers[0].LastError, rafthttp.ErrIdentity.Error())
	require.Zero(t, a.ActivePeers()+impostor.ActivePeers())
}

// A VerifyPeer that lets a requester without an id in is asked again, about the
// member that the message names.
func TestIdentityWithoutAnID(t *testing.T) {
	a := testmember.Start(t, 1, func(tr *rafthttp.Transport) {
		tr.VerifyPeer = func(id types.ID, _ *tls.ConnectionState) error {
			if id == 0 || id == 2 {
				return nil
			}
			return rafthttp.ErrIdentity
		}
	})
	nobody := testmember.PeerHeader(map[string]string{"X-Server-From": ""})
	require.Equal(t, 204, testmember.Exchange(t, a.URL, "POST", "/raft", nobody, bytes.NewReader(testmember.Marshal(t, testmember.Heartbeat(1, 2, 1)))).StatusCode)
	require.Equal(t, 401, testmember.Exchange(t, a.URL, "POST", "/raft", nobody, bytes.NewReader(testmember.Marshal(t, testmember.Heartbeat(1, 3, 1)))).StatusCode)
	require.Equal(t, 403, testmember.Exchange(t, a.URL, "GET", "/raft/stream/message/3", nobody, nil).StatusCode)
	require.Len(t, a.Recorder.Received(), 1)
}
