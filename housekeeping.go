package rafthttp

import (
	"crypto/tls"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"

	"github.com/seed-4d73690b/rafthttp/internal/conn"
	"github.com/seed-4d73690b/rafthttp/internal/member"
	"github.com/seed-4d73690b/rafthttp/internal/probe"
	"github.com/seed-4d73690b/rafthttp/internal/rota"
)

// beatTogether and probeTogether are about how many peers get a link heartbeat, or
// a probe, at a time. A probe dials, and may cost a TLS handshake.
const (
	beatTogether  = 16
	probeTogether = 4
)

// heartbeat writes link heartbeats to peers. One goroutine writes all of
// them, as a write to an idle connection does not block; if one does,
// workers write the heartbeats that become due meanwhile.
func (e *engine) heartbeat(peers []*peer) {
	if len(peers) == 0 {
		return
	}
	now := e.beating.CompareAndSwap(false, true)
	all := func() {
		for _, p := range peers {
			p.heartbeat(now)
		}
	}
	if !now {
		all()
		return
	}
	if !e.spawn(func() { defer e.beating.Store(false); all() }) {
		e.beating.Store(false)
	}
}

// serveDue writes the heartbeats and starts the probes that are due.
func (e *engine) serveDue(beats, probes []*peer) {
	for _, p := range beats {
		p.tick()
	}
	e.heartbeat(beats)
	for _, p := range probes {
		p.probeIfDue()
	}
}

func (p *peer) probeIfDue() {
	if p.probe.Begin() && !p.member.Spawn(p.probePeer) {
		p.probe.End()
	}
}

// housekeeping is the goroutine of a Transport for periodic work:
// link heartbeats, release of idle memory, probes, removal of unused remotes, and
// rechecks of certificates. The work for each peer is spread over its
// interval.
func (e *engine) housekeeping() {
	beats, probes := rota.New[types.ID, *peer](e.cfg.HeartbeatInterval(), beatTogether), rota.New[types.ID, *peer](e.cfg.ProbeInterval(), probeTogether)
	var known map[types.ID]*peer
	next := time.NewTimer(0)
	defer next.Stop()
	remotes := time.NewTicker(e.cfg.HeartbeatInterval())
	defer remotes.Stop()
	var check <-chan time.Time
	if e.rechecks() {
		ticker := time.NewTicker(e.cfg.TLSRecheck)
		defer ticker.Stop()
		check = ticker.C
	}
	for {
		select {
		case <-e.added:
			next.Reset(0)
		case <-next.C:
			peers := e.peerMap()
			e.serveDue(beats.Due(peers, known), probes.Due(peers, known))
			known = peers
			next.Reset(min(beats.Wait(known), probes.Wait(known)))
		case <-remotes.C:
			e.groups.Tick()
			for _, r := range e.remotes.Tick(time.Now()) {
				e.wg.Go(r.Member.Join)
			}
		case <-check:
			e.startRecheck()
		case <-e.ctx.Done():
			return
		}
	}
}

// probePeer probes p once. Housekeeping starts it on a goroutine of the peer.
func (p *peer) probePeer() {
	defer p.probe.End()
	m := p.member
	target := probe.Target{Dialer: m.Dialer, ClusterID: m.Cfg.Self.ClusterID, Timeout: m.Cfg.ReadTimeout, Conclude: m.Cfg.Conclude, Unreachable: m.URLs.Unreachable}
	rtt, offset, err := target.Measure(m.Ctx, m.URLs.Pick())
	if err == nil {
		if p.probe.Measured(rtt, offset, m.Log) {
			m.Latency.Out.Probed(rtt)
		}
	} else {
		log := m.Log
		if p.activeSince().IsZero() {
			log = nil // its dials say why
		}
		p.probe.Failed(err, member.ClassOf(err), log)
	}
	if f := m.Cfg.Observer.Probed; f != nil {
		f(m.RemoteID, rtt, offset, err)
	}
}

// recheck reads the files of TLSInfo again and revalidates all connections against them and
// VerifyPeer. A revoked connection is closed at once. A connection that is only outdated, since
// one end has another certificate now, is replaced by a new one, and closed if it is still
// open at the next recheck. VerifyPeer, which may be slow, delays only its own member.
func (e *engine) recheck() {
	e.cfg.Files.Reload()
	for _, p := range e.peerMap() {
		p.member.StartRecheck(p.recheck)
	}
	e.groups.Recheck()
	for _, l := range e.remotes.Members() {
		l.StartRecheck(l.RecheckConns)
	}
	unwanted := func(sender types.ID, over *tls.ConnectionState) bool {
		st, _ := e.cfg.Validate(sender, over) // calls the application
		return st >= conn.Outdated
	}
	e.receiving.Cut(e.spawn, unwanted)
	e.groups.CutSnapshots(e.spawn, unwanted)
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
