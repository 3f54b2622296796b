package rafthttp

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.uber.org/zap"

	"github.com/seed-4d73690b/rafthttp/internal/conn"
	"github.com/seed-4d73690b/rafthttp/internal/loglimit"
	"github.com/seed-4d73690b/rafthttp/internal/protocol"
)

const (
	// smoothing is the weight of a new round-trip time (PROTOCOL.md, section 9).
	smoothing = 8
	// maxClockOffset is the clock difference that is warned of (PROTOCOL.md,
	// section 9).
	maxClockOffset = time.Second
)

// probeInterval is the time after which a probe that failed is made again, and
// the least time between two: 4 s by default (PROTOCOL.md, section 9).
func (s *settings) probeInterval() time.Duration { return s.readTimeout * 4 / 5 }

// steadyProbes is how many intervals pass between two probes of a peer that
// answers. Each dials anew, since a connection kept for it would cost three
// goroutines, and stock members close it after 5 s.
const steadyProbes = 7

// beatTogether and probeTogether are about how many peers have a link heartbeat
// written, or are probed, at once. A probe dials, and may cost a TLS handshake.
const (
	beatTogether  = 16
	probeTogether = 4
)

// probeAnswer is the body of a probe's answer (PROTOCOL.md, section 1).
type probeAnswer struct {
	OK  bool
	Now time.Time
}

// probe measures round-trip time and clock difference to one peer.
type probe struct {
	mu      sync.Mutex
	running bool
	skip    int           // intervals until the next
	rtt     time.Duration // smoothed; 0: not measured yet
	offset  time.Duration // the peer's clock minus ours
	within  time.Duration // how far off the peer's clock may be from that
	known   bool          // offset was learned
	warned  bool          // of offset
	warning loglimit.Limiter

	at               time.Time // when it was measured
	probes, failures uint64
}

// status fills in what the probe knows.
func (p *probe) status(st *PeerStatus) {
	p.mu.Lock()
	defer p.mu.Unlock()
	st.RTT, st.ClockOffset, st.ProbedAt, st.Probes, st.ProbeFailures = p.rtt, p.offset, p.at, p.probes, p.failures
}

// failed counts a probe that brought no measurement.
func (p *probe) failed() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.probes++
	p.failures++
}

// begin is called every interval, and reports whether a probe should start: one at
// a time.
func (p *probe) begin() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.skip--
	if p.running || p.skip >= 0 {
		return false
	}
	p.running, p.skip = true, 0
	return true
}

func (p *probe) end() {
	p.mu.Lock()
	p.running = false
	p.mu.Unlock()
}

// measured takes in one measurement.
func (p *probe) measured(rtt, offset time.Duration, log *zap.Logger) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.rtt == 0 {
		p.rtt = rtt
	} else {
		p.rtt += (rtt - p.rtt) / smoothing
	}
	p.learnOffset(offset, rtt/2)
	p.at = time.Now()
	p.probes++
	p.skip = steadyProbes - 1
	bad := p.offset.Abs()-p.within > maxClockOffset
	if bad && !p.warned && p.warning.Due(time.Now()) {
		log.Warn("the clock of the peer differs from ours", zap.Duration("offset", p.offset), zap.Duration("rtt", rtt))
	}
	p.warned = bad
}

// learnOffset takes in a clock offset that is known to within some time: the peer
// may have told its time at any moment of a round trip. One that was answered late
// says little: it is left out unless what is known cannot be true any more. It is
// called with mu held.
func (p *probe) learnOffset(offset, within time.Duration) {
	certain := within // both can be true as long as they are no further apart
	if p.known {
		certain += p.within
	} else {
		p.within = maxClockOffset // with less, the first one says nothing
	}
	apart := (offset/2 - p.offset/2).Abs() // half of it, which does not overflow
	if within <= p.within || apart > certain/2 {
		p.offset, p.within, p.known = offset, within, true
	}
}

// probePeer probes p once. The keeper starts it on a goroutine of the peer.
func (p *peer) probePeer() {
	defer p.probe.end()
	rtt, offset, err := p.measure()
	if err == nil {
		p.probe.measured(rtt, offset, p.member.log)
	} else {
		p.probe.failed()
	}
	if f := p.member.cfg.observer.Probed; f != nil {
		f(p.member.remoteID, rtt, offset, err)
	}
}

func (p *peer) measure() (rtt, offset time.Duration, err error) {
	u := p.member.urls.pick()
	target, err := conn.RequestURL(u, ProbingPrefix)
	if err != nil {
		return 0, 0, err
	}
	c, err := p.member.dialer.Connect(p.member.ctx, u)
	if err != nil {
		p.member.urls.unreachable(u)
		return 0, 0, err
	}
	defer c.Close()
	defer context.AfterFunc(p.member.ctx, func() { c.Close() })()
	start := time.Now()
	if err := c.SetDeadline(start.Add(p.member.cfg.readTimeout)); err != nil {
		return 0, 0, err
	}
	req := &http.Request{Method: http.MethodGet, URL: target, Host: target.Host, Close: true}
	if err := req.Write(c); err != nil {
		return 0, 0, err
	}
	resp, err := http.ReadResponse(bufio.NewReaderSize(&io.LimitedReader{R: c, N: protocol.MaxAnswerBytes}, 1<<10), req)
	if err != nil {
		p.member.urls.unreachable(u)
		return 0, 0, err
	}
	if err := p.member.cfg.conclude(resp, protocol.EndpointProbe); err != nil {
		return 0, 0, err
	}
	var answer probeAnswer
	if err := json.NewDecoder(io.LimitReader(resp.Body, protocol.MaxAnswerBytes)).Decode(&answer); err != nil {
		return 0, 0, fmt.Errorf("probing answer: %w", err)
	}
	if !answer.OK || answer.Now.IsZero() {
		return 0, 0, errors.New("probing answer: the peer is not well")
	}
	rtt = time.Since(start)
	return rtt, answer.Now.Sub(start.Add(rtt / 2)), nil
}

// heartbeat has link heartbeats written to peers. One goroutine does it for all of
// them, as a write to an idle connection does not block; should one of them do,
// those that are due meanwhile get theirs from workers of their own.
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

// turn does what is due for peers.
func (e *engine) turn(beats, probes []*peer) {
	for _, p := range beats {
		p.tick()
	}
	e.heartbeat(beats)
	for _, p := range probes {
		if p.probe.begin() && !p.member.spawn(p.probePeer) {
			p.probe.end()
		}
	}
}

// keep is the one goroutine of a Transport that does what is due regularly:
// link heartbeats, giving back idle memory, probes, dropping unused remotes, and
// checking certificates again. What is due for each peer is spread over its
// interval.
func (e *engine) keep() {
	beats, probes := newRota(e.cfg.heartbeatInterval(), beatTogether), newRota(e.cfg.probeInterval(), probeTogether)
	var known map[types.ID]*peer
	next := time.NewTimer(0)
	defer next.Stop()
	remotes := time.NewTicker(e.cfg.heartbeatInterval())
	defer remotes.Stop()
	var check <-chan time.Time
	if e.rechecks() {
		ticker := time.NewTicker(e.cfg.tlsRecheck)
		defer ticker.Stop()
		check = ticker.C
	}
	for {
		select {
		case <-e.added:
			next.Reset(0)
		case <-next.C:
			peers := e.peerMap()
			e.turn(beats.due(peers, known), probes.due(peers, known))
			known = peers
			next.Reset(min(beats.wait(known), probes.wait(known)))
		case <-remotes.C:
			for _, r := range e.remotes.tick(time.Now()) {
				e.wg.Go(r.member.join)
			}
		case <-check:
			e.startRecheck()
		case <-e.ctx.Done():
			return
		}
	}
}
