package security_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/bubble"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/internal/testtls"
)

// TestRenewedCertificateIsInStatus: CertificateExpires follows a renewal of the peer's certificate as soon as the peer has
// noticed it itself, and does not wait for the next probe, which may be minutes away.
func TestRenewedCertificateIsInStatus(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		ca := testtls.NewAuthority(t)
		s, all, certs := testtls.StartAll(t, ca, nil)
		time.Sleep(10 * time.Minute)
		require.True(t, certs[1].NotAfter.Equal(testmember.PeerStatus(t, all[0], 2).CertificateExpires))
		for range 3 {
			renewed := s.Issue(ca, 2, 10*time.Hour+time.Since(certs[1].NotBefore))
			require.False(t, certs[1].NotAfter.Equal(renewed.NotAfter))
			time.Sleep(recheck + 2*time.Second)
			for _, m := range []*testmember.Member{all[0], all[2]} {
				require.True(t, renewed.NotAfter.Equal(testmember.PeerStatus(t, m, 2).CertificateExpires), "member %s", m.ID)
			}
			time.Sleep(2 * time.Minute)
		}
	})
}

// TestCertificateOfAFormerAddress: that of the URLs that a peer had before is not in its status, even if the handshake ends later.
func TestCertificateOfAFormerAddress(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var slow atomic.Bool
		_, all, certs := testtls.StartAll(t, testtls.NewAuthority(t), func(tr *rafthttp.Transport) {
			dial := tr.DialContext
			tr.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
				c, err := dial(ctx, network, addr)
				if slow.Load() {
					time.Sleep(3 * time.Second)
				}
				return c, err
			}
		})
		expires := func(want time.Time) {
			t.Helper()
			require.True(t, want.Equal(testmember.PeerStatus(t, all[0], 2).CertificateExpires))
		}
		time.Sleep(time.Minute)
		expires(certs[1].NotAfter)
		slow.Store(true)
		all[0].Send([]*raftpb.Message{testmember.MsgSnap(2, 1, 1)}) // on a new connection
		time.Sleep(time.Second)
		all[0].UpdatePeer(2, []string{"https://nobody:80"})
		expires(time.Time{})
		time.Sleep(time.Minute)
		expires(time.Time{})
		slow.Store(false)
		all[0].UpdatePeer(2, []string{all[1].URL})
		time.Sleep(time.Minute)
		expires(certs[1].NotAfter)
	})
}

// TestSnapshotAtAFormerAddress: an attempt to send a snapshot stays at its URL, which it may dial again after the peer got others.
// What it learns there is not in the status of the peer: neither a certificate, nor that VerifyPeer refuses a new connection, or
// the one in use.
func TestSnapshotAtAFormerAddress(t *testing.T) {
	for name, c := range map[string]struct{ aborts, refuses bool }{
		"certificate": {aborts: true}, "refused dial": {aborts: true, refuses: true}, "refused connection": {refuses: true},
	} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				var refuses atomic.Bool
				ca := testtls.NewAuthority(t)
				s, all, _ := testtls.StartAll(t, ca, func(tr *rafthttp.Transport) {
					tr.Snapshotter = testmember.Saver(func(r io.Reader, _ uint64) (int64, error) { return io.Copy(io.Discard, r) })
					tr.VerifyPeer = func(_ types.ID, over *tls.ConnectionState) error {
						if refuses.Load() && over.PeerCertificates[0].DNSNames[0] == testmember.HostOf(4) {
							refuses.Store(false)
							return errors.New("another member")
						}
						return nil
					}
				})
				a, cert, asked := all[0], s.Issue(ca, 4, 3*time.Hour), make(chan struct{}, 10)
				s.Trust(4, ca)
				s.Revoke(4, ca)
				serveFormer(t, s, func(w http.ResponseWriter, r *http.Request) {
					if c.aborts && r.URL.Path == rafthttp.ProbingPrefix && !r.Close { // not a probe: the first question for a snapshot
						asked <- struct{}{}
						time.Sleep(3 * time.Second)
						panic(http.ErrAbortHandler)
					}
					all[1].Handler().ServeHTTP(w, r)
				})
				a.UpdatePeer(2, []string{"https://" + testmember.HostOf(4) + ":2380"})
				time.Sleep(time.Minute)
				require.True(t, cert.NotAfter.Equal(testmember.PeerStatus(t, a, 2).CertificateExpires))
				db := testmember.Throttled(make([]byte, 1000), 1, time.Second)
				a.SendSnapshot(testmember.NewSnapshot(db, 1000))
				time.Sleep(time.Second)
				a.UpdatePeer(2, []string{"https://nobody:80"})
				refuses.Store(c.refuses)
				for range 120 {
					time.Sleep(500 * time.Millisecond)
					p := testmember.PeerStatus(t, a, 2)
					require.Zero(t, p.CertificateExpires)
					require.Zero(t, p.Refusing)
					require.Zero(t, p.Refused)
				}
				require.False(t, refuses.Load(), "it was refused")
				require.Equal(t, map[bool]uint64{true: 1}[c.refuses], a.Status().Refused.Dials)
				if c.aborts && !c.refuses {
					require.Greater(t, len(asked), 1, "it dialled again")
				}
			})
		})
	}
}

// serveFormer runs a server at the host of member 4.
func serveFormer(t *testing.T, s *testtls.Network, h http.HandlerFunc) {
	t.Helper()
	ln, err := s.Net.Host(testmember.HostOf(4)).Listen("2380")
	require.NoError(t, err)
	info := s.Info(4)
	ln, err = testtls.NewListener(testmember.NewDeadlineListener(ln, testmember.ReadTimeout, testmember.WriteTimeout), &info)
	require.NoError(t, err)
	server, served := &http.Server{Handler: h}, make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(ln)
	}()
	t.Cleanup(func() {
		_ = server.Close()
		<-served
		time.Sleep(5 * time.Second) // of the bubble: requests end
	})
}
