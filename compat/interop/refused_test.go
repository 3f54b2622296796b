package interop_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/compat/member"
	"github.com/seed-4d73690b/rafthttp/compat/traffic"
	"github.com/seed-4d73690b/rafthttp/compat/v36/drive"
)

// removedText is what comes out of ErrorC when a member learns that it was removed. Programs look for it.
const removedText = "the member has been permanently removed from the cluster"

// TestStrangersStayApart: members that cannot belong together exchange nothing over any lane, report each other
// unreachable, and neither takes it for its own removal.
func TestStrangersStayApart(t *testing.T) {
	cases := map[string]struct {
		pairings []pairing
		change   func(*member.Config) // of the first member
	}{
		"other cluster": {all, func(c *member.Config) { c.Cluster = cluster + 1 }},
		"our version too low for them": {mixed, func(c *member.Config) {
			c.Tune = func(t *rafthttp.Transport) { t.ServerVersion, t.MinClusterVersion = "2.9.0", "2.9.0" }
		}},
		"their version too low for us": {mixed, func(c *member.Config) {
			c.Tune = func(t *rafthttp.Transport) { t.ServerVersion, t.MinClusterVersion = "4.0.0", "4.0.0" }
		}},
	}
	for name, test := range cases {
		for _, p := range test.pairings {
			t.Run(name+"/"+p.String(), func(t *testing.T) {
				t.Parallel()
				a, b := start(t, p.a, 1, test.change), start(t, p.b, 2)
				a.AddPeer(b.ID(), b.URL())
				b.AddPeer(a.ID(), a.URL())
				requireApart(t, a, b)
			})
		}
	}
}

// requireApart sends over all lanes both ways until all was refused.
func requireApart(t *testing.T, a, b *end) {
	t.Helper()
	for _, d := range [][2]*end{{a, b}, {b, a}} {
		from, to := d[0], d[1]
		closed := from.SendSnapshot(traffic.SnapshotMessage(from.ID(), to.ID(), 5, 1), member.Source{Generated: drive.Database{Size: 10}})
		require.False(t, <-closed)
		require.Eventually(t, func() bool {
			from.Send(heartbeat(from, to, lost), empty(from, to, lost))
			reported := false
			from.Recorder.Look(func(s *member.Seen) { reported = s.Unreachable[to.ID()] > 0 })
			dialled := to.Look(0).Requests
			return reported && dialled["GET /raft/stream/message"] > 2 && dialled["GET /raft/stream/msgapp"] > 2
		}, patience, pollEvery)
		require.True(t, from.Look(to.ID()).ActiveSince.IsZero())
		eventually(t, from, func(s *member.Seen) bool {
			return len(s.Snapshots) == 1 && s.Snapshots[0].Status == raft.SnapshotFailure
		})
	}
	for _, e := range []*end{a, b} {
		e.Recorder.Look(func(s *member.Seen) {
			require.Empty(t, s.Messages)
			require.Empty(t, s.Errors)
		})
	}
}

// TestRemovedMemberLearnsIt: a member whose streams are refused because it was removed finds that in its ErrorC.
func TestRemovedMemberLearnsIt(t *testing.T) {
	for _, p := range all {
		for _, kinds := range p.directions() {
			t.Run(string(kinds[0])+"-was-removed-by-"+string(kinds[1]), func(t *testing.T) {
				a, b := start(t, kinds[0], 1), start(t, kinds[1], 2)
				b.MarkRemoved(a.ID())
				a.AddPeer(b.ID(), b.URL())
				requireRemoved(t, a)
			})
		}
	}
}

func requireRemoved(t *testing.T, e *end) {
	t.Helper()
	eventually(t, e, func(s *member.Seen) bool { return len(s.Errors) > 0 })
	e.Recorder.Look(func(s *member.Seen) { require.EqualError(t, s.Errors[0], removedText) })
}

// TestRaftRefuses: what the receiver's raft answers to a post decides what its sender makes of it: a refusal is a failure
// to deliver, an answer of 403 is the sender's removal. Etcd's own errors are the first (their WriteTo has a result).
func TestRaftRefuses(t *testing.T) {
	for _, p := range all {
		for _, kinds := range p.directions() {
			for _, answer := range []drive.Answer{drive.Refuse, drive.Etcd403, drive.Removed} {
				for _, lane := range []string{"pipeline", "snapshot"} {
					t.Run(fmt.Sprintf("from-%s-to-%s/%s/%s", kinds[0], kinds[1], lane, answer), func(t *testing.T) {
						a, b := start(t, kinds[0], 1), start(t, kinds[1], 2)
						b.SetAnswer(answer)
						a.AddRemote(b.ID(), b.URL())
						sendRefused(t, a, b, lane)
						if answer == drive.Removed {
							requireRemoved(t, a)
						} else {
							a.Recorder.Look(func(s *member.Seen) { require.Empty(t, s.Errors) })
						}
					})
				}
			}
		}
	}
}

// sendRefused sends over a lane and waits until the failure is reported.
func sendRefused(t *testing.T, from, to *end, lane string) {
	t.Helper()
	if lane == "pipeline" {
		from.Send(heartbeat(from, to, 1))
		eventually(t, from, func(s *member.Seen) bool { return s.Unreachable[to.ID()] > 0 })
		return
	}
	// Upstream knows no snapshots to remotes.
	from.AddPeer(to.ID(), to.URL())
	closed := from.SendSnapshot(traffic.SnapshotMessage(from.ID(), to.ID(), 5, 1), member.Source{Generated: drive.Database{Size: 10}})
	require.False(t, <-closed)
	eventually(t, from, func(s *member.Seen) bool { return len(s.Snapshots) > 0 })
	from.Recorder.Look(func(s *member.Seen) {
		require.Equal(t, []member.SnapshotReport{{Peer: to.ID(), Status: raft.SnapshotFailure}}, s.Snapshots)
	})
}

// refusingRaft answers every message with an error.
type refusingRaft struct {
	member.Recorder
	err error
}

func (r *refusingRaft) Process(context.Context, *raftpb.Message) error { return r.err }

// TestErrMemberRemoved pins a deviation: an error of raft's that is our ErrMemberRemoved is answered 403, so that a member of
// any make learns of its removal.
func TestErrMemberRemoved(t *testing.T) {
	for _, kind := range []member.Kind{member.Stock37, member.Stock36, member.Ours} {
		for _, lane := range []string{"pipeline", "snapshot"} {
			t.Run(string(kind)+"/"+lane, func(t *testing.T) {
				a := start(t, kind, 1)
				b := start(t, member.Ours, 2, func(c *member.Config) {
					c.Raft = &refusingRaft{err: fmt.Errorf("says the test: %w", rafthttp.ErrMemberRemoved)}
				})
				a.AddRemote(b.ID(), b.URL())
				sendRefused(t, a, b, lane)
				requireRemoved(t, a)
			})
		}
	}
}

// TestWrongAddress pins a deviation: a peer's address at which another member listens. Its streams do not come up; what is
// posted there is for raft to refuse with upstream, and arrives. Ours refuses it, and no sender takes that for its removal.
func TestWrongAddress(t *testing.T) {
	for _, p := range all {
		for _, kinds := range p.directions() {
			t.Run(string(kinds[0])+"-looks-for-a-third-at-"+string(kinds[1]), func(t *testing.T) {
				a, b := start(t, kinds[0], 1), start(t, kinds[1], 2)
				b.AddPeer(a.ID(), a.URL())
				a.AddPeer(3, b.URL())
				require.Eventually(t, func() bool {
					dialled := b.Look(0).Requests
					return dialled["GET /raft/stream/message"] > 2 && dialled["GET /raft/stream/msgapp"] > 2
				}, patience, pollEvery)
				require.True(t, a.Look(3).ActiveSince.IsZero())
				m := heartbeat(a, b, 1)
				m.To = new(uint64(3))
				a.Send(m)
				if b.kind == member.Ours {
					eventually(t, a, func(s *member.Seen) bool { return s.Unreachable[3] > 0 })
					b.Recorder.Look(func(s *member.Seen) { require.Empty(t, s.Messages) })
				} else {
					require.EqualValues(t, 3, await(t, b, 1)[0].GetTo())
				}
				a.Recorder.Look(func(s *member.Seen) { require.Empty(t, s.Errors) })
			})
		}
	}
}

// TestProbing: members of any make measure the time to each other. Nothing tells of a probe but what it measured.
func TestProbing(t *testing.T) {
	for _, p := range mixed {
		t.Run(p.String(), func(t *testing.T) {
			t.Parallel()
			var tr *rafthttp.Transport
			a := start(t, member.Ours, 1, func(c *member.Config) { c.Tune = func(t *rafthttp.Transport) { tr = t } })
			b := start(t, p.b, 2)
			a.AddPeer(b.ID(), b.URL())
			b.AddPeer(a.ID(), a.URL())
			awaitStreams(t, a, b)
			require.Eventually(t, func() bool {
				peers := tr.Status().Peers
				return len(peers) == 1 && peers[0].RTT > 0 && peers[0].RTT < time.Second && peers[0].ClockOffset.Abs() < time.Second
			}, patience, pollEvery)
			require.Eventually(t, func() bool { return a.Look(0).Requests["GET /raft/probing"] > 0 }, patience, pollEvery)
		})
	}
}

// TestSnapshotToNobody pins a deviation: a snapshot for a member that is no peer is closed by every make; ours reports that it
// failed as well, so that raft does not wait for it.
func TestSnapshotToNobody(t *testing.T) {
	for _, kind := range []member.Kind{member.Stock37, member.Stock36, member.Ours} {
		t.Run(string(kind), func(t *testing.T) {
			a := start(t, kind, 1)
			closed := a.SendSnapshot(traffic.SnapshotMessage(1, 7, 5, 1), member.Source{Generated: drive.Database{Size: 10}})
			require.False(t, <-closed)
			if kind == member.Ours {
				eventually(t, a, func(s *member.Seen) bool { return len(s.Snapshots) > 0 })
			}
			a.Stop()
			var want []member.SnapshotReport
			if kind == member.Ours {
				want = []member.SnapshotReport{{Peer: 7, Status: raft.SnapshotFailure}}
			}
			a.Recorder.Look(func(s *member.Seen) { require.Equal(t, want, s.Snapshots) })
		})
	}
}
