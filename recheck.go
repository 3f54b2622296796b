package rafthttp

import (
	"crypto/tls"

	"go.etcd.io/etcd/client/pkg/v3/types"

	"github.com/seed-4d73690b/rafthttp/internal/conn"
)

// recheck reads the files of TLSInfo again and revalidates all connections against them and
// VerifyPeer. A revoked connection is closed at once. A connection that is only outdated, since
// one end has another certificate now, is replaced by a new one, and closed if it is still
// open at the next recheck. VerifyPeer, which may be slow, delays only its own member.
func (e *engine) recheck() {
	e.cfg.Files.Reload()
	for _, p := range e.peerMap() {
		p.member.StartRecheck(p.recheck)
	}
	for _, l := range e.remotes.members() {
		l.StartRecheck(l.RecheckConns)
	}
	e.receiving.Cut(e.spawn, func(sender types.ID, over *tls.ConnectionState) bool {
		st, _ := e.cfg.Validate(sender, over) // calls the application
		return st >= conn.Outdated
	})
}

// recheck checks all connections with the peer except those of its snapshots to us.
func (p *peer) recheck() {
	p.member.RecheckConns()
	for _, r := range p.readers {
		if r.IsOutdated() {
			r.Renew()
		}
	}
	for _, w := range p.writers {
		w.Recheck()
	}
}

// rechecks reports whether anything must be rechecked: TLS or
// VerifyPeer is configured.
func (e *engine) rechecks() bool {
	return e.cfg.VerifyPeer != nil || e.cfg.Files.Change()
}

// startRecheck runs recheck, which reads files, on a separate goroutine.
func (e *engine) startRecheck() {
	if !e.checking.CompareAndSwap(false, true) {
		return
	}
	if !e.spawn(func() { defer e.checking.Store(false); e.recheck() }) {
		e.checking.Store(false)
	}
}
