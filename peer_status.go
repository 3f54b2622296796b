package rafthttp

import (
	"cmp"
	"slices"
	"time"

	"github.com/seed-4d73690b/rafthttp/internal/member"
	"github.com/seed-4d73690b/rafthttp/internal/probe"
	"github.com/seed-4d73690b/rafthttp/internal/queue"
	"github.com/seed-4d73690b/rafthttp/internal/stream"
)

// status returns the peer's part of Transport.Status.
func (p *peer) status() PeerStatus {
	st := memberStatus(p.member)
	st.URLs = p.urls.List()
	st.Snapshots, st.LastSnapshot = snapshotStatuses(p.snapshots.sender.Status())
	_, st.LastReceived = snapshotStatuses(nil, p.lastReceived.Load())
	m := p.probe.Measurement()
	st.RTT, st.ClockOffset, st.ClockWithin, st.ProbedAt, st.Probes, st.ProbeFailures = m.RTT, m.ClockOffset, m.ClockWithin, m.At, m.Probes, m.Failures
	st.ProbesSince = slices.MaxFunc([]time.Time{st.ActiveSince, m.Since}, time.Time.Compare)
	old := time.Since(cmp.Or(m.At, st.ProbesSince)) > max(5*time.Minute, 2*probe.Steady*p.member.Cfg.ProbeInterval())
	st.ProbeStale = st.Active && old || !st.Active && !m.At.IsZero()
	st.SnapshotRetryAt = p.member.SnapshotsHeldUntil()
	if m.Cause != nil {
		st.ProbeError = m.Cause.Error()
	}
	for _, w := range p.writers {
		s := streamStatus(w.Kind, StreamOut, w.State())
		s.TCP = tcpStatus(w.SendState())
		st.Streams = append(st.Streams, s)
		st.addSent(laneStatus(w.Queue))
	}
	for _, r := range p.readers {
		s := streamStatus(r.Kind, StreamIn, r.State())
		st.Streams = append(st.Streams, s)
		st.ReceivedBytes += s.Bytes
	}
	st.addSent(pipelineStatus(p.pipeline))
	for _, r := range p.receivers {
		l := laneStatus(r.Queue)
		st.Lanes = append(st.Lanes, l)
		st.ReceiveFailures += l.Dropped
	}
	st.SentBytes += p.member.Counters.SentSnapshots.Load()
	st.SendFailures += p.member.Counters.FailedSnapshots.Load()
	st.ReceivedBytes += p.member.Counters.Posted.Load() + p.member.Counters.GotSnapshots.Load()
	st.ReceiveFailures += p.member.Counters.BadPosts.Load()
	return st
}

// memberStatus returns what is known of a member, or of a node of groups, beside its streams and queues.
func memberStatus(m *member.Member) PeerStatus {
	st := PeerStatus{ID: m.RemoteID}
	st.Refused, st.Refusing, st.RefusingSince = identityStatus(&m.Refused)
	a := m.Activity.State()
	st.Active, st.ActiveSince, st.InactiveSince, st.Disconnects = !a.Since.IsZero(), a.Since, a.Until, a.Ends
	if a.Last != nil {
		st.LastError, st.LastErrorAt = a.Last.Error(), a.LastAt
	}
	if v := m.Version.Load(); v != nil {
		st.Version, st.VersionStale = *v, !st.Active
	}
	st.CertificateStarts, st.CertificateExpires = m.Dialer.Certificate()
	return st
}

// addSent adds a lane to the peer.
func (st *PeerStatus) addSent(l LaneStatus) {
	st.Lanes = append(st.Lanes, l)
	st.SentBytes += l.Bytes
	st.SendFailures += l.Dropped
}

// laneStatus returns a queue's part of Transport.Status.
func laneStatus(l *queue.Queue) LaneStatus {
	st := l.Status()
	return LaneStatus{
		Name: st.Name, Up: st.Open,
		Queued: st.Queued, QueuedBytes: st.QueuedBytes, Capacity: st.Capacity, CapacityBytes: st.CapacityBytes, OldestAge: st.OldestAge, OldSince: st.OldSince, FullSince: st.FullSince,
		Messages: st.Messages, Bytes: st.Bytes, Batches: st.Batches, BusyTime: st.BusyTime,
		Duplicates: st.Duplicates, Dropped: st.Dropped.Total(), Drops: Drops(st.Dropped.Named()),
		DroppingSince: st.Dropping.Since, Dropping: Drops(st.Dropping.Drops.Named()),
	}
}

func streamStatus(kind stream.Kind, direction string, st stream.State) StreamStatus {
	return StreamStatus{
		Name: kind.String(), Direction: direction, Up: !st.Since.IsZero(), Since: st.Since,
		Connects: st.Connects, DialFailures: st.DialFailures, Bytes: st.Bytes,
		DownSince: st.DownSince, Reconnects: st.Reconnects, ReconnectsSince: st.ReconnectsSince,
	}
}
