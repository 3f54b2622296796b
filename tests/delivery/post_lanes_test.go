package delivery_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/memnet"
)

// known are the ways in which a member may be known to the one that it posts to.
var known = map[string]func(m *rafthttp.Transport, h http.Header){
	"peer":     func(m *rafthttp.Transport, _ http.Header) { m.AddPeer(2, []string{testmember.RefusingURL}) },
	"remote":   func(m *rafthttp.Transport, _ http.Header) { m.AddRemote(2, []string{testmember.RefusingURL}) },
	"learned":  func(_ *rafthttp.Transport, h http.Header) { h.Set("X-PeerURLs", testmember.RefusingURL) },
	"stranger": func(*rafthttp.Transport, http.Header) {},
	"nobody":   func(_ *rafthttp.Transport, h http.Header) { h.Del("X-Server-From") },
}

// TestPostsByKind: posts of one kind from one member come to Process one after
// another, and hold up neither those of another kind nor those of another member,
// whether the member is a peer or not. The message of a snapshot is an append.
func TestPostsByKind(t *testing.T) {
	for who, introduce := range known {
		for kind := range testmember.OfEachKind() {
			t.Run(who+"/"+kind, func(t *testing.T) {
				testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
					held := testmember.OfEachKind()[kind].GetType()
					h := testmember.NewHoldingRaft(func(m *raftpb.Message) bool {
						return m.GetFrom() == 2 && (m.GetType() == held || kind == "append" && m.GetType() == raftpb.MsgSnap)
					})
					a, posts := testmember.OnHolding(t, n, h, nil)
					of2, of3 := testmember.PeerHeader(nil), testmember.PeerHeader(map[string]string{"X-Server-From": "3"})
					introduce(a.Transport, of2)
					for range 10 {
						posts.Post(of2, testmember.OfEachKind()[kind])
					}
					waiting := 10
					if kind == "append" {
						posts.Send("/raft/snapshot", of2, testmember.SnapshotBody(t, testmember.MsgSnap(1, 2, 7), "db"))
						waiting++
					}
					calls, running := h.Begun()
					require.Equal(t, []int{1, 1}, []int{calls, running}, "one after another")

					free := &testmember.Posts{T: t, M: a.Transport, Codes: make(chan int)}
					for other, m := range testmember.OfEachKind() {
						if other != kind {
							free.Post(of2, m)
						}
						m := testmember.OfEachKind()[other]
						m.From = new(uint64(3))
						free.Post(of3, m)
					}
					start := time.Now()
					require.Equal(t, map[int]int{204: 5}, free.All())
					require.Zero(t, time.Since(start))

					close(h.Release)
					require.Equal(t, map[int]int{204: waiting}, posts.All())
					calls, _ = h.Begun()
					require.Equal(t, waiting+5, calls)
				})
			})
		}
	}
}

// TestPostsAndStreamsByKind: what a stream brings and what is posted go through the
// same lanes.
func TestPostsAndStreamsByKind(t *testing.T) {
	streams := map[string]string{"control": "message", "append": "msgapp", "proposal": "message"}
	for kind, first := range testmember.OfEachKind() {
		t.Run(kind, func(t *testing.T) {
			testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
				h := testmember.NewHoldingRaft(func(m *raftpb.Message) bool { return m.GetType() == first.GetType() || m.GetType() == raftpb.MsgSnap })
				a, posts := testmember.OnHolding(t, n, h, nil)
				say := testmember.StartTalker(t, n, 2)
				a.AddPeer(2, []string{testmember.URLOf(2)})
				say(streams[kind], first)
				synctest.Wait()
				posts.Post(testmember.PeerHeader(nil), testmember.OfEachKind()[kind])
				if kind == "append" {
					posts.Send("/raft/snapshot", testmember.PeerHeader(nil), testmember.SnapshotBody(t, testmember.MsgSnap(1, 2, 7), "db"))
				}
				say(streams[kind], testmember.OfEachKind()[kind])
				synctest.Wait()
				calls, running := h.Begun()
				require.Equal(t, []int{1, 1}, []int{calls, running})
				require.Equal(t, posts.N+2, testmember.LaneOf(a, 2, kind).Queued)
				want := map[int]int{204: posts.N}
				close(h.Release)
				require.Equal(t, want, posts.All())
				synctest.Wait()
				require.EqualValues(t, want[204]+2, testmember.LaneOf(a, 2, kind).Messages)
				require.Zero(t, testmember.LaneOf(a, 2, kind).Dropped)
			})
		})
	}
}

// TestPostsThatWait: a post that waits for its turn has exactly one answer, whatever
// happens meanwhile, and what was answered with an error is not processed later.
func TestPostsThatWait(t *testing.T) {
	ends := map[string]struct {
		end  func(a *testmember.Member)
		want func(who string) map[int]int // of 10, the first of which Process has
	}{
		"Stop":       {func(a *testmember.Member) { a.Stop() }, func(string) map[int]int { return map[int]int{500: 1, 503: 9} }},
		"RemovePeer": {func(a *testmember.Member) { a.RemovePeer(2) }, func(who string) map[int]int { return map[int]int{500: 10} }},
		"too long":   {func(*testmember.Member) { time.Sleep(11 * time.Second) }, func(string) map[int]int { return map[int]int{500: 10} }},
		"AddPeer":    {func(a *testmember.Member) { a.AddPeer(2, []string{testmember.RefusingURL}) }, func(string) map[int]int { return map[int]int{500: 10} }},
	}
	for end, tc := range ends {
		for who, introduce := range known {
			t.Run(end+"/"+who, func(t *testing.T) {
				testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
					h := testmember.NewHoldingRaft(func(m *raftpb.Message) bool { return true })
					a, posts := testmember.OnHolding(t, n, h, nil)
					header := testmember.PeerHeader(nil)
					introduce(a.Transport, header)
					for range 10 {
						posts.Post(header, testmember.OfEachKind()["proposal"])
					}
					start := time.Now()
					tc.end(a)
					require.Equal(t, tc.want(who), posts.All())
					switch {
					case end == "Stop", end == "RemovePeer" && who == "peer":
						require.Zero(t, time.Since(start))
					default: // the lanes are not the peer's, and each post has its time
						require.LessOrEqual(t, time.Since(start), 11*time.Second)
					}
					before, _ := h.Begun()
					if end == "Stop" || end == "RemovePeer" && who == "peer" {
						require.Equal(t, 1, before)
					}
					time.Sleep(time.Minute)
					calls, running := h.Begun()
					require.Zero(t, running)
					require.Equal(t, before, calls, "what was answered is not processed later")
				})
			})
		}
	}
}

// TestPostsThatWaitAreServed: who becomes a peer, or is no longer known, does not lose
// what it has posted.
func TestPostsThatWaitAreServed(t *testing.T) {
	for who, introduce := range known {
		t.Run(who, func(t *testing.T) {
			testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
				h := testmember.NewHoldingRaft(func(*raftpb.Message) bool { return true })
				a, posts := testmember.OnHolding(t, n, h, nil)
				header := testmember.PeerHeader(nil)
				introduce(a.Transport, header)
				for range 10 {
					posts.Post(header, testmember.OfEachKind()["proposal"])
				}
				a.AddPeer(2, []string{testmember.RefusingURL})
				close(h.Release)
				require.Equal(t, map[int]int{204: 10}, posts.All())
			})
		})
	}
}

// TestFullLaneAndPosts: a post finds no room where a message of a stream finds none.
// An append waits for it as long as Process moves.
func TestFullLaneAndPosts(t *testing.T) {
	for kind := range testmember.OfEachKind() {
		t.Run(kind, func(t *testing.T) {
			testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
				h := testmember.NewHoldingRaft(func(*raftpb.Message) bool { return true })
				a, posts := testmember.OnHolding(t, n, h, func(tr *rafthttp.Transport) { tr.ReceiveQueueMessages = 4 })
				a.AddPeer(2, []string{testmember.RefusingURL})
				for range 6 {
					posts.Post(testmember.PeerHeader(nil), testmember.OfEachKind()[kind])
				}
				if kind == "append" {
					close(h.Release)
					require.Equal(t, map[int]int{204: 6}, posts.All())
					return
				}
				refused := &testmember.Posts{T: t, M: a.Transport, Codes: posts.Codes, N: 2}
				require.Equal(t, map[int]int{503: 2}, refused.All())
				require.EqualValues(t, 2, testmember.LaneOf(a, 2, kind).Drops.QueueFull)
				close(h.Release)
				posts.N -= 2
				require.Equal(t, map[int]int{204: 4}, posts.All())
			})
		})
	}
}

// TestLanesOfStrangers: members that are no peers cost lanes only while they post,
// and others than theirs are not held up.
func TestLanesOfStrangers(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		const strangers = 120 // of 128
		h := testmember.NewHoldingRaft(func(m *raftpb.Message) bool { return m.GetFrom() != 2 })
		a, posts := testmember.OnHolding(t, n, h, nil)
		a.AddPeer(2, []string{testmember.RefusingURL})
		for i := range types.ID(strangers) {
			id := 1000 + i
			posts.Post(testmember.PeerHeader(map[string]string{"X-Server-From": id.String()}), testmember.Heartbeat(1, id, 1))
		}
		calls, running := h.Begun()
		require.Equal(t, []int{strangers, strangers}, []int{calls, running})
		peer := &testmember.Posts{T: t, M: a.Transport, Codes: make(chan int)}
		peer.Post(testmember.PeerHeader(nil), testmember.Heartbeat(1, 2, 1))
		require.Equal(t, map[int]int{204: 1}, peer.All())
		close(h.Release)
		require.Equal(t, map[int]int{204: strangers}, posts.All())
		synctest.Wait()
		require.LessOrEqual(t, receiveWorkers(), 1, "that of the peer")
		require.Empty(t, a.Status().Remotes)
	})
}

// receiveWorkers returns how many goroutines work for receive lanes, or wait to.
func receiveWorkers() int {
	stacks := make([]byte, 8<<20)
	return strings.Count(string(stacks[:runtime.Stack(stacks, true)]), "receive.(*Receiver).work(")
}

// TestVoteBehindPostedProposals: a vote is processed at once however many proposals
// were posted before it and wait for a leader.
func TestVoteBehindPostedProposals(t *testing.T) {
	for _, proposals := range []int{0, 4, 40} {
		t.Run(fmt.Sprint(proposals), func(t *testing.T) {
			testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
				h := testmember.NewHoldingRaft(func(m *raftpb.Message) bool { return m.GetType() == raftpb.MsgProp })
				b := testmember.StartSimulated(t, n, 2, nil)
				a, _ := testmember.OnHolding(t, n, h, func(tr *rafthttp.Transport) {
					tr.DialContext = func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("no way") }
				})
				a.AddPeer(2, []string{b.URL})
				b.AddPeer(1, []string{a.URL})
				time.Sleep(time.Second)
				for range proposals {
					b.Send([]*raftpb.Message{testmember.OfEachKind()["proposal"]})
				}
				synctest.Wait()
				before, _ := h.Begun()
				start := time.Now()
				vote := testmember.OfEachKind()["control"]
				vote.Type = raftpb.MsgVote.Enum()
				b.Send([]*raftpb.Message{vote})
				synctest.Wait()
				after, _ := h.Begun()
				require.Equal(t, before+1, after)
				require.Zero(t, time.Since(start))
				close(h.Release)
				time.Sleep(time.Second)
				calls, _ := h.Begun()
				require.Equal(t, proposals+1, calls, "nothing is lost")
				require.Zero(t, testmember.LaneOf(b, 1, "pipeline").Dropped)
			})
		})
	}
}

// TestVoteBesideTooManyPosts: what a member may have under way is bounded for each
// kind, so that a vote is taken whatever else it posts.
func TestVoteBesideTooManyPosts(t *testing.T) {
	for who, introduce := range known {
		t.Run(who, func(t *testing.T) {
			testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
				h := testmember.NewHoldingRaft(func(m *raftpb.Message) bool { return m.GetType() != raftpb.MsgHeartbeat })
				a, posts := testmember.OnHolding(t, n, h, nil)
				header := testmember.PeerHeader(nil)
				introduce(a.Transport, header)
				for range 40 {
					posts.Post(header, testmember.OfEachKind()["proposal"])
					posts.Post(header, testmember.OfEachKind()["append"])
				}
				refused := &testmember.Posts{T: t, M: a.Transport, Codes: posts.Codes, N: 2 * (40 - 16)}
				require.Equal(t, map[int]int{503: refused.N}, refused.All())
				vote := &testmember.Posts{T: t, M: a.Transport, Codes: make(chan int)}
				for range 40 {
					vote.Post(header, testmember.OfEachKind()["control"])
					require.Equal(t, map[int]int{204: 1}, vote.All())
				}
				close(h.Release)
				posts.N = 2 * 16
				require.Equal(t, map[int]int{204: 2 * 16}, posts.All())
			})
		})
	}
}
