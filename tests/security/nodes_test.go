package security_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/bubble"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/internal/testtls"
)

// TestRenewedCertificateOfANode: the certificate of a node of raft groups is known to be a new one soon after its renewal, as that of a peer.
func TestRenewedCertificateOfANode(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		ca := testtls.NewAuthority(t)
		s, all, _ := testtls.StartAll(t, ca, nil)
		for i, m := range all[:2] {
			g, err := m.Group(7, rafthttp.GroupConfig{Raft: &testmember.Recorder{}})
			require.NoError(t, err)
			o := all[1-i]
			g.AddPeer(o.ID, []string{o.URL})
		}
		time.Sleep(time.Minute)
		require.True(t, all[0].Status().Groups.Nodes[0].Active)
		renewed := s.Issue(ca, 2, 24*time.Hour)
		time.Sleep(5 * time.Minute) // the old one ends in an hour
		require.Equal(t, renewed.NotAfter, all[0].Status().Groups.Nodes[0].CertificateExpires)
	})
}
