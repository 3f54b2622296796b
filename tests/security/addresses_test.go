package security_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/internal/testtls"
)

func TestSchemes(t *testing.T) {
	ca := testtls.NewAuthority(t)
	for _, scheme := range []string{"http", "https", "unix", "unixs"} {
		t.Run(scheme, func(t *testing.T) {
			var info [3]transport.TLSInfo
			if scheme == "https" || scheme == "unixs" {
				info[1], info[2] = ca.Member(t, 1), ca.Member(t, 2)
			}
			a, b := testtls.Start(t, scheme, 1, info[1], nil), testtls.Start(t, scheme, 2, info[2], testmember.Receives(testmember.SavesAll))
			testmember.Connect(t, a, b)
			const n = 300
			for i := range uint64(n) {
				a.Send([]*raftpb.Message{testmember.MsgApp(2, 1, i, make([]byte, i*100)), testmember.Heartbeat(2, 1, i)})
				b.Send([]*raftpb.Message{testmember.MsgApp(1, 2, i, make([]byte, i*100)), testmember.Heartbeat(1, 2, i)})
			}
			a.Send([]*raftpb.Message{testmember.Message(raftpb.MsgSnap, 2)}) // by the pipeline
			testmember.Eventually(t, func() bool { return len(a.Recorder.Received()) == 2*n && len(b.Recorder.Received()) == 2*n+1 })
			snapshot := testmember.SnapshotTo(2)
			a.SendSnapshot(snapshot)
			require.True(t, <-snapshot.CloseNotify())
			testmember.Eventually(t, func() bool { return len(a.Recorder.SnapshotReports()) == 2 })
			require.Equal(t, []raft.SnapshotStatus{raft.SnapshotFinish, raft.SnapshotFinish}, a.Recorder.SnapshotReports())
			require.Equal(t, 1, a.ActivePeers())
			require.Zero(t, a.Recorder.Unreachables(2))
		})
	}
}

// TestStrangersAreRefused: a member without a certificate of the authority gets
// nowhere, in either direction.
func TestStrangersAreRefused(t *testing.T) {
	ca, other := testtls.NewAuthority(t), testtls.NewAuthority(t)
	a := testtls.Start(t, "https", 1, ca.Member(t, 1), nil)
	b := testtls.Start(t, "https", 2, other.Member(t, 2), nil)
	a.AddPeer(2, []string{b.URL})
	b.AddPeer(1, []string{a.URL})
	a.Send([]*raftpb.Message{testmember.Heartbeat(2, 1, 1)})
	b.Send([]*raftpb.Message{testmember.Heartbeat(1, 2, 1)})
	testmember.Eventually(t, func() bool { return a.Recorder.Unreachables(2) > 0 && b.Recorder.Unreachables(1) > 0 })
	require.Zero(t, a.ActivePeers()+b.ActivePeers())
	require.Empty(t, a.Recorder.Received())
	require.Empty(t, b.Recorder.Received())
}

// commonName is a VerifyPeer that wants the id as the certificate's common name.
func commonName(id types.ID, state *tls.ConnectionState) error {
	switch {
	case state == nil || len(state.PeerCertificates) == 0:
		return errors.New("no certificate")
	case state.PeerCertificates[0].Subject.CommonName != id.String():
		return fmt.Errorf("certificate of %s", state.PeerCertificates[0].Subject.CommonName)
	}
	return nil
}

func TestVerifyPeer(t *testing.T) {
	verify := func(tr *rafthttp.Transport) { tr.VerifyPeer = commonName }
	ca := testtls.NewAuthority(t)
	one, two, three := ca.Member(t, 1), ca.Member(t, 2), ca.Member(t, 3)
	tests := []struct {
		name         string
		scheme       string
		infoA, infoB transport.TLSInfo
		tuneA, tuneB func(*rafthttp.Transport)
		ok           bool
	}{
		{"both fit", "https", one, two, verify, verify, true},
		{"nobody looks", "https", one, three, nil, nil, true},
		{"the dialler looks", "https", one, three, verify, nil, false},
		{"the server looks", "https", one, three, nil, verify, true},
		{"the server looks at another's", "https", three, two, nil, verify, false},
		{"no certificates, unnoticed", "http", transport.TLSInfo{}, transport.TLSInfo{}, nil, nil, true},
		{"no certificates", "http", transport.TLSInfo{}, transport.TLSInfo{}, verify, nil, false},
		{"no certificates, seen by the server", "http", transport.TLSInfo{}, transport.TLSInfo{}, nil, verify, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a, b := testtls.Start(t, tt.scheme, 1, tt.infoA, tt.tuneA), testtls.Start(t, tt.scheme, 2, tt.infoB, tt.tuneB)
			// b is told by the test, so that all requests are those of a.
			a.AddPeer(2, []string{b.URL})
			a.Send([]*raftpb.Message{testmember.Heartbeat(2, 1, 1)})
			if tt.ok {
				testmember.Eventually(t, func() bool { return len(b.Recorder.Received()) == 1 })
				require.Zero(t, a.Recorder.Unreachables(2))
				return
			}
			testmember.Eventually(t, func() bool { return a.Recorder.Unreachables(2) > 0 })
			require.Empty(t, b.Recorder.Received())
			snapshot := testmember.SnapshotTo(2)
			a.SendSnapshot(snapshot)
			require.False(t, <-snapshot.CloseNotify())
			require.NotEmpty(t, a.Status().Peers[0].LastError)
			require.Zero(t, a.ActivePeers())
		})
	}
}

// TestDialContext: all connections are the hook's, with network and address.
func TestDialContext(t *testing.T) {
	for _, scheme := range []string{"http", "unix"} {
		t.Run(scheme, func(t *testing.T) {
			d := &testmember.Dials{}
			var networks []string
			a := testtls.Start(t, scheme, 1, transport.TLSInfo{}, nil)
			b := testtls.Start(t, scheme, 2, transport.TLSInfo{}, func(tr *rafthttp.Transport) {
				dial := d.Count(testmember.DialLoopback)
				tr.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
					if _, ok := ctx.Deadline(); !ok {
						return nil, errors.New("no deadline")
					}
					conn, err := dial(ctx, network, addr)
					d.Mu.Lock()
					defer d.Mu.Unlock()
					networks = append(networks, network)
					return conn, err
				}
			})
			testmember.Connect(t, a, b)
			b.Send([]*raftpb.Message{testmember.Message(raftpb.MsgSnap, 1)})
			testmember.Eventually(t, func() bool { return len(a.Recorder.Received()) == 1 })
			u, err := url.Parse(a.URL)
			require.NoError(t, err)
			require.GreaterOrEqual(t, d.To(u.Host+u.Path), 3, "two streams and a post")
			want := map[string]string{"http": "tcp", "unix": "unix"}[scheme]
			d.Mu.Lock()
			defer d.Mu.Unlock()
			for _, network := range networks {
				require.Equal(t, want, network)
			}
		})
	}
}

// TestNewRoundTripper: it reaches peer URLs, and tells members apart from others.
func TestNewRoundTripper(t *testing.T) {
	ca := testtls.NewAuthority(t)
	for _, scheme := range []string{"http", "https"} {
		t.Run(scheme, func(t *testing.T) {
			info := ca.Member(t, 1)
			a := testtls.Start(t, scheme, 1, info, nil)
			for name, trusted := range map[string]bool{"of the authority": true, "of another": false} {
				info := info
				if !trusted {
					info = testtls.NewAuthority(t).Member(t, 1)
				}
				rt, err := rafthttp.NewRoundTripper(info, time.Second)
				require.NoError(t, err)
				c := &http.Client{Transport: rt}
				resp, err := c.Get(a.URL + rafthttp.ProbingPrefix)
				if !trusted && scheme == "https" {
					require.Error(t, err, name)
					continue
				}
				require.NoError(t, err, name)
				require.NoError(t, resp.Body.Close())
				require.Equal(t, http.StatusOK, resp.StatusCode)
				c.CloseIdleConnections()
			}
		})
	}
}
