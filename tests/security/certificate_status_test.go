package security_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

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
