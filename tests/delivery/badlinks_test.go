package delivery_test

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/bubble"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/memnet"
)

// badLink is one way in which the network between members 1 and 2 goes wrong.
type badLink struct {
	name  string
	begin func(n *memnet.Network)
	again func(n *memnet.Network) // every 50 ms while it lasts; nil: nothing
	end   func(n *memnet.Network) // nil: it ends by itself, once noticed
}

// bothWays does something to both links between members 1 and 2.
func bothWays(do func(*memnet.Link)) func(*memnet.Network) {
	return func(n *memnet.Network) {
		do(n.Link("m1", "m2"))
		do(n.Link("m2", "m1"))
	}
}

var badLinks = []badLink{
	{"half-open", bothWays((*memnet.Link).HalfOpen), nil, nil},
	{"half-open, one way", func(n *memnet.Network) { n.Link("m1", "m2").HalfOpen() }, nil, nil},
	{"half-open, the other way", func(n *memnet.Network) { n.Link("m2", "m1").HalfOpen() }, nil, nil},
	{"one-way cut", func(n *memnet.Network) { n.Link("m1", "m2").Cut() }, nil, (*memnet.Network).Heal},
	{"one-way cut, the other way", func(n *memnet.Network) { n.Link("m2", "m1").Cut() }, nil, (*memnet.Network).Heal},
	{"black hole", bothWays((*memnet.Link).Cut), nil, (*memnet.Network).Heal},
	{"a byte a second", bothWays(func(l *memnet.Link) { l.SetBandwidth(1) }), nil, bothWays(func(l *memnet.Link) { l.SetBandwidth(0) })},
	{"resets", func(*memnet.Network) {}, func(n *memnet.Network) { n.Reset("m1", "m2") }, func(*memnet.Network) {}},
	{
		// What was under way on one connection is late, and the next one begins before it.
		"reordering by reconnecting", bothWays(func(l *memnet.Link) { l.SetJitter(400 * time.Millisecond) }),
		func(n *memnet.Network) { n.Reset("m1", "m2") },
		bothWays(func(l *memnet.Link) { l.SetJitter(0) }),
	},
}

// trial is three members, of which 1 and 2 are about to lose each other.
type trial struct {
	n       *memnet.Network
	a, b, c *testmember.Member
	stop    func() // ends the traffic
	traffic sync.WaitGroup
	late    atomic.Int64 // nanoseconds that messages between 1 and 3 took, in all
}

func newTrial(t *testing.T, n *memnet.Network, busy bool) *trial {
	t.Helper()
	tr := &trial{n: n}
	tr.a, tr.b, tr.c = testmember.StartSimulated(t, tr.n, 1, nil), testmember.StartSimulated(t, tr.n, 2, nil), testmember.StartSimulated(t, tr.n, 3, nil)
	for _, m := range []*testmember.Member{tr.a, tr.b, tr.c} {
		for _, p := range []*testmember.Member{tr.a, tr.b, tr.c} {
			m.AddPeer(p.ID, []string{p.URL})
		}
		m.Recorder.OnProcess = func(context.Context, *raftpb.Message) error { return nil }
	}
	sent := make(chan time.Time, 1)
	tr.c.Recorder.OnProcess = func(context.Context, *raftpb.Message) error {
		tr.late.Add(int64(time.Since(<-sent)))
		return nil
	}
	testmember.Within(t, 2*time.Second, tr.whole)
	ctx, stop := context.WithCancel(t.Context())
	tr.stop = func() {
		stop()
		tr.traffic.Wait()
	}
	t.Cleanup(tr.stop)
	tr.traffic.Go(func() {
		for i := uint64(1); ctx.Err() == nil; i++ {
			if busy {
				tr.a.Send([]*raftpb.Message{testmember.MsgApp(2, 1, i, make([]byte, 1000)), testmember.Heartbeat(2, 1, i)})
				tr.b.Send([]*raftpb.Message{testmember.MsgApp(1, 2, i, make([]byte, 1000)), testmember.Heartbeat(1, 2, i)})
			}
			sent <- time.Now()
			tr.a.Send([]*raftpb.Message{testmember.MsgApp(3, 1, i, make([]byte, 1000))})
			time.Sleep(50 * time.Millisecond)
		}
	})
	return tr
}

// streams says whether m finds the other active with all streams up, and how many connections it took so far.
func streams(m, other *testmember.Member) (up bool, connects uint64) {
	up = true
	for _, p := range m.Status().Peers {
		if p.ID != other.ID {
			continue
		}
		up = p.Active
		for _, s := range p.Streams {
			up = up && s.Up
			connects += s.Connects
		}
	}
	return up, connects
}

func up(m, other *testmember.Member) bool {
	is, _ := streams(m, other)
	return is
}

func (tr *trial) whole() bool {
	return up(tr.a, tr.b) && up(tr.b, tr.a) && up(tr.a, tr.c) && up(tr.c, tr.a)
}

// run has the link go wrong and come back, and returns the longest that one of
// the two took to notice, and how long both took to be whole again.
func (tr *trial) run(t *testing.T, bad badLink, lasts time.Duration) (noticed, recovered time.Duration) {
	t.Helper()
	start := time.Now()
	bad.begin(tr.n)
	seen, before := map[*testmember.Member]bool{}, map[*testmember.Member]uint64{}
	_, before[tr.a] = streams(tr.a, tr.b)
	_, before[tr.b] = streams(tr.b, tr.a)
	for passed := time.Duration(0); passed < lasts; passed = time.Since(start) {
		if bad.again != nil && passed%(50*time.Millisecond) == 0 {
			bad.again(tr.n)
		}
		for m, other := range map[*testmember.Member]*testmember.Member{tr.a: tr.b, tr.b: tr.a} {
			if seen[m] {
				continue
			}
			if is, connects := streams(m, other); !is || connects > before[m] {
				seen[m], noticed = true, passed
			}
		}
		if bad.end == nil && len(seen) == 2 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	require.True(t, seen[tr.a], "noticed by 1")
	require.True(t, seen[tr.b], "noticed by 2")
	if bad.end != nil {
		bad.end(tr.n)
	}
	start = time.Now()
	testmember.Within(t, time.Minute, tr.whole)
	return noticed, time.Since(start)
}

// TestBadLinks: what is wrong with a link is noticed by both ends within twice
// the read timeout, and both are whole within 2 s after its end. Messages to the
// third member take no time all the while.
func TestBadLinks(t *testing.T) { testBadLinks(t) }

// TestBadLinksOverSockets: where one direction of a connection is gone, its writer gives it up when nothing is acknowledged,
// and its reader when nothing comes from then on: that is twice the read timeout for some of its streams.
func TestBadLinksOverSockets(t *testing.T) {
	testBadLinks(t, memnet.WithSockets(0, 0))
}

func testBadLinks(t *testing.T, network ...memnet.Option) {
	for _, bad := range badLinks {
		t.Run(bad.name, func(t *testing.T) {
			var noticed, recovered time.Duration
			for i := range bubble.Runs(3, 1) { // at different times between two heartbeats, and between two dials
				bubble.Test(t, func(t *testing.T) {
					tr := newTrial(t, testmember.NewNetwork(network...), i%2 == 0)
					time.Sleep(10*time.Second + time.Duration(i)*testmember.ReadTimeout/12)
					n, r := tr.run(t, bad, 12*time.Second+time.Duration(i)*310*time.Millisecond)
					noticed, recovered = max(noticed, n), max(recovered, r)
					tr.stop()
					require.Zero(t, tr.late.Load(), "between the others")
				})
			}
			t.Logf("noticed within %v, whole again within %v", noticed, recovered)
			if bad.end == nil && len(network) > 0 { // noticed is for one stream, recovered for all
				require.LessOrEqual(t, noticed+recovered, 2*testmember.ReadTimeout+2*time.Second)
				return
			}
			require.LessOrEqual(t, noticed, 2*testmember.ReadTimeout)
			require.LessOrEqual(t, recovered, 2*time.Second)
		})
	}
}

// TestOneWayFirewall: nobody can connect to member 1, which so has no stream to
// write to. It sends by posts, and gets by streams.
func TestOneWayFirewall(t *testing.T) {
	for name, fault := range map[string]memnet.DialFault{
		"connections are refused": memnet.DialRefused,
		"connections hang":        memnet.DialHangs,
	} {
		t.Run(name, func(t *testing.T) {
			simulateBoth(t, func(t *testing.T, n *memnet.Network) {
				n.DialBlock("m2", "m1", fault)
				a, b := testmember.StartSimulated(t, n, 1, nil), testmember.StartSimulated(t, n, 2, nil)
				a.AddPeer(2, []string{b.URL})
				b.AddPeer(1, []string{a.URL})
				time.Sleep(time.Minute)
				require.True(t, testmember.LaneOf(b, 1, "message").Up, "a dials b")
				require.False(t, testmember.LaneOf(a, 2, "message").Up, "b cannot dial a")
				require.Equal(t, 1, a.ActivePeers())
				before := a.Recorder.Unreachables(2)
				seconds := bubble.Runs(600, 120) // ten minutes
				for i := range uint64(seconds) {
					start := time.Now()
					a.Send([]*raftpb.Message{testmember.MsgApp(2, 1, i, nil), testmember.Heartbeat(2, 1, i)})
					b.Send([]*raftpb.Message{testmember.MsgApp(1, 2, i, nil), testmember.Heartbeat(1, 2, i)})
					synctest.Wait()
					require.Len(t, a.Recorder.Received(), 2*int(i+1))
					require.Len(t, b.Recorder.Received(), 2*int(i+1))
					require.Equal(t, 1, a.ActivePeers())
					require.Equal(t, 1, b.ActivePeers())
					require.Zero(t, time.Since(start))
					time.Sleep(time.Second)
				}
				require.Equal(t, before, a.Recorder.Unreachables(2), "nothing is lost")
				require.Zero(t, testmember.LaneOf(a, 2, "pipeline").Dropped)
				require.EqualValues(t, 2*seconds, testmember.LaneOf(a, 2, "pipeline").Messages)
			})
		})
	}
}

// TestTrickle: a stream that brings a byte a second of a message is as dead as a
// silent one; one that brings a large message at 2 KiB a second is slow.
func TestTrickle(t *testing.T) {
	for name, tc := range map[string]struct {
		piece int
		lives bool
	}{"a byte a second": {1, false}, "2 KiB a second": {2 << 10, true}} {
		t.Run(name, func(t *testing.T) {
			testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
				ln, err := n.Host("m2").Listen("2380")
				require.NoError(t, err)
				ended := make(chan struct{}, 100)
				server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if !strings.HasPrefix(r.URL.Path, rafthttp.RaftStreamPrefix+"/message/") {
						http.NotFound(w, r)
						return
					}
					w.Header().Set("X-Server-Version", "3.7.0")
					// The length of a message of 1 MiB and the head of its one field (context), and then a piece of that at a time.
					_, _ = w.Write([]byte{0, 0, 0, 0, 0, 16, 0, 0, 0x62, 0xfc, 0xff, 0x3f})
					for r.Context().Err() == nil {
						_, _ = w.Write(make([]byte, tc.piece))
						_ = http.NewResponseController(w).Flush()
						time.Sleep(time.Second)
					}
					ended <- struct{}{}
				})}
				served := make(chan struct{})
				go func() {
					defer close(served)
					_ = server.Serve(ln)
				}()
				a := testmember.StartSimulated(t, n, 1, nil)
				a.AddPeer(2, []string{testmember.URLOf(2)})
				time.Sleep(2 * testmember.ReadTimeout)
				synctest.Wait()
				live := len(ended) == 0
				a.Stop()
				require.NoError(t, server.Close())
				<-served
				time.Sleep(time.Minute) // the handlers end
				require.Equal(t, tc.lives, live)
			})
		})
	}
}
