package rafthttp_test

import (
	"context"
	"net"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/memnet"
)

// dials keeps the times and addresses of a member's dials. Streams are dialled
// as posts are; tests that count send nothing.
type dials struct {
	mu    sync.Mutex
	at    []time.Time
	addrs []string
}

func (d *dials) count(dial dialFunc) dialFunc {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		d.mu.Lock()
		d.at, d.addrs = append(d.at, time.Now()), append(d.addrs, addr)
		d.mu.Unlock()
		return dial(ctx, network, addr)
	}
}

func (d *dials) to(addr string) (n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, a := range d.addrs {
		if a == addr {
			n++
		}
	}
	return n
}

// connected are two simulated members with all streams up.
func connected(t *testing.T, n *memnet.Network) (a, b *member) {
	t.Helper()
	a, b = startSimulated(t, n, 1, nil), startSimulated(t, n, 2, nil)
	connect(t, a, b)
	within(t, time.Second, func() bool { return a.ActivePeers() == 1 && b.ActivePeers() == 1 })
	return a, b
}

// TestSilentPeer: a black hole is noticed on both sides within the read timeout,
// and the streams come back by themselves.
func TestSilentPeer(t *testing.T) {
	simulate(t, func(t *testing.T, n *memnet.Network) {
		a, b := connected(t, n)
		since := a.ActiveSince(2)
		time.Sleep(3 * readTimeout)
		n.Partition([]string{"m1"}, []string{"m2"})
		start := time.Now()
		always(t, readTimeout*2/3-10*time.Millisecond, func() bool { return a.ActivePeers() == 1 && a.ActiveSince(2).Equal(since) })
		within(t, readTimeout-time.Since(start)+time.Millisecond, func() bool { return a.ActivePeers() == 0 && b.ActivePeers() == 0 })
		require.Zero(t, a.ActiveSince(2))
		require.NotEmpty(t, a.Status().Peers[0].LastError)

		time.Sleep(time.Minute)
		require.Zero(t, a.ActivePeers())
		n.Heal()
		within(t, 2*time.Second, func() bool { return a.ActivePeers() == 1 && b.ActivePeers() == 1 })
		require.True(t, a.ActiveSince(2).After(start))
		waitStreams(t, a, 2)
		waitStreams(t, b, 1)
		a.Send([]*raftpb.Message{msgApp(2, 1, 1, nil), heartbeat(2, 1, 1)})
		within(t, time.Second, func() bool { return len(b.raft.received()) == 2 })
	})
}

// TestOneWayCut cuts the way from 1 to 2: member 2 notices by its silent streams,
// member 1 when nothing of what it writes is taken.
func TestOneWayCut(t *testing.T) {
	for _, cut := range [][2]string{{"m1", "m2"}, {"m2", "m1"}} {
		t.Run(cut[0]+" to "+cut[1], func(t *testing.T) {
			simulate(t, func(t *testing.T, n *memnet.Network) {
				a, b := connected(t, n)
				deaf, heard := b, a // deaf gets nothing, heard is not heard by it
				if cut[0] == "m2" {
					deaf, heard = a, b
				}
				n.Link(cut[0], cut[1]).Cut()
				within(t, readTimeout+time.Millisecond, func() bool { return deaf.ActivePeers() == 0 })
				for i := range uint64(100) {
					heard.Send([]*raftpb.Message{msgApp(deaf.ID, heard.ID, i, make([]byte, 10<<10))})
				}
				within(t, 3*writeTimeout, func() bool { return heard.raft.unreachables(uint64(deaf.ID)) > 0 })
				within(t, time.Minute, func() bool { return !laneOf(heard, deaf.ID, "msgapp").Up })

				n.Heal()
				within(t, 15*time.Second, func() bool { return a.ActivePeers() == 1 && b.ActivePeers() == 1 })
				waitStreams(t, a, 2)
				waitStreams(t, b, 1)
			})
		})
	}
}

func TestPeerRestartsOnTheSamePort(t *testing.T) {
	simulate(t, func(t *testing.T, n *memnet.Network) {
		a, b := connected(t, n)
		b.Stop()
		n.Host("m2").Crash()
		within(t, time.Second, func() bool { return a.ActivePeers() == 0 })
		time.Sleep(time.Minute)
		again := startSimulated(t, n, 2, nil)
		again.AddPeer(1, []string{a.url})
		// The pause before a dial is a second and up to a quarter more.
		within(t, time.Second+time.Second/4+10*time.Millisecond, func() bool { return a.ActivePeers() == 1 })
		waitStreams(t, a, 2)
		waitStreams(t, again, 1)
		a.Send([]*raftpb.Message{msgApp(2, 1, 1, nil)})
		within(t, time.Second, func() bool { return len(again.raft.received()) == 1 })
	})
}

// TestIdleStreamsLive has streams that carry nothing but link heartbeats for
// minutes, behind a listener that cuts connections on which one read takes 5 s.
func TestIdleStreamsLive(t *testing.T) {
	for name, f := range wrappers {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(t *testing.T, n *memnet.Network) {
				d := &dials{}
				ln, err := n.Host("m1").Listen("2380")
				require.NoError(t, err)
				ln = deadlineListener(ln, readTimeout, writeTimeout)
				a := startMemberOn(t, ln, 1, func(tr *rafthttp.Transport) { tr.DialContext = n.Host("m1").DialContext })
				wrap(a, f)
				b := startSimulated(t, n, 2, func(tr *rafthttp.Transport) {
					tr.DialContext = d.count(n.Host("m2").DialContext)
				})
				connect(t, a, b)
				within(t, time.Second, func() bool { return a.ActivePeers() == 1 && b.ActivePeers() == 1 })
				since := b.ActiveSince(1)
				always(t, 3*time.Minute, func() bool {
					return laneOf(a, 2, "message").Up && laneOf(a, 2, "msgapp").Up && a.ActivePeers() == 1
				})
				require.Equal(t, since, b.ActiveSince(1))
				require.Zero(t, laneOf(a, 2, "msgapp").Messages)
				require.NotZero(t, laneOf(a, 2, "msgapp").Bytes, "heartbeats")
				require.Empty(t, b.raft.received(), "raft does not see them")
				a.Send([]*raftpb.Message{msgApp(2, 1, 1, nil), heartbeat(2, 1, 1)})
				within(t, time.Second, func() bool { return len(b.raft.received()) == 2 })
			})
		})
	}
}

// TestIdleStreamsLiveOnSockets is the same with real sockets and the deadlines
// of their listener far below the interval of heartbeats.
func TestIdleStreamsLiveOnSockets(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ln = deadlineListener(ln, 20*time.Millisecond, 20*time.Millisecond)
	tune := func(tr *rafthttp.Transport) { tr.ReadTimeout = 600 * time.Millisecond }
	a, b := startMemberOn(t, ln, 1, tune), startMember(t, 2, tune)
	connect(t, a, b)
	eventually(t, func() bool { return b.ActivePeers() == 1 })
	since := b.ActiveSince(1)
	before := laneOf(a, 2, "msgapp").Bytes
	eventually(t, func() bool { return laneOf(a, 2, "msgapp").Bytes >= before+6 }) // 6 heartbeats, one byte each
	require.Equal(t, since, b.ActiveSince(1))
	require.Zero(t, a.raft.unreachables(2), "no stream ended")
}

// TestFailedPostsOfAnActivePeer: while a stream is up, posts that fail are lost
// and reported, and the peer stays active.
func TestFailedPostsOfAnActivePeer(t *testing.T) {
	simulate(t, func(t *testing.T, n *memnet.Network) {
		a, b := connected(t, n)
		inner := b.server.Handler
		b.server.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPost {
				http.Error(w, "no", http.StatusInternalServerError)
				return
			}
			inner.ServeHTTP(w, r)
		})
		since := a.ActiveSince(2)
		for i := range 20 {
			a.Send([]*raftpb.Message{message(raftpb.MsgSnap, 2)})
			within(t, time.Second, func() bool { return len(a.raft.snapshotReports()) == i+1 })
			require.Equal(t, since, a.ActiveSince(2))
		}
		require.NotZero(t, a.raft.unreachables(2))
		require.EqualValues(t, 20, laneOf(a, 2, "pipeline").Dropped)
	})
}

// TestActiveByPosts: a peer whose streams do not come up is active as long as
// posts to it succeed.
func TestActiveByPosts(t *testing.T) {
	simulate(t, func(t *testing.T, n *memnet.Network) {
		a, b := startSimulated(t, n, 1, nil), startSimulated(t, n, 2, nil)
		a.AddPeer(2, []string{b.url}) // b does not know a and refuses its streams
		require.Zero(t, a.ActivePeers())
		for range 10 {
			a.Send([]*raftpb.Message{heartbeat(2, 1, 1)})
			synctest.Wait()
			require.Equal(t, 1, a.ActivePeers())
			time.Sleep(readTimeout / 2)
		}
		within(t, 2*readTimeout, func() bool { return a.ActivePeers() == 0 })
	})
}

// TestRedialBacksOff: a peer that refuses is dialled ten times a second at first,
// and once a second later, by each of two streams.
func TestRedialBacksOff(t *testing.T) {
	simulate(t, func(t *testing.T, n *memnet.Network) {
		d := &dials{}
		a := startSimulated(t, n, 1, func(tr *rafthttp.Transport) {
			tr.ReadTimeout = time.Hour // no probes
			tr.DialContext = d.count(n.Host("m1").DialContext)
		})
		a.AddPeer(2, silentHost(n, 2))
		time.Sleep(500 * time.Millisecond)
		first := d.to("m2:2380")
		require.GreaterOrEqual(t, first, 2*3)
		require.LessOrEqual(t, first, 2*8)
		time.Sleep(10 * time.Second)
		before := d.to("m2:2380")
		time.Sleep(time.Minute)
		perStream := float64(d.to("m2:2380")-before) / 2
		require.GreaterOrEqual(t, perStream, 47.0)
		require.LessOrEqual(t, perStream, 60.0)
	})
}

func TestURLsRotateOnFailure(t *testing.T) {
	simulate(t, func(t *testing.T, n *memnet.Network) {
		a, b := startSimulated(t, n, 1, nil), startSimulated(t, n, 2, nil)
		n.Host("dead")
		n.Host("hole")
		n.Link("m1", "hole").Cut()
		b.AddPeer(1, []string{a.url})
		a.AddPeer(2, []string{"http://dead:1", "http://hole:1", b.url})
		within(t, 12*time.Second, func() bool { return a.ActivePeers() == 1 })
		waitStreams(t, b, 1)
		b.Send([]*raftpb.Message{heartbeat(1, 2, 1)})
		within(t, time.Second, func() bool { return len(a.raft.received()) == 1 })
	})
}

// TestUpdatePeerMovesLiveStreams: streams that work well are dialled anew at the
// new address.
func TestUpdatePeerMovesLiveStreams(t *testing.T) {
	simulate(t, func(t *testing.T, n *memnet.Network) {
		d := &dials{}
		a := startSimulated(t, n, 1, func(tr *rafthttp.Transport) { tr.DialContext = d.count(n.Host("m1").DialContext) })
		b := startSimulated(t, n, 2, nil)
		second, err := n.Host("alt").Listen("7")
		require.NoError(t, err)
		served := make(chan struct{})
		go func() {
			defer close(served)
			_ = b.server.Serve(second)
		}()
		connect(t, a, b)
		for i := range 5 { // the first of the new URLs works, so it is the only one used
			a.UpdatePeer(2, []string{"http://alt:7", "http://dead:" + strconv.Itoa(i+1)})
			within(t, time.Second, func() bool { return d.to("alt:7") >= 2 && a.ActivePeers() == 1 })
			require.Equal(t, []string{"http://alt:7", "http://dead:" + strconv.Itoa(i+1)}, a.Status().Peers[0].URLs)
			within(t, time.Second, func() bool { return laneOf(b, 1, "message").Up && laneOf(b, 1, "msgapp").Up })
			require.Zero(t, d.to("dead:"+strconv.Itoa(i+1)))
		}
		old := d.to("m2:2380")
		a.Send([]*raftpb.Message{message(raftpb.MsgSnap, 2)}) // posts go there as well
		within(t, time.Second, func() bool { return len(b.raft.received()) == 1 })
		require.Equal(t, old, d.to("m2:2380"))
		a.UpdatePeer(99, []string{"http://alt:7"}) // nobody
		require.Nil(t, a.Get(99))
		require.NoError(t, b.server.Close())
		<-served
	})
}

// TestRedialAfterAHang: a dial that hung until its timeout is not followed by a
// pause as well, so that a link that came back is found by the next one soon.
func TestRedialAfterAHang(t *testing.T) {
	simulate(t, func(t *testing.T, n *memnet.Network) {
		d := &dials{}
		a := startSimulated(t, n, 1, func(tr *rafthttp.Transport) {
			tr.ReadTimeout = time.Hour // no probes
			tr.DialContext = d.count(n.Host("m1").DialContext)
		})
		urls := silentHost(n, 2)
		n.Link("m1", "m2").Cut()
		a.AddPeer(2, urls)
		time.Sleep(2 * time.Minute)
		require.GreaterOrEqual(t, d.to("m2:2380"), 2*23, "5 s for each of both streams, and nothing between")
		require.LessOrEqual(t, d.to("m2:2380"), 2*25)
	})
}
