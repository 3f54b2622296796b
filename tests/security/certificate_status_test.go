package security_test

import (
	"context"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
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
