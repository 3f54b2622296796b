package security_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp/internal/bubble"
	"github.com/seed-4d73690b/rafthttp/internal/testtls"
)

// TestShortCertificatesInTime: members whose certificates are valid for a day, and renewed after half of it, are healthy.
func TestShortCertificatesInTime(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		ca := testtls.NewAuthority(t)
		s, all, _ := testtls.StartAll(t, ca, nil)
		for range 3 {
			for _, m := range all {
				s.Issue(ca, m.ID, 24*time.Hour)
			}
			time.Sleep(time.Minute)
			for _, m := range all {
				require.Empty(t, m.Health().Problems)
			}
			time.Sleep(20 * time.Minute)
		}
	})
}
