package member

import (
	"crypto/tls"
	"fmt"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.uber.org/zap"

	"github.com/seed-4d73690b/rafthttp/internal/conn"
	"github.com/seed-4d73690b/rafthttp/internal/protocol"
)

// Validate checks a connection with a member against the files of TLSInfo and VerifyPeer.
func (c *Config) Validate(id types.ID, state *tls.ConnectionState) (conn.Validity, error) {
	st, err := c.Files.Validate(state, 2*c.TLSRecheck)
	if st < conn.Revoked && c.VerifyPeer != nil {
		if err := c.VerifyPeer(id, state); err != nil {
			return conn.Revoked, err
		}
	}
	return st, err
}

// StartRecheck runs recheck on a goroutine of the member, unless one is running.
func (m *Member) StartRecheck(recheck func()) {
	if m.checking.CompareAndSwap(false, true) {
		m.Spawn(func() {
			defer m.checking.Store(false)
			recheck()
		})
	}
}

// RecheckConns validates the connections that were dialled to the member.
func (m *Member) RecheckConns() {
	validate := func(state *tls.ConnectionState) (conn.Validity, error) { return m.Cfg.Validate(m.RemoteID, state) }
	cut := func(c *conn.Dialed, cause error) error {
		m.Cutting("to", cause)
		return m.refusedDial(c.RemoteAddr().String(), c.Began, cause)
	}
	if m.Dialer.Revalidate(validate, cut) {
		m.PostClient.CloseIdleConnections()
	}
}

// Cutting logs that a connection is closed because it is no longer accepted.
func (m *Member) Cutting(direction string, cause error) {
	if m.RefusedLog.Due(time.Now()) {
		m.Log.Warn("cut a connection with the peer, which is no longer accepted", zap.String("direction", direction), zap.Error(cause))
	}
}

// verifyDialed calls VerifyPeer for a dialled connection.
func (m *Member) verifyDialed(addr string, state *tls.ConnectionState, began time.Time) error {
	if err := m.Cfg.VerifyPeer(m.RemoteID, state); err != nil {
		return m.refusedDial(addr, began, err)
	}
	return nil
}

// refusedDial counts a connection that VerifyPeer refused, of an attempt that began at that time. One to a former URL says
// nothing of the member.
func (m *Member) refusedDial(addr string, began time.Time, cause error) error {
	if n := (IdentityCounts{Dials: 1}); m.Dialer.IsFormer(began) {
		m.Cfg.AllRefused.Add(n)
	} else {
		m.Refuse(n)
	}
	return fmt.Errorf("%w, or the peer URL leads to another member: %s: %w", protocol.ErrIdentity, addr, cause)
}
