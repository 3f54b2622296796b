package interop_test

import (
	"bytes"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/seed-4d73690b/rafthttp/compat/member"
	"github.com/seed-4d73690b/rafthttp/compat/traffic"
	"github.com/seed-4d73690b/rafthttp/compat/v36/drive"
)

// plainAndTLS runs f for a pairing without and with mutual TLS.
func plainAndTLS(t *testing.T, pairings []pairing, f func(t *testing.T, p pairing, files *drive.TLS)) {
	t.Helper()
	for _, p := range pairings {
		t.Run(p.String()+"/plain", func(t *testing.T) { f(t, p, nil) })
		t.Run(p.String()+"/tls", func(t *testing.T) { f(t, p, certificate(t)) })
	}
}

// TestStreamsCarryEveryMessage: every type and every field, over streams; a MsgSnap given to Send is posted.
func TestStreamsCarryEveryMessage(t *testing.T) {
	plainAndTLS(t, all, func(t *testing.T, p pairing, files *drive.TLS) {
		a, b := connect(t, p, withTLS(files))
		inBothDirections(t, a, b, func(t *testing.T, from, to *end) {
			want := everyMessage(from, to)
			snapshots := 0
			for _, m := range want {
				if m.GetType() == raftpb.MessageType_MsgSnap {
					snapshots++
				}
			}
			before := posts(to)
			for i, m := range want {
				if m.GetType() == raftpb.MessageType_MsgSnap { // ours drops queued appends whose entries an accepted snapshot has
					await(t, to, i)
				}
				from.Send(m)
				if m.GetType() == raftpb.MessageType_MsgSnap { // pipelined ones overtake each other
					eventually(t, to, func(s *member.Seen) bool { return slices.ContainsFunc(s.Messages, same(from, to, m)) })
				}
			}
			requireInOrder(t, from, to, want, await(t, to, len(want)))
			require.Equal(t, snapshots, posts(to)-before, "messages that were posted")
		})
	})
}

// everyMessage returns messages of every type and with every field that the receiver takes.
func everyMessage(from, to *end) []*raftpb.Message {
	all := append(traffic.EveryMessage(from.ID(), to.ID()), traffic.Odd(from.ID(), to.ID())...)
	if to.kind == member.Ours {
		return traffic.TakenByOurs(all)
	}
	return all
}

func same(from, to *end, want *raftpb.Message) func(*raftpb.Message) bool {
	return func(got *raftpb.Message) bool { return alike(from, to, want, got) }
}

// TestPipelineCarriesEveryMessage: while the receiver does not dial, everything is posted; it does not dial while it does not
// have the sender as a peer.
func TestPipelineCarriesEveryMessage(t *testing.T) {
	introduce := map[string]func(from, to *end){
		"peer":   func(from, to *end) { from.AddPeer(to.ID(), to.URL()) },
		"remote": func(from, to *end) { from.AddRemote(to.ID(), to.URL()) },
	}
	plainAndTLS(t, all, func(t *testing.T, p pairing, files *drive.TLS) {
		for as, add := range introduce {
			for _, kinds := range p.directions() {
				t.Run("from-"+string(kinds[0])+"/as-"+as, func(t *testing.T) {
					from, to := start(t, kinds[0], 1, withTLS(files)), start(t, kinds[1], 2, withTLS(files))
					add(from, to)
					want := everyMessage(from, to)
					for i, m := range want {
						from.Send(m)
						got := await(t, to, i+1)
						require.Truef(t, alike(from, to, m, got[i]), "want %v\ngot %v", m, got[i])
					}
					require.Equal(t, len(want), posts(to))
				})
			}
		}
	})
}

// TestUnknownSenderIsAnswered: who posts to a member that does not know it can be answered at once, because the post says
// where its sender listens.
func TestUnknownSenderIsAnswered(t *testing.T) {
	plainAndTLS(t, all, func(t *testing.T, p pairing, files *drive.TLS) {
		for _, kinds := range p.directions() {
			t.Run("from-"+string(kinds[0]), func(t *testing.T) {
				from, to := start(t, kinds[0], 1, withTLS(files)), start(t, kinds[1], 2, withTLS(files))
				from.AddRemote(to.ID(), to.URL())
				from.Send(heartbeat(from, to, 7))
				await(t, to, 1)
				to.Send(heartbeat(to, from, 8))
				require.EqualValues(t, 8, await(t, from, 1)[0].GetCommit())
			})
		}
	})
}

// TestAppendsArriveWhole: what a msgapp v2 stream leaves out of a message that continues the last one, its reader puts back.
func TestAppendsArriveWhole(t *testing.T) {
	plainAndTLS(t, all, func(t *testing.T, p pairing, files *drive.TLS) {
		a, b := connect(t, p, withTLS(files))
		inBothDirections(t, a, b, func(t *testing.T, from, to *end) {
			var want []*raftpb.Message
			for range 3 { // the later rounds do not begin at the start of a stream
				for _, example := range traffic.Appends(from.ID(), to.ID()) {
					want = append(want, example.Message)
				}
			}
			before := posts(to)
			from.Send(want...)
			requireInOrder(t, from, to, want, await(t, to, len(want)))
			require.Equal(t, before, posts(to), "appends were posted")
		})
	})
}

// TestLargeEntries: appends with entries of 2.5 MiB, whole and as continuations.
func TestLargeEntries(t *testing.T) {
	run := func(t *testing.T, p pairing, files *drive.TLS) {
		a, b := connect(t, p, withTLS(files))
		inBothDirections(t, a, b, func(t *testing.T, from, to *end) {
			const size = 5 << 19 // what a length prefix may allocate ahead of the bytes, and more than that before it
			var want []*raftpb.Message
			for i := range uint64(3) {
				m := empty(from, to, 50+i)
				m.Entries = traffic.Entries(3, 51+i, size)
				want = append(want, m)
			}
			from.Send(want...)
			requireInOrder(t, from, to, want, await(t, to, len(want)))
		})
	}
	plainAndTLS(t, mixed[:1], run)
	t.Run(controls[0].String(), func(t *testing.T) { run(t, controls[0], nil) })
	t.Run(mixed[1].String(), func(t *testing.T) { run(t, mixed[1], nil) })
}

// TestContinuationWithOtherFields pins a deviation: a MsgApp that continues the last one, and has a field set that a
// continuation has no place for, is written whole by ours. Upstream writes a continuation, and the field is lost.
func TestContinuationWithOtherFields(t *testing.T) {
	for _, p := range all {
		t.Run(p.String(), func(t *testing.T) {
			a, b := connect(t, p)
			inBothDirections(t, a, b, func(t *testing.T, from, to *end) {
				first, second := empty(from, to, 9), empty(from, to, 9)
				second.Context = []byte("not to be lost")
				from.Send(first, second)
				got := await(t, to, 2)[1]
				if from.kind == member.Ours { // upstream loses it, unless it had to begin its stream anew
					require.Equal(t, second.Context, got.Context)
				}
			})
		})
	}
}

// TestZerosStayZeros: an explicit zero arrives as one at a reader that can tell.
func TestZerosStayZeros(t *testing.T) {
	a, b := connect(t, pairing{member.Ours, member.Stock37})
	inBothDirections(t, a, b, func(t *testing.T, from, to *end) {
		m := heartbeat(from, to, 0)
		m.Context = []byte{}
		from.Send(m)
		got := await(t, to, 1)[0]
		require.NotNil(t, got.Commit)
		sent, err := proto.Marshal(m)
		require.NoError(t, err)
		received, err := proto.Marshal(got)
		require.NoError(t, err)
		require.True(t, bytes.Equal(sent, received))
	})
}
