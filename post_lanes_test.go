package rafthttp_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/memnet"
)

// holdingRaft is a Raft whose Process holds messages until they are let go.
type holdingRaft struct {
	recorder
	hold func(m *raftpb.Message) bool

	mu      sync.Mutex
	calls   []*raftpb.Message // those that have begun
	running int
	release chan struct{}
}

func newHoldingRaft(hold func(m *raftpb.Message) bool) *holdingRaft {
	return &holdingRaft{hold: hold, release: make(chan struct{})}
}

func (h *holdingRaft) Process(ctx context.Context, m *raftpb.Message) error {
	h.mu.Lock()
	h.calls = append(h.calls, m)
	h.running++
	h.mu.Unlock()
	defer func() {
		*m = raftpb.Message{} // it is raft's, which may do with it what it likes
		h.mu.Lock()
		h.running--
		h.mu.Unlock()
	}()
	if !h.hold(m) {
		return nil
	}
	select {
	case <-h.release:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// begun returns how many messages Process has had, and how many it has.
func (h *holdingRaft) begun() (calls, running int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.calls), h.running
}

// known are the ways in which a member may be known to the one that it posts to.
var known = map[string]func(m *rafthttp.Transport, h http.Header){
	"peer":     func(m *rafthttp.Transport, _ http.Header) { m.AddPeer(2, []string{refuse}) },
	"remote":   func(m *rafthttp.Transport, _ http.Header) { m.AddRemote(2, []string{refuse}) },
	"learned":  func(_ *rafthttp.Transport, h http.Header) { h.Set("X-PeerURLs", refuse) },
	"stranger": func(*rafthttp.Transport, http.Header) {},
	"nobody":   func(_ *rafthttp.Transport, h http.Header) { h.Del("X-Server-From") },
}

// posting are requests that are under way.
type posting struct {
	t     *testing.T
	m     *rafthttp.Transport
	codes chan int
	n     int
}

func (p *posting) post(h http.Header, m *raftpb.Message) {
	p.send("/raft", h, postOf(p.t, m))
}

func (p *posting) send(path string, h http.Header, body io.Reader) {
	p.n++
	go func() { p.codes <- ask(p.t, p.m, "POST", path, h, body).Code }()
	synctest.Wait()
}

// all returns how many answers there were, by status, once each has its own.
func (p *posting) all() map[int]int {
	n := map[int]int{}
	for range p.n {
		n[<-p.codes]++
	}
	p.n = 0
	return n
}

// onHolding starts member 1 with a Raft that holds messages.
func onHolding(t *testing.T, n *memnet.Network, h *holdingRaft, tune func(*rafthttp.Transport)) (*member, *posting) {
	t.Helper()
	a := startSimulated(t, n, 1, tuned(receives(savesAll), func(tr *rafthttp.Transport) { tr.Raft = h }, tune))
	return a, &posting{t: t, m: a.Transport, codes: make(chan int)}
}

// ofEachKind are messages of member 2 to member 1.
func ofEachKind() map[string]*raftpb.Message {
	return map[string]*raftpb.Message{
		"control": heartbeat(1, 2, 1), "append": msgApp(1, 2, 1, nil),
		"proposal": {Type: raftpb.MsgProp.Enum(), To: new(uint64(1)), From: new(uint64(2))},
	}
}

// TestPostsByKind: posts of one kind from one member come to Process one after
// another, and hold up neither those of another kind nor those of another member,
// whether the member is a peer or not. The message of a snapshot is an append.
func TestPostsByKind(t *testing.T) {
	for who, introduce := range known {
		for kind := range ofEachKind() {
			t.Run(who+"/"+kind, func(t *testing.T) {
				simulate(t, func(t *testing.T, n *memnet.Network) {
					held := ofEachKind()[kind].GetType()
					h := newHoldingRaft(func(m *raftpb.Message) bool {
						return m.GetFrom() == 2 && (m.GetType() == held || kind == "append" && m.GetType() == raftpb.MsgSnap)
					})
					a, posts := onHolding(t, n, h, nil)
					of2, of3 := peerHeader(nil), peerHeader(map[string]string{"X-Server-From": "3"})
					introduce(a.Transport, of2)
					for range 10 {
						posts.post(of2, ofEachKind()[kind])
					}
					waiting := 10
					if kind == "append" {
						posts.send("/raft/snapshot", of2, snapshotBody(t, msgSnap(1, 2, 7), "db"))
						waiting++
					}
					calls, running := h.begun()
					require.Equal(t, []int{1, 1}, []int{calls, running}, "one after another")

					free := &posting{t: t, m: a.Transport, codes: make(chan int)}
					for other, m := range ofEachKind() {
						if other != kind {
							free.post(of2, m)
						}
						m := ofEachKind()[other]
						m.From = new(uint64(3))
						free.post(of3, m)
					}
					start := time.Now()
					require.Equal(t, map[int]int{204: 5}, free.all())
					require.Zero(t, time.Since(start))

					close(h.release)
					require.Equal(t, map[int]int{204: waiting}, posts.all())
					calls, _ = h.begun()
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
	for kind, first := range ofEachKind() {
		t.Run(kind, func(t *testing.T) {
			simulate(t, func(t *testing.T, n *memnet.Network) {
				h := newHoldingRaft(func(m *raftpb.Message) bool { return m.GetType() == first.GetType() || m.GetType() == raftpb.MsgSnap })
				a, posts := onHolding(t, n, h, nil)
				say := startTalker(t, n, 2)
				a.AddPeer(2, []string{urlOf(2)})
				say(streams[kind], first)
				synctest.Wait()
				posts.post(peerHeader(nil), ofEachKind()[kind])
				if kind == "append" {
					posts.send("/raft/snapshot", peerHeader(nil), snapshotBody(t, msgSnap(1, 2, 7), "db"))
				}
				say(streams[kind], ofEachKind()[kind])
				synctest.Wait()
				calls, running := h.begun()
				require.Equal(t, []int{1, 1}, []int{calls, running})
				require.Equal(t, posts.n+2, laneOf(a, 2, kind).Queued)
				want := map[int]int{204: posts.n}
				close(h.release)
				require.Equal(t, want, posts.all())
				synctest.Wait()
				require.EqualValues(t, want[204]+2, laneOf(a, 2, kind).Messages)
				require.Zero(t, laneOf(a, 2, kind).Dropped)
			})
		})
	}
}

// TestPostsThatWait: a post that waits for its turn has exactly one answer, whatever
// happens meanwhile, and what was answered with an error is not processed later.
func TestPostsThatWait(t *testing.T) {
	ends := map[string]struct {
		end  func(a *member)
		want func(who string) map[int]int // of 10, the first of which Process has
	}{
		"Stop":       {func(a *member) { a.Stop() }, func(string) map[int]int { return map[int]int{500: 1, 503: 9} }},
		"RemovePeer": {func(a *member) { a.RemovePeer(2) }, func(who string) map[int]int { return map[int]int{500: 10} }},
		"too long":   {func(*member) { time.Sleep(11 * time.Second) }, func(string) map[int]int { return map[int]int{500: 10} }},
		"AddPeer":    {func(a *member) { a.AddPeer(2, []string{refuse}) }, func(string) map[int]int { return map[int]int{500: 10} }},
	}
	for end, tc := range ends {
		for who, introduce := range known {
			t.Run(end+"/"+who, func(t *testing.T) {
				simulate(t, func(t *testing.T, n *memnet.Network) {
					h := newHoldingRaft(func(m *raftpb.Message) bool { return true })
					a, posts := onHolding(t, n, h, nil)
					header := peerHeader(nil)
					introduce(a.Transport, header)
					for range 10 {
						posts.post(header, ofEachKind()["proposal"])
					}
					start := time.Now()
					tc.end(a)
					require.Equal(t, tc.want(who), posts.all())
					switch {
					case end == "Stop", end == "RemovePeer" && who == "peer":
						require.Zero(t, time.Since(start))
					default: // the lanes are not the peer's, and each post has its time
						require.LessOrEqual(t, time.Since(start), 11*time.Second)
					}
					before, _ := h.begun()
					if end == "Stop" || end == "RemovePeer" && who == "peer" {
						require.Equal(t, 1, before)
					}
					time.Sleep(time.Minute)
					calls, running := h.begun()
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
			simulate(t, func(t *testing.T, n *memnet.Network) {
				h := newHoldingRaft(func(*raftpb.Message) bool { return true })
				a, posts := onHolding(t, n, h, nil)
				header := peerHeader(nil)
				introduce(a.Transport, header)
				for range 10 {
					posts.post(header, ofEachKind()["proposal"])
				}
				a.AddPeer(2, []string{refuse})
				close(h.release)
				require.Equal(t, map[int]int{204: 10}, posts.all())
			})
		})
	}
}

// TestFullLaneAndPosts: a post finds no room where a message of a stream finds none.
// An append waits for it as long as Process moves.
func TestFullLaneAndPosts(t *testing.T) {
	for kind := range ofEachKind() {
		t.Run(kind, func(t *testing.T) {
			simulate(t, func(t *testing.T, n *memnet.Network) {
				h := newHoldingRaft(func(*raftpb.Message) bool { return true })
				a, posts := onHolding(t, n, h, func(tr *rafthttp.Transport) { tr.ReceiveQueueMessages = 4 })
				a.AddPeer(2, []string{refuse})
				for range 6 {
					posts.post(peerHeader(nil), ofEachKind()[kind])
				}
				if kind == "append" {
					close(h.release)
					require.Equal(t, map[int]int{204: 6}, posts.all())
					return
				}
				refused := &posting{t: t, m: a.Transport, codes: posts.codes, n: 2}
				require.Equal(t, map[int]int{503: 2}, refused.all())
				require.EqualValues(t, 2, laneOf(a, 2, kind).Drops.QueueFull)
				close(h.release)
				posts.n -= 2
				require.Equal(t, map[int]int{204: 4}, posts.all())
			})
		})
	}
}

// TestLanesOfStrangers: members that are no peers cost lanes only while they post,
// and others than theirs are not held up.
func TestLanesOfStrangers(t *testing.T) {
	simulate(t, func(t *testing.T, n *memnet.Network) {
		const strangers = 120 // of 128
		h := newHoldingRaft(func(m *raftpb.Message) bool { return m.GetFrom() != 2 })
		a, posts := onHolding(t, n, h, nil)
		a.AddPeer(2, []string{refuse})
		for i := range types.ID(strangers) {
			id := 1000 + i
			posts.post(peerHeader(map[string]string{"X-Server-From": id.String()}), heartbeat(1, id, 1))
		}
		calls, running := h.begun()
		require.Equal(t, []int{strangers, strangers}, []int{calls, running})
		peer := &posting{t: t, m: a.Transport, codes: make(chan int)}
		peer.post(peerHeader(nil), heartbeat(1, 2, 1))
		require.Equal(t, map[int]int{204: 1}, peer.all())
		close(h.release)
		require.Equal(t, map[int]int{204: strangers}, posts.all())
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
			simulate(t, func(t *testing.T, n *memnet.Network) {
				h := newHoldingRaft(func(m *raftpb.Message) bool { return m.GetType() == raftpb.MsgProp })
				b := startSimulated(t, n, 2, nil)
				a, _ := onHolding(t, n, h, func(tr *rafthttp.Transport) {
					tr.DialContext = func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("no way") }
				})
				a.AddPeer(2, []string{b.url})
				b.AddPeer(1, []string{a.url})
				time.Sleep(time.Second)
				for range proposals {
					b.Send([]*raftpb.Message{ofEachKind()["proposal"]})
				}
				synctest.Wait()
				before, _ := h.begun()
				start := time.Now()
				vote := ofEachKind()["control"]
				vote.Type = raftpb.MsgVote.Enum()
				b.Send([]*raftpb.Message{vote})
				synctest.Wait()
				after, _ := h.begun()
				require.Equal(t, before+1, after)
				require.Zero(t, time.Since(start))
				close(h.release)
				time.Sleep(time.Second)
				calls, _ := h.begun()
				require.Equal(t, proposals+1, calls, "nothing is lost")
				require.Zero(t, laneOf(b, 1, "pipeline").Dropped)
			})
		})
	}
}

// TestVoteBesideTooManyPosts: what a member may have under way is bounded for each
// kind, so that a vote is taken whatever else it posts.
func TestVoteBesideTooManyPosts(t *testing.T) {
	for who, introduce := range known {
		t.Run(who, func(t *testing.T) {
			simulate(t, func(t *testing.T, n *memnet.Network) {
				h := newHoldingRaft(func(m *raftpb.Message) bool { return m.GetType() != raftpb.MsgHeartbeat })
				a, posts := onHolding(t, n, h, nil)
				header := peerHeader(nil)
				introduce(a.Transport, header)
				for range 40 {
					posts.post(header, ofEachKind()["proposal"])
					posts.post(header, ofEachKind()["append"])
				}
				refused := &posting{t: t, m: a.Transport, codes: posts.codes, n: 2 * (40 - 16)}
				require.Equal(t, map[int]int{503: refused.n}, refused.all())
				vote := &posting{t: t, m: a.Transport, codes: make(chan int)}
				for range 40 {
					vote.post(header, ofEachKind()["control"])
					require.Equal(t, map[int]int{204: 1}, vote.all())
				}
				close(h.release)
				posts.n = 2 * 16
				require.Equal(t, map[int]int{204: 2 * 16}, posts.all())
			})
		})
	}
}
