package rafthttp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"go.uber.org/zap"
)

const (
	// smoothing is the weight of a new round-trip time (protocol: timing).
	smoothing = 8
	// maxClockOffset is the clock difference that is warned of (protocol:
	// timing).
	maxClockOffset = time.Second
)

// probeInterval is how often each peer is probed: 4 s by default (protocol:
// timing).
func (s *settings) probeInterval() time.Duration { return s.readTimeout * 4 / 5 }

// probeAnswer is the body of a probe's answer (protocol: endpoints).
type probeAnswer struct {
	OK  bool
	Now time.Time
}

// probe measures round-trip time and clock difference to one peer.
type probe struct {
	mu      sync.Mutex
	running bool
	rtt     time.Duration // smoothed; 0: not measured yet
	offset  time.Duration // the peer's clock minus ours
	warned  bool          // of offset
	warning quiet

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

// begin reports whether a probe may start: one at a time.
func (p *probe) begin() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running {
		return false
	}
	p.running = true
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
	p.offset, p.at = offset, time.Now()
	p.probes++
	bad := offset.Abs() > maxClockOffset
	if bad && !p.warned && p.warning.due(time.Now()) {
		log.Warn("the clock of the peer differs from ours", zap.Duration("offset", offset), zap.Duration("rtt", rtt))
	}
	p.warned = bad
}

// probePeer probes p once. The keeper starts it on a goroutine of the peer.
func (p *peer) probePeer() {
	defer p.probe.end()
	rtt, offset, err := p.measure()
	if err == nil {
		p.probe.measured(rtt, offset, p.log)
	} else {
		p.probe.failed()
	}
	if f := p.observer.Probed; f != nil {
		f(p.peer, rtt, offset, err)
	}
}

func (p *peer) measure() (rtt, offset time.Duration, err error) {
	ctx, cancel := context.WithTimeout(p.ctx, p.readTimeout)
	defer cancel()
	u := p.urls.pick()
	target, err := requestURL(u, ProbingPrefix)
	if err != nil {
		return 0, 0, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String(), nil)
	if err != nil {
		return 0, 0, err
	}
	start := time.Now()
	resp, err := p.posts.RoundTrip(req)
	if err != nil {
		p.urls.unreachable(u)
		return 0, 0, err
	}
	defer resp.Body.Close()
	if err := answerError(resp, http.StatusOK); err != nil {
		return 0, 0, err
	}
	p.learnExtensions(resp.Header)
	var answer probeAnswer
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswerBytes)).Decode(&answer); err != nil {
		return 0, 0, fmt.Errorf("probing answer: %w", err)
	}
	if !answer.OK || answer.Now.IsZero() {
		return 0, 0, errors.New("probing answer: the peer is not well")
	}
	rtt = time.Since(start)
	return rtt, answer.Now.Sub(start.Add(rtt / 2)), nil
}

// keep is the one goroutine of a Transport that does what is due regularly:
// link heartbeats, giving back idle memory, probes, and dropping unused remotes.
func (e *engine) keep() {
	beat := time.NewTicker(e.heartbeatInterval())
	defer beat.Stop()
	probe := time.NewTicker(e.probeInterval())
	defer probe.Stop()
	for {
		select {
		case <-beat.C:
			for _, p := range e.peerMap() {
				p.tick()
			}
			for _, r := range e.remotes.expire(time.Now()) {
				e.wg.Go(r.join)
			}
		case <-probe.C:
			for _, p := range e.peerMap() {
				if p.probe.begin() && !p.spawn(p.probePeer) {
					p.probe.end()
				}
			}
		case <-e.ctx.Done():
			return
		}
	}
}
