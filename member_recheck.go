package rafthttp

import (
	"crypto/tls"
	"fmt"
	"net"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.uber.org/zap"

	"github.com/seed-4d73690b/rafthttp/internal/conn"
)

// validate checks a connection with a member by the files of TLSInfo and by VerifyPeer.
func (s *settings) validate(id types.ID, state *tls.ConnectionState) (conn.Validity, error) {
	st, err := s.files.Validate(state, 2*s.tlsRecheck)
	if st < conn.Revoked && s.verifyPeer != nil {
		if err := s.verifyPeer(id, state); err != nil {
			return conn.Revoked, err
		}
	}
	return st, err
}

// startRecheck runs recheck on a goroutine of the member, unless one is running.
func (l *member) startRecheck(recheck func()) {
	if l.checking.CompareAndSwap(false, true) {
		l.spawn(func() {
			defer l.checking.Store(false)
			recheck()
		})
	}
}

// recheckConns validates the connections that were dialled to the member.
func (l *member) recheckConns() {
	validate := func(state *tls.ConnectionState) (conn.Validity, error) { return l.cfg.validate(l.remoteID, state) }
	cut := func(c net.Conn, cause error) error {
		l.cutting("to", cause)
		return l.refusedDial(c.RemoteAddr().String(), cause)
	}
	if l.dialer.Revalidate(validate, cut) {
		l.postClient.CloseIdleConnections()
	}
}

func (l *member) cutting(direction string, cause error) {
	if l.refusedLog.Due(time.Now()) {
		l.log.Warn("cut a connection with the peer, which is no longer accepted", zap.String("direction", direction), zap.Error(cause))
	}
}

// verifyDialed asks VerifyPeer about a connection that was dialled.
func (l *member) verifyDialed(addr string, state *tls.ConnectionState) error {
	if err := l.cfg.verifyPeer(l.remoteID, state); err != nil {
		return l.refusedDial(addr, err)
	}
	return nil
}

// refusedDial counts a connection that VerifyPeer refused, and says so.
func (l *member) refusedDial(addr string, cause error) error {
	l.cfg.allRefused.dials.Add(1)
	l.refused.dials.Add(1)
	return fmt.Errorf("%w, or the peer URL leads to another member: %s: %w", ErrIdentity, addr, cause)
}
