package health_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"

	"github.com/seed-4d73690b/rafthttp/internal/health"
)

var now = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)

func before(d time.Duration) time.Time { return now.Add(-d) }

// well is a peer without problems, which change may change.
func well(change func(*health.Peer)) health.Peer {
	p := health.Peer{
		ID: 2, Active: true, ProbedAt: before(time.Minute),
		Streams: []health.Stream{{Name: "message", Out: true, Up: true}, {Name: "msgapp", Up: true}}, Lanes: []health.Lane{{Name: "control"}},
	}
	change(&p)
	return p
}

// TestRules: each rule at its limit.
func TestRules(t *testing.T) {
	for _, tt := range []struct {
		change func(*health.Peer)
		want   []health.Problem // without the peer
	}{
		{func(*health.Peer) {}, nil},
		{func(p *health.Peer) { p.ClockOffset = -1500 * time.Millisecond }, nil},
		{func(p *health.Peer) { p.ClockOffset, p.ClockApart = -1500*time.Millisecond, true }, []health.Problem{{Severity: health.Warning, Kind: health.Clock, Cause: "its clock is 1.5 s behind"}}},
		{func(p *health.Peer) { p.ClockOffset, p.ClockApart, p.ProbeStale = time.Hour, true, true }, nil},
		{func(p *health.Peer) { p.ProbeError = "refused" }, nil},
		{func(p *health.Peer) {
			p.ProbeError, p.ProbeStale, p.ProbedAt, p.ProbesSince = "refused", true, before(6*time.Minute), before(time.Hour)
		}, []health.Problem{
			{Severity: health.Warning, Kind: health.ProbesFail, Since: before(6 * time.Minute), Cause: "its probes fail: refused"},
		}},
		{func(p *health.Peer) {
			p.ProbeError, p.ProbeStale, p.ProbedAt, p.ProbesSince = "refused", true, before(time.Hour), before(4*time.Minute)
		}, nil},
		{func(p *health.Peer) {
			p.ProbeError, p.ProbeStale, p.ProbedAt, p.ProbesSince = "refused", true, before(time.Hour), before(5*time.Minute)
		}, []health.Problem{
			{Severity: health.Warning, Kind: health.ProbesFail, Since: before(5 * time.Minute), Cause: "its probes fail: refused"},
		}},
		{func(p *health.Peer) { p.CertificateExpires = now.Add(health.Certificate) }, nil},
		{func(p *health.Peer) { p.CertificateExpires = now.Add(48 * time.Hour) }, []health.Problem{
			{Severity: health.Warning, Kind: health.CertificateExpires, Since: before(12 * 24 * time.Hour), Cause: "its certificate expires in 2 days"},
		}},
		{func(p *health.Peer) {
			p.CertificateStarts, p.CertificateExpires = before(16*time.Hour), now.Add(8*time.Hour)
		}, nil},
		{func(p *health.Peer) {
			p.CertificateStarts, p.CertificateExpires = before(17*time.Hour), now.Add(7*time.Hour)
		}, []health.Problem{
			{Severity: health.Warning, Kind: health.CertificateExpires, Since: before(time.Hour), Cause: "its certificate expires in 7 h 0 min"},
		}},
		{func(p *health.Peer) {
			p.CertificateStarts, p.CertificateExpires = before(10*24*time.Hour), now.Add(48*time.Hour)
		}, []health.Problem{
			{Severity: health.Warning, Kind: health.CertificateExpires, Since: before(2 * 24 * time.Hour), Cause: "its certificate expires in 2 days"},
		}},
		{func(p *health.Peer) { p.CertificateExpires = before(time.Hour) }, []health.Problem{
			{Severity: health.Error, Kind: health.CertificateExpired, Since: before(time.Hour), Cause: "its certificate has expired"},
		}},
		{func(p *health.Peer) { p.Lanes[0].Fill = 0.79 }, nil},
		{func(p *health.Peer) { p.Lanes[0].Fill = 0.8 }, []health.Problem{
			{Severity: health.Warning, Kind: health.QueueFull, Lane: "control", Since: now, Cause: "queue control (heartbeats, votes, responses from it) is 80 % full"},
		}},
		{func(p *health.Peer) { p.Lanes[0].Messages, p.Lanes[0].Fill = 1, 1.2 }, nil},
		{func(p *health.Peer) { p.Lanes[0].OldestAge = 2*time.Second - 1 }, nil},
		{func(p *health.Peer) { p.AppendsSlow, p.AppendsSlowSince = "answers appends late", before(time.Second) }, []health.Problem{
			{Severity: health.Warning, Kind: health.AppendsSlow, Since: before(time.Second), Cause: "answers appends late"},
		}},
		{func(p *health.Peer) { p.Streams[0].Up, p.Streams[0].DownSince = false, before(time.Second) }, []health.Problem{
			{Severity: health.Warning, Kind: health.StreamDown, Since: before(time.Second), Cause: "a stream to it is down"},
		}},
		{func(p *health.Peer) { p.Streams[1].Reconnects, p.Streams[1].Since = 3, before(health.FlapPause) }, nil},
		{func(p *health.Peer) { p.Streams[1].Reconnects, p.Streams[1].Since = 2, now }, nil},
		{func(p *health.Peer) {
			p.LastSent = &health.Snapshot{Error: "snapshot 5 to 2 at http://two:1: disk full", Ended: before(health.OldSnapshot - 1)}
		}, []health.Problem{
			{Severity: health.Warning, Kind: health.SnapshotFailed, Since: before(health.OldSnapshot - 1), Cause: "the last snapshot to it failed: disk full"},
		}},
		{func(p *health.Peer) {
			p.LastSent = &health.Snapshot{Error: "disk full", Ended: before(health.OldSnapshot)}
		}, nil},
		{func(p *health.Peer) {
			p.LastSent, p.Sending = &health.Snapshot{Error: "disk full", Ended: before(health.OldSnapshot)}, 1
		}, []health.Problem{
			{Severity: health.Warning, Kind: health.SnapshotFailed, Since: before(health.OldSnapshot), Cause: "the last snapshot to it failed: disk full"},
		}},
	} {
		for i := range tt.want {
			tt.want[i].Peer = 2
		}
		require.Equal(t, tt.want, health.Find(health.Member{Started: true, Now: now, Peers: []health.Peer{well(tt.change)}}))
	}
}

// TestLocalRules: what is about the local member.
func TestLocalRules(t *testing.T) {
	check := func(change func(*health.Member)) []health.Problem {
		m := health.Member{Started: true, Now: now, MaxQueuedBytes: 100}
		change(&m)
		return health.Find(m)
	}
	require.Empty(t, check(func(m *health.Member) { m.QueuedBytes = 79 }))
	require.Equal(t, health.MemoryLimit, check(func(m *health.Member) { m.QueuedBytes = 80 })[0].Kind)
	handshake := health.Handshake{Reason: "expired", Address: "10.0.0.1:5", Error: "x509: expired", Since: before(time.Hour), Last: before(5*time.Minute - 1)}
	require.Equal(t, []health.Problem{{
		Severity: health.Warning, Kind: health.HandshakeFailed, Since: before(time.Hour), Cause: "a TLS handshake with 10.0.0.1:5 failed (expired): x509: expired",
	}}, check(func(m *health.Member) { m.Handshakes = []health.Handshake{handshake, {Reason: "revoked"}} }))
	handshake.Last = before(5 * time.Minute)
	require.Empty(t, check(func(m *health.Member) { m.Handshakes = []health.Handshake{handshake} }))
}

// TestGroupRules: nodes of raft groups are judged as peers are, and are no voters; a problem says that it is about groups.
func TestGroupRules(t *testing.T) {
	found := health.Find(health.Member{
		ID: 1, Started: true, Now: now,
		Peers: []health.Peer{well(func(*health.Peer) {})},
		Nodes: []health.Peer{
			{ID: 2, InactiveSince: before(time.Minute), LastError: "refused"},
			{ID: 3, InactiveSince: before(time.Minute)},
			well(func(p *health.Peer) {
				p.ID, p.Lanes = 4, []health.Lane{{Name: "groupapp", Messages: 9, Fill: 1, OldestAge: time.Second}}
			}),
		},
		Calls: []health.Calls{
			{Kind: "control"}, {Kind: "append", Blocked: 1, Group: 7, For: 5 * time.Second},
			{Kind: "proposal", Blocked: health.ManyCalls, Group: 8, For: time.Minute},
		},
	})
	require.Equal(t, []health.Problem{
		{Severity: health.Error, Kind: health.PeerInactive, Peer: 2, Groups: true, Since: before(time.Minute), Cause: "down: refused"},
		{Severity: health.Error, Kind: health.PeerInactive, Peer: 3, Groups: true, Since: before(time.Minute), Cause: "down: no stream from it delivers, and no POST succeeds"},
		{Severity: health.Error, Kind: health.QueueFull, Peer: 4, Groups: true, Lane: "groupapp", Since: before(time.Second), Cause: "queue groupapp (appends to it) is 100 % full"},
		{
			Severity: health.Error, Kind: health.GroupsBlocked, Groups: true, Lane: "proposal", Since: before(time.Minute),
			Cause: "Process blocks for proposal messages of raft groups: 256 calls, the longest for 1 min 0 s by group 8; those of all other groups wait",
		},
		{
			Severity: health.Warning, Kind: health.GroupsBlocked, Groups: true, Lane: "append", Since: before(5 * time.Second),
			Cause: "Process blocks for append messages of raft groups: 1 call, the longest for 5.0 s by group 7",
		},
	}, found)
}

// TestMajority: of n members, (n-1)/2 may be inactive, and it is gone since the one after them is.
func TestMajority(t *testing.T) {
	for peers := range 8 {
		for inactive := range peers + 1 {
			var all []health.Peer
			for i := range peers {
				all = append(all, health.Peer{ID: types.ID(i + 2), Active: i >= inactive, InactiveSince: before(time.Duration(i+1) * time.Minute)})
			}
			members := peers + 1
			lost := members-inactive <= members/2
			found := health.Find(health.Member{ID: 1, Started: true, Now: now, Peers: all})
			require.Equal(t, lost, len(found) > 0 && found[0].Kind == health.NoMajority, "%d of %d", inactive, members)
			if lost {
				need := members - members/2 // so many inactive ones are too many
				require.Equal(t, before(time.Duration(inactive-need+1)*time.Minute), found[0].Since)
			}
		}
	}
}
