// Package health has the rules by which something is wrong with a member: what Transport.Health, the status page, and the
// metrics say. It looks at a status only, and keeps nothing.
package health

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
)

// When something is a problem.
const (
	OldMessage = 2 * time.Second // as queue.Old
	FullQueue  = 0.8             // of a bound, as queue.Fullness
	// Certificate and CertificatePart are when a certificate should have been renewed, before its end: the lesser of this time and that
	// part of its validity.
	Certificate     = 14 * 24 * time.Hour
	CertificatePart = 3
	// OldSnapshot is how long a failed snapshot matters that no other one followed.
	OldSnapshot = 10 * time.Minute
	// ManyCalls are so many blocked calls of Process for raft groups that no other group is served: the bound of internal/groups.
	ManyCalls = 256
	// OldProbe is how long an active peer has answered no probe when its probes fail.
	OldProbe = 5 * time.Minute
	// OldHandshake is how long a failed handshake does.
	OldHandshake = 5 * time.Minute
	// A stream flaps if it reconnects FlapCount times within FlapWindow, and has not been up for FlapPause since.
	FlapWindow = 2 * time.Minute
	FlapCount  = 3
	FlapPause  = FlapWindow / FlapCount
)

// Severity is how bad a problem is.
type Severity int

// The severities.
const (
	None     Severity = iota
	Warning           // something is not as it should be
	Error             // a part does not work
	Critical          // the member cannot work
)

// Problem is one thing that is wrong.
type Problem struct {
	Severity Severity
	Kind     string    // one of Kinds
	Peer     types.ID  // or node; 0: the local member
	Groups   bool      // it is about raft groups, and Peer is a node of theirs
	Lane     string    // that it is about, or ""
	Since    time.Time // the zero time: not known
	Cause    string    // a line without an end
}

// Member is the state of the local member. The zero value is one that is not started.
type Member struct {
	ID                          types.ID
	Started, Stopped            bool
	Now                         time.Time
	QueuedBytes, MaxQueuedBytes int64
	LocalDrops                  uint64 // messages for local threads, since
	LocalDropsSince             time.Time
	Refused                     Refused // that state no peer
	Handshakes                  []Handshake
	Peers                       []Peer
	Nodes                       []Peer     // of raft groups
	Calls                       []Calls    // of Process for raft groups
	Voters, VotersOutgoing      []types.ID // VotersOutgoing: while the configuration changes; no Voters: not known
}

// Calls are the calls of Process for one kind of messages of raft groups.
type Calls struct {
	Kind    string // the lane
	Blocked int    // those that take too long
	Group   uint64 // with the longest of them
	For     time.Duration
}

// Handshake is what is known of failed TLS handshakes of one reason.
type Handshake struct {
	Reason, Address, Error string
	Since, Last            time.Time
}

// Snapshot is one that has ended.
type Snapshot struct {
	Error string
	Ended time.Time
	Group uint64 // whose it is; 0: none
}

// of names the group, if there is one.
func (s *Snapshot) of() string {
	if s.Group == 0 {
		return ""
	}
	return fmt.Sprintf(", of group %d,", s.Group)
}

// Peer is the state of one peer.
type Peer struct {
	ID                 types.ID
	Active             bool
	InactiveSince      time.Time
	LastError          string
	Streams            []Stream
	Lanes              []Lane
	Refused            Refused
	AppendsSlow        string    // which part of the way of appends is slow, in words; empty: none
	AppendsSlowSince   time.Time // of that
	ProbedAt           time.Time // when a probe was answered last; the zero time: none was at the present URLs
	ProbesSince        time.Time // since when it is active, at its present URLs
	ProbeError         string
	ProbeStale         bool
	ClockOffset        time.Duration
	ClockApart         bool      // by more than what may be the line
	CertificateStarts  time.Time // the zero time: not known
	CertificateExpires time.Time // the zero time: there is none
	Sending, Receiving int       // snapshots under way, to it and from it
	LastSent           *Snapshot // nil: none
	LastReceived       *Snapshot // nil: none
}

// Stream is one stream in one direction.
type Stream struct {
	Name          string
	Out           bool // to the peer
	Up            bool
	DownSince     time.Time
	Since         time.Time // while it is up
	Reconnects    int       // within FlapWindow
	FlappingSince time.Time // the first of them
}

// Lane is one bounded queue.
type Lane struct {
	Name          string
	Messages      int
	Fill          float64 // of the bound that is nearer
	OldestAge     time.Duration
	OldSince      time.Time // since when the oldest one, one after another, has been as old as OldMessage
	FullSince     time.Time // since when it uses FullQueue of the bound; the zero time: not known
	Dropped       uint64    // since DroppingSince
	Reasons       []string
	DroppingSince time.Time // the zero time: nothing is dropped
}

// Find returns what is wrong, the worst first.
func Find(m Member) []Problem {
	c := &check{now: m.Now}
	switch {
	case !m.Started:
		c.add(Critical, NotStarted, time.Time{}, "the transport is not started")
		return c.problems
	case m.Stopped:
		c.add(Critical, Stopped, time.Time{}, "the transport is stopped")
		return c.problems
	}
	c.majority(m)
	for _, p := range m.Peers {
		c.peer = p.ID
		c.ofPeer(p)
	}
	c.groups = true
	for _, n := range m.Nodes {
		c.peer = n.ID
		c.ofPeer(n)
	}
	c.peer = 0
	for _, calls := range m.Calls {
		c.blocked(calls)
	}
	c.groups = false
	c.refused(m.Refused, "clients that are no peers")
	if !m.LocalDropsSince.IsZero() {
		c.add(Warning, LocalMessages, m.LocalDropsSince, "Send drops messages for the member itself or raft's local threads, %s: see SplitMessages",
			perSecond(c.rate(m.LocalDrops, m.LocalDropsSince)))
	}
	for _, h := range m.Handshakes {
		if !h.Last.IsZero() && c.now.Sub(h.Last) < OldHandshake {
			c.add(Warning, HandshakeFailed, h.Since, "a TLS handshake with %s failed (%s): %s", h.Address, h.Reason, ShortCause(h.Error))
		}
	}
	if m.MaxQueuedBytes > 0 && float64(m.QueuedBytes) >= FullQueue*float64(m.MaxQueuedBytes) {
		c.add(Warning, MemoryLimit, time.Time{}, "all queues together hold %.0f %% of MaxQueuedBytes", 100*float64(m.QueuedBytes)/float64(m.MaxQueuedBytes))
	}
	slices.SortStableFunc(c.problems, func(a, b Problem) int { return cmp.Compare(b.Severity, a.Severity) })
	return c.problems
}

// check collects problems.
type check struct {
	now      time.Time
	peer     types.ID
	groups   bool // of what is checked now
	problems []Problem
}

func (c *check) add(s Severity, kind string, since time.Time, format string, args ...any) {
	c.addLane(s, kind, "", since, format, args...)
}

func (c *check) addLane(s Severity, kind, lane string, since time.Time, format string, args ...any) {
	c.problems = append(c.problems, Problem{s, kind, c.peer, c.groups, lane, since, fmt.Sprintf(format, args...)})
}

// majority finds out whether fewer voters than a majority are active, the local member among them if it votes: raft stands still
// then. While nobody has said who votes, all members count.
func (c *check) majority(m Member) {
	peers, all := map[types.ID]Peer{}, []types.ID{m.ID}
	for _, p := range m.Peers {
		peers[p.ID], all = p, append(all, p.ID)
	}
	known := len(m.Voters) > 0
	if !known {
		m.Voters, m.VotersOutgoing = all, nil
	}
	for _, voters := range [][]types.ID{m.Voters, m.VotersOutgoing} {
		var since []time.Time // when voters became inactive, in order
		for _, id := range voters {
			if p := peers[id]; id != m.ID && !p.Active {
				since = append(since, p.InactiveSince)
			}
		}
		tolerated := (len(voters) - 1) / 2 // so many may be lost
		if len(since) <= tolerated {
			continue
		}
		slices.SortFunc(since, time.Time.Compare)
		cause := fmt.Sprintf("%d of %d voters active, no majority", len(voters)-len(since), len(voters))
		if !known {
			cause = fmt.Sprintf("%d of %d peers active, no majority if all of them vote", len(peers)-len(since), len(peers))
		}
		c.add(Critical, NoMajority, since[tolerated], "%s", cause)
		return
	}
}

func (c *check) ofPeer(p Peer) {
	if !p.Active {
		c.add(Error, PeerInactive, p.InactiveSince, "down: %s", cmp.Or(ShortCause(p.LastError), "no stream from it delivers, and no POST succeeds"))
	} else {
		c.down(p.Streams, true, "a stream to it is down")
		c.down(p.Streams, false, "a stream from it is down")
	}
	for _, s := range p.Streams {
		if s.Reconnects >= FlapCount && (!s.Up || c.now.Sub(s.Since) < FlapPause) {
			c.add(Warning, StreamFlaps, s.FlappingSince, "stream %s %s reconnected %d times in %s", s.Name, directionOf(s.Out), s.Reconnects, duration(c.now.Sub(s.FlappingSince)))
		}
	}
	for _, l := range p.Lanes {
		c.lane(l)
	}
	if p.Active && p.AppendsSlow != "" {
		c.add(Warning, AppendsSlow, p.AppendsSlowSince, "%s", p.AppendsSlow)
	}
	if p.Active {
		c.drops(p.Lanes)
	}
	c.refused(p.Refused, "its identity")
	if last := p.LastSent; c.failed(last, p.Sending) {
		c.add(Warning, SnapshotFailed, last.Ended, "the last snapshot to it%s failed: %s", last.of(), ShortCause(last.Error))
	}
	if last := p.LastReceived; c.failed(last, p.Receiving) {
		c.add(Warning, SnapshotFailed, last.Ended, "the last snapshot from it%s failed: %s", last.of(), ShortCause(last.Error))
	}
	if p.Active && p.ProbeStale && p.ProbeError != "" {
		since := p.ProbedAt
		if since.Before(p.ProbesSince) {
			since = p.ProbesSince // those of before were to a peer that was down, or elsewhere
		}
		if c.now.Sub(since) >= OldProbe {
			c.add(Warning, ProbesFail, since, "its probes fail: %s", ShortCause(p.ProbeError))
		}
	}
	if !p.ProbeStale && p.ClockApart {
		c.add(Warning, Clock, time.Time{}, "its clock is %s", offset(p.ClockOffset))
	}
	if at := p.CertificateExpires; !at.IsZero() {
		if left := at.Sub(c.now); left <= 0 {
			c.add(Error, CertificateExpired, at, "its certificate has expired")
		} else if before := renewal(p.CertificateStarts, at); left < before {
			c.add(Warning, CertificateExpires, at.Add(-before), "its certificate expires in %s", duration(left))
		}
	}
}

// renewal returns how long before its end a certificate should have been renewed.
func renewal(starts, expires time.Time) time.Duration {
	if starts.IsZero() {
		return Certificate
	}
	return min(Certificate, expires.Sub(starts)/CertificatePart)
}

// down finds streams in one direction that are down: one problem for both.
func (c *check) down(streams []Stream, out bool, text string) {
	var since time.Time
	for _, s := range streams {
		if !s.Up && s.Out == out && (since.IsZero() || s.DownSince.Before(since)) {
			since = s.DownSince
		}
	}
	if !since.IsZero() {
		c.add(Warning, StreamDown, since, "%s", text)
	}
}

func (c *check) lane(l Lane) {
	since := c.now.Add(-l.OldestAge)
	switch {
	case l.Fill >= FullQueue && l.Messages != 1: // one is taken whatever its size
		severity := Warning
		if l.Fill >= 1 {
			severity = Error
		}
		if !l.FullSince.IsZero() {
			since = l.FullSince
		}
		c.addLane(severity, QueueFull, l.Name, since, "queue %s is %.0f %% full", title(l.Name), 100*l.Fill)
	case l.OldestAge >= OldMessage:
		if !l.OldSince.IsZero() {
			since = l.OldSince
		}
		c.addLane(Warning, QueueOld, l.Name, since, "queue %s has a message that has waited for %s", title(l.Name), duration(l.OldestAge))
	}
}

// blocked finds calls of Process for raft groups that do not return.
func (c *check) blocked(calls Calls) {
	if calls.Blocked == 0 {
		return
	}
	severity, others, plural := Warning, "", "s"
	if calls.Blocked == 1 {
		plural = ""
	}
	if calls.Blocked >= ManyCalls {
		severity, others = Error, "; those of all other groups wait"
	}
	c.addLane(severity, GroupsBlocked, calls.Kind, c.now.Add(-calls.For), "Process blocks for %s messages of raft groups: %d call%s, the longest for %s by group %d%s",
		calls.Kind, calls.Blocked, plural, duration(calls.For), calls.Group, others)
}

// drops finds lanes that drop messages: one problem for all.
func (c *check) drops(lanes []Lane) {
	var rate float64
	var reasons []string
	var since time.Time
	for _, l := range lanes {
		if l.DroppingSince.IsZero() {
			continue
		}
		rate += c.rate(l.Dropped, l.DroppingSince)
		reasons = append(reasons, l.Reasons...)
		if since.IsZero() || l.DroppingSince.Before(since) {
			since = l.DroppingSince
		}
	}
	if since.IsZero() {
		return
	}
	slices.Sort(reasons)
	c.add(Warning, Drops, since, "drops %s: %s", perSecond(rate), strings.ReplaceAll(strings.Join(slices.Compact(reasons), ", "), "_", " "))
}

// failed reports whether the last snapshot failed and that still matters: another one is under way, or was until recently.
func (c *check) failed(last *Snapshot, running int) bool {
	return last != nil && last.Error != "" && (running > 0 || c.now.Sub(last.Ended) < OldSnapshot)
}
