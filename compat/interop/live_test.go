package interop_test

import (
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/compat/member"
)

// pollEvery is how often a condition is asked for that nothing announces.
const pollEvery = 5 * time.Millisecond

// TestUnknownPeerThenAdded: a member that does not know us refuses our streams; once it has us as a peer they come up, both
// ways, without anything being done on our side.
func TestUnknownPeerThenAdded(t *testing.T) {
	for _, p := range all {
		for _, kinds := range p.directions() {
			t.Run(string(kinds[1])+"-does-not-know-"+string(kinds[0]), func(t *testing.T) {
				a, b := start(t, kinds[0], 1), start(t, kinds[1], 2)
				a.AddPeer(b.ID(), b.URL())
				require.Eventually(t, func() bool { // refused, and tried again
					return b.Look(0).Requests["GET /raft/stream/message"] > 2 && b.Look(0).Requests["GET /raft/stream/msgapp"] > 2
				}, patience, pollEvery)
				require.True(t, a.Look(b.ID()).ActiveSince.IsZero())
				b.AddPeer(a.ID(), a.URL())
				awaitStreams(t, a, b)
				a.Recorder.Look(func(s *member.Seen) { require.Empty(t, s.Errors) })
				b.Recorder.Look(func(s *member.Seen) { require.Empty(t, s.Errors) })
			})
		}
	}
}

// TestActive: peers count as active while they are there, and not when they are gone; they come back by themselves.
func TestActive(t *testing.T) {
	for _, p := range all {
		t.Run(p.String(), func(t *testing.T) {
			a, b := connect(t, p)
			active := func(e, peer *end) func() bool {
				return func() bool {
					look := e.Look(peer.ID())
					return look.ActivePeers == 1 && !look.ActiveSince.IsZero()
				}
			}
			require.Eventually(t, active(a, b), patience, pollEvery)
			require.Eventually(t, active(b, a), patience, pollEvery)
			listen := hostOf(t, b.URL())
			b.Stop()
			require.Eventually(t, func() bool {
				a.Send(heartbeat(a, b, 1))
				reported := false
				a.Recorder.Look(func(s *member.Seen) { reported = s.Unreachable[b.ID()] > 0 })
				look := a.Look(b.ID())
				return reported && look.ActivePeers == 0 && look.ActiveSince.IsZero()
			}, patience, pollEvery)

			again := start(t, p.b, 2, func(c *member.Config) { c.Listen = listen })
			again.AddPeer(a.ID(), a.URL())
			awaitStreams(t, a, again)
			require.Eventually(t, active(a, again), patience, pollEvery)
			require.Eventually(t, active(again, a), patience, pollEvery)
		})
	}
}

// TestUpdatePeer: a member that moves to another address is found there, streams and posts.
func TestUpdatePeer(t *testing.T) {
	for _, p := range all {
		for _, kinds := range p.directions() {
			t.Run(string(kinds[1])+"-moves", func(t *testing.T) {
				a, b := connect(t, pairing{kinds[0], kinds[1]})
				b.Stop()
				moved := start(t, kinds[1], 2)
				require.NotEqual(t, b.URL(), moved.URL())
				moved.AddPeer(a.ID(), a.URL())
				a.UpdatePeer(moved.ID(), moved.URL())
				awaitStreams(t, a, moved)
			})
		}
	}
}

// TestCutAndMend: a cut peer gets nothing and is not heard, whichever side cuts; mended, messages flow again. What is
// dropped meanwhile is dropped by upstream without a report.
func TestCutAndMend(t *testing.T) {
	for _, p := range all {
		for _, kinds := range p.directions() {
			t.Run(string(kinds[0])+"-cuts-"+string(kinds[1]), func(t *testing.T) {
				a, b := connect(t, pairing{kinds[0], kinds[1]})
				requireSilence(t, a, b, func() { a.Cut(b.ID()) }, func() { a.Mend(b.ID()) })
			})
		}
	}
}

// TestPauseAndResume: as TestCutAndMend, for all peers at once.
func TestPauseAndResume(t *testing.T) {
	for _, p := range all {
		for _, kinds := range p.directions() {
			t.Run(string(kinds[0])+"-pauses-"+string(kinds[1]), func(t *testing.T) {
				a, b := connect(t, pairing{kinds[0], kinds[1]})
				requireSilence(t, a, b, a.Pause, a.Resume)
			})
		}
	}
}

// requireSilence requires that nothing that is sent between from and until arrives, and that messages flow afterwards.
func requireSilence(t *testing.T, a, b *end, from, until func()) {
	t.Helper()
	from()
	a.Send(heartbeat(a, b, lost), empty(a, b, lost))
	b.Send(heartbeat(b, a, lost), empty(b, a, lost))
	require.Never(t, func() bool { return got(a, lost) || got(b, lost) }, 100*time.Millisecond, pollEvery)
	until()
	requireFlow(t, a, b)
	requireFlow(t, b, a)
	require.False(t, got(a, lost) || got(b, lost))
}

// The commit indexes of messages that must not arrive, and of those that must.
const lost, kept = 666, 777

// requireFlow requires that both kinds of messages arrive, after some tries.
func requireFlow(t *testing.T, from, to *end) {
	t.Helper()
	require.Eventually(t, func() bool {
		from.Send(heartbeat(from, to, kept), empty(from, to, kept))
		return got(to, kept, raftpb.MessageType_MsgHeartbeat) && got(to, kept, raftpb.MessageType_MsgApp)
	}, patience, pollEvery)
}

// got says whether e's raft was told a message with the commit index, of one of the types where any is given.
func got(e *end, commit uint64, types ...raftpb.MessageType) (yes bool) {
	e.Recorder.Look(func(s *member.Seen) {
		yes = slices.ContainsFunc(s.Messages, func(m *raftpb.Message) bool {
			return m.GetCommit() == commit && (len(types) == 0 || slices.Contains(types, m.GetType()))
		})
	})
	return yes
}

// TestRemoveAndAddAgain: a peer that is removed is not active; added again, it is a peer like any other. (It may be sent to
// in between: it still dials, and who dials without being known becomes a remote.)
func TestRemoveAndAddAgain(t *testing.T) {
	for _, p := range all {
		for _, kinds := range p.directions() {
			t.Run(string(kinds[0])+"-removes-"+string(kinds[1]), func(t *testing.T) {
				a, b := connect(t, pairing{kinds[0], kinds[1]})
				a.RemovePeer(b.ID())
				a.RemovePeer(b.ID()) // log replay removes twice
				require.True(t, a.Look(b.ID()).ActiveSince.IsZero())
				require.Zero(t, a.Look(b.ID()).ActivePeers)
				a.AddPeer(b.ID(), b.URL())
				awaitStreams(t, a, b)
			})
		}
	}
}

func hostOf(t *testing.T, rawURL string) string {
	t.Helper()
	u, err := url.Parse(rawURL)
	require.NoError(t, err)
	return u.Host
}
