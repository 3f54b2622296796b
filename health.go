package rafthttp

import (
	"context"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"

	"github.com/seed-4d73690b/rafthttp/internal/health"
	"github.com/seed-4d73690b/rafthttp/internal/probe"
	"github.com/seed-4d73690b/rafthttp/internal/protocol"
)

// Health is what is wrong with a member, as far as its transport knows: a value, safe to
// keep and to marshal as JSON.
type Health struct {
	// Severity is that of the worst problem; SeverityNone without one.
	Severity Severity `json:"severity"`
	// Problems, the worst first.
	Problems []Problem `json:"problems"`
}

// Severity is how bad a problem is. A higher one is worse.
type Severity int

// The severities.
const (
	SeverityNone     = Severity(health.None)     // all is well
	SeverityWarning  = Severity(health.Warning)  // something is not as it should be
	SeverityError    = Severity(health.Error)    // a part does not work: a peer is inactive, its certificate has expired, a queue is full
	SeverityCritical = Severity(health.Critical) // the member cannot work: no majority is active, or the transport does not run
)

// String returns "ok", "warning", "error" or "critical".
func (s Severity) String() string { return [...]string{"ok", "warning", "error", "critical"}[s] }

// MarshalText implements encoding.TextMarshaler.
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Problem is one thing that is wrong.
type Problem struct {
	Severity Severity `json:"severity"`
	// Kind is one of those in docs/operating.md, "Health", such as "peer_inactive".
	Kind string `json:"kind"`
	// Peer is the peer with the problem, or the node; 0: the local member.
	Peer types.ID `json:"peer,omitempty"`
	// Groups says that it is about raft groups: Peer is a node of theirs, also if a peer has the same id.
	Groups bool `json:"groups,omitempty"`
	// Lane is the lane that it is about (LaneStatus.Name); empty: none.
	Lane string `json:"lane,omitempty"`
	// Since is when it began; the zero time if that is not known.
	Since time.Time `json:"since,omitzero"`
	// Cause is one line for people. Parts of it may come from other members.
	Cause string `json:"cause"`
	// Anchor is the section of docs/operating.md that says what to do.
	Anchor string `json:"anchor"`
}

// Health returns what is wrong: Status().Health(). It does not block on I/O and may be
// called at any time; before Start and after Stop it is critical.
func (t *Transport) Health() Health { return t.Status().Health() }

// Health returns what is wrong, by the rules that docs/operating.md lists. The status page
// and the metrics have the same.
func (st Status) Health() (h Health) {
	m := health.Member{
		ID: st.ID, Voters: st.Voters, VotersOutgoing: st.VotersOutgoing, Started: st.ID != 0, Stopped: st.Stopped, Now: st.Time, QueuedBytes: st.QueuedBytes, MaxQueuedBytes: st.MaxQueuedBytes,
	}
	receiving := map[types.ID]int{}
	for _, s := range st.Receiving {
		receiving[s.Peer]++
	}
	for _, s := range st.Handshakes {
		m.Handshakes = append(m.Handshakes, health.Handshake{Reason: s.Reason, Address: s.LastAddress, Error: s.LastError, Since: s.Since, Last: s.LastAt})
	}
	m.Refused = health.Refused{Since: st.RefusingSince, Counts: health.Counts(st.Refusing)}
	m.LocalDrops, m.LocalDropsSince = st.Dropping.Local, st.DroppingSince
	for _, p := range st.Peers {
		m.Peers = append(m.Peers, p.health(receiving[p.ID]))
	}
	if g := st.Groups; g != nil {
		for _, n := range g.Nodes {
			m.Nodes = append(m.Nodes, n.health(len(n.GroupSnapshots.Receiving)))
		}
		for _, p := range g.Processing {
			m.Calls = append(m.Calls, health.Calls{Kind: p.Name, Blocked: p.Blocked, Group: p.BlockedGroup, For: p.BlockedFor})
		}
	}
	h.Problems = []Problem{}
	for _, p := range health.Find(m) {
		severity := Severity(p.Severity)
		h.Severity = max(h.Severity, severity)
		h.Problems = append(h.Problems, Problem{severity, p.Kind, p.Peer, p.Groups, p.Lane, p.Since, p.Cause, health.Kinds[p.Kind]})
	}
	return h
}

// health returns what Health looks at.
func (st *PeerStatus) health(receiving int) health.Peer {
	p := health.Peer{
		ID: st.ID, Active: st.Active, InactiveSince: st.InactiveSince, LastError: st.LastError,
		ProbedAt: st.ProbedAt, ProbesSince: st.ProbesSince, ProbeError: st.ProbeError, ProbeStale: st.ProbeStale, ClockOffset: st.ClockOffset, ClockApart: probe.ClocksDiffer(st.ClockOffset, st.ClockWithin),
		CertificateStarts: st.CertificateStarts, CertificateExpires: st.CertificateExpires, Sending: len(st.Snapshots), LastSent: st.LastSnapshot.ended(),
		Receiving: receiving, LastReceived: st.LastReceived.ended(),
	}
	p.Refused = health.Refused{Since: st.RefusingSince, Counts: health.Counts(st.Refusing)}
	if s := st.Appends.Slow; s != nil {
		p.AppendsSlow, p.AppendsSlowSince = s.Text, s.Since
	}
	for _, s := range st.Streams {
		p.Streams = append(p.Streams, health.Stream{
			Name: s.Name, Out: s.Direction == StreamOut, Up: s.Up, Since: s.Since, DownSince: s.DownSince,
			Reconnects: s.Reconnects, FlappingSince: s.ReconnectsSince,
		})
	}
	for _, l := range st.Lanes {
		p.Lanes = append(p.Lanes, health.Lane{
			Name: l.Name, Messages: l.Queued, Fill: l.fill(), OldestAge: l.OldestAge, OldSince: l.OldSince, FullSince: l.FullSince,
			Dropped: l.Dropping.Total(), DroppingSince: l.DroppingSince, Reasons: health.Reasons(l.Dropping.All()),
		})
	}
	return p
}

// ended returns how the transfer ended, or nil if there is none.
func (s *SnapshotStatus) ended() *health.Snapshot {
	if s == nil {
		return nil
	}
	return &health.Snapshot{Error: s.Error, Ended: s.Ended, Group: s.Group}
}

// WaitActive waits until at least n peers are active, for the start of a server and for
// tests: half of the peers, rounded up, are a majority with the local member if all vote. It
// returns the cause of ctx if that ends before, ErrStopped if the transport does, and an
// error at once before Start.
func (t *Transport) WaitActive(ctx context.Context, n int) error {
	e := t.engine.Load()
	if e == nil {
		return protocol.ErrNotStarted
	}
	return e.changed.Wait(ctx, e.ctx, func() bool { return t.ActivePeers() >= n })
}
