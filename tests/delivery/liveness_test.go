package delivery_test

import (
	"net"
	"net/http"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/memnet"
)

// TestSilentPeer: a black hole is noticed on both sides within the read timeout,
// and the streams come back by themselves.
func TestSilentPeer(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		a, b := testmember.Connected(t, n)
		since := a.ActiveSince(2)
		time.Sleep(3 * testmember.ReadTimeout)
		n.Partition([]string{"m1"}, []string{"m2"})
		start := time.Now()
		testmember.Always(t, testmember.ReadTimeout*2/3-10*time.Millisecond, func() bool { return a.ActivePeers() == 1 && a.ActiveSince(2).Equal(since) })
		testmember.Within(t, testmember.ReadTimeout-time.Since(start)+time.Millisecond, func() bool { return a.ActivePeers() == 0 && b.ActivePeers() == 0 })
		require.Zero(t, a.ActiveSince(2))
		require.NotEmpty(t, a.Status().Peers[0].LastError)

		time.Sleep(time.Minute)
		require.Zero(t, a.ActivePeers())
		n.Heal()
		testmember.Within(t, 2*time.Second, func() bool { return a.ActivePeers() == 1 && b.ActivePeers() == 1 })
		require.True(t, a.ActiveSince(2).After(start))
		testmember.WaitStreams(t, a, 2)
		testmember.WaitStreams(t, b, 1)
		a.Send([]*raftpb.Message{testmember.MsgApp(2, 1, 1, nil), testmember.Heartbeat(2, 1, 1)})
		testmember.Within(t, time.Second, func() bool { return len(b.Recorder.Received()) == 2 })
	})
}

// TestOneWayCut cuts the way from 1 to 2: member 2 notices by its silent streams,
// member 1 when nothing of what it writes is taken.
func TestOneWayCut(t *testing.T) {
	for _, cut := range [][2]string{{"m1", "m2"}, {"m2", "m1"}} {
		t.Run(cut[0]+" to "+cut[1], func(t *testing.T) {
			testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
				a, b := testmember.Connected(t, n)
				deaf, heard := b, a // deaf gets nothing, heard is not heard by it
				if cut[0] == "m2" {
					deaf, heard = a, b
				}
				n.Link(cut[0], cut[1]).Cut()
				testmember.Within(t, testmember.ReadTimeout+time.Millisecond, func() bool { return deaf.ActivePeers() == 0 })
				for i := range uint64(100) {
					heard.Send([]*raftpb.Message{testmember.MsgApp(deaf.ID, heard.ID, i, make([]byte, 10<<10))})
				}
				testmember.Within(t, 3*testmember.WriteTimeout, func() bool { return heard.Recorder.Unreachables(uint64(deaf.ID)) > 0 })
				testmember.Within(t, time.Minute, func() bool { return !testmember.LaneOf(heard, deaf.ID, "msgapp").Up })

				n.Heal()
				testmember.Within(t, 15*time.Second, func() bool { return a.ActivePeers() == 1 && b.ActivePeers() == 1 })
				testmember.WaitStreams(t, a, 2)
				testmember.WaitStreams(t, b, 1)
			})
		})
	}
}

func TestPeerRestartsOnTheSamePort(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		a, b := testmember.Connected(t, n)
		b.Stop()
		n.Host("m2").Crash()
		testmember.Within(t, time.Second, func() bool { return a.ActivePeers() == 0 })
		time.Sleep(time.Minute)
		again := testmember.StartSimulated(t, n, 2, nil)
		again.AddPeer(1, []string{a.URL})
		// The pause before a dial is a second and up to a quarter more.
		testmember.Within(t, time.Second+time.Second/4+10*time.Millisecond, func() bool { return a.ActivePeers() == 1 })
		testmember.WaitStreams(t, a, 2)
		testmember.WaitStreams(t, again, 1)
		a.Send([]*raftpb.Message{testmember.MsgApp(2, 1, 1, nil)})
		testmember.Within(t, time.Second, func() bool { return len(again.Recorder.Received()) == 1 })
	})
}

// TestIdleStreamsLive has streams that carry nothing but link heartbeats for
// minutes, behind a listener that cuts connections on which one read takes 5 s.
func TestIdleStreamsLive(t *testing.T) {
	for name, f := range testmember.Writers {
		t.Run(name, func(t *testing.T) {
			testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
				ln, err := n.Host("m1").Listen("2380")
				require.NoError(t, err)
				ln = testmember.NewDeadlineListener(ln, testmember.ReadTimeout, testmember.WriteTimeout)
				a := testmember.StartOn(t, ln, 1, func(tr *rafthttp.Transport) { tr.DialContext = n.Host("m1").DialContext })
				testmember.WrapWriters(a, f)
				b := testmember.StartSimulated(t, n, 2, nil)
				testmember.Connect(t, a, b)
				testmember.Within(t, time.Second, func() bool { return a.ActivePeers() == 1 && b.ActivePeers() == 1 })
				since := b.ActiveSince(1)
				testmember.Always(t, 3*time.Minute, func() bool {
					return testmember.LaneOf(a, 2, "message").Up && testmember.LaneOf(a, 2, "msgapp").Up && a.ActivePeers() == 1
				})
				require.Equal(t, since, b.ActiveSince(1))
				for _, s := range b.Status().Peers[0].Streams {
					require.EqualValues(t, 1, s.Connects, "%s %s", s.Name, s.Direction)
				}
				require.Zero(t, testmember.LaneOf(a, 2, "msgapp").Messages)
				require.NotZero(t, testmember.LaneOf(a, 2, "msgapp").Bytes, "heartbeats")
				require.Empty(t, b.Recorder.Received(), "raft does not see them")
				a.Send([]*raftpb.Message{testmember.MsgApp(2, 1, 1, nil), testmember.Heartbeat(2, 1, 1)})
				testmember.Within(t, time.Second, func() bool { return len(b.Recorder.Received()) == 2 })
			})
		})
	}
}

// TestIdleStreamsLiveOnSockets is the same with real sockets and the deadlines
// of their listener far below the interval of heartbeats.
func TestIdleStreamsLiveOnSockets(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ln = testmember.NewDeadlineListener(ln, 20*time.Millisecond, 20*time.Millisecond)
	tune := func(tr *rafthttp.Transport) { tr.ReadTimeout = 600 * time.Millisecond }
	a, b := testmember.StartOn(t, ln, 1, tune), testmember.Start(t, 2, tune)
	testmember.Connect(t, a, b)
	testmember.Eventually(t, func() bool { return b.ActivePeers() == 1 })
	since := b.ActiveSince(1)
	before := testmember.LaneOf(a, 2, "msgapp").Bytes
	testmember.Eventually(t, func() bool { return testmember.LaneOf(a, 2, "msgapp").Bytes >= before+6 }) // 6 heartbeats, one byte each
	require.Equal(t, since, b.ActiveSince(1))
	require.Zero(t, a.Recorder.Unreachables(2), "no stream ended")
}

// TestFailedPostsOfAnActivePeer: while a stream is up, posts that fail are lost
// and reported, and the peer stays active.
func TestFailedPostsOfAnActivePeer(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		a, b := testmember.Connected(t, n)
		inner := b.Server.Handler
		b.Server.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPost {
				http.Error(w, "no", http.StatusInternalServerError)
				return
			}
			inner.ServeHTTP(w, r)
		})
		since := a.ActiveSince(2)
		for i := range 20 {
			a.Send([]*raftpb.Message{testmember.Message(raftpb.MsgSnap, 2)})
			testmember.Within(t, time.Second, func() bool { return len(a.Recorder.SnapshotReports()) == i+1 })
			require.Equal(t, since, a.ActiveSince(2))
		}
		require.NotZero(t, a.Recorder.Unreachables(2))
		require.EqualValues(t, 20, testmember.LaneOf(a, 2, "pipeline").Dropped)
	})
}

// TestActiveByPosts: a peer whose streams do not come up is active as long as
// posts to it succeed.
func TestActiveByPosts(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		a, b := testmember.StartSimulated(t, n, 1, nil), testmember.StartSimulated(t, n, 2, nil)
		a.AddPeer(2, []string{b.URL}) // b does not know a and refuses its streams
		require.Zero(t, a.ActivePeers())
		for range 10 {
			a.Send([]*raftpb.Message{testmember.Heartbeat(2, 1, 1)})
			synctest.Wait()
			require.Equal(t, 1, a.ActivePeers())
			time.Sleep(testmember.ReadTimeout / 2)
		}
		testmember.Within(t, 2*testmember.ReadTimeout, func() bool { return a.ActivePeers() == 0 })
	})
}

// TestRedialBacksOff: a peer that refuses is dialled ten times a second at first,
// and once a second later, by each of two streams.
func TestRedialBacksOff(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		d := &testmember.Dials{}
		a := testmember.StartSimulated(t, n, 1, func(tr *rafthttp.Transport) {
			tr.ReadTimeout = time.Hour // no probes
			tr.DialContext = d.Count(n.Host("m1").DialContext)
		})
		a.AddPeer(2, testmember.SilentHost(n, 2))
		time.Sleep(500 * time.Millisecond)
		first := d.To("m2:2380")
		require.GreaterOrEqual(t, first, 2*3)
		require.LessOrEqual(t, first, 2*8)
		time.Sleep(10 * time.Second)
		before := d.To("m2:2380")
		time.Sleep(time.Minute)
		perStream := float64(d.To("m2:2380")-before) / 2
		require.GreaterOrEqual(t, perStream, 47.0)
		require.LessOrEqual(t, perStream, 60.0)
	})
}

func TestURLsRotateOnFailure(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		a, b := testmember.StartSimulated(t, n, 1, nil), testmember.StartSimulated(t, n, 2, nil)
		n.Host("dead")
		n.Host("hole")
		n.Link("m1", "hole").Cut()
		b.AddPeer(1, []string{a.URL})
		a.AddPeer(2, []string{"http://dead:1", "http://hole:1", b.URL})
		testmember.Within(t, 12*time.Second, func() bool { return a.ActivePeers() == 1 })
		testmember.WaitStreams(t, b, 1)
		b.Send([]*raftpb.Message{testmember.Heartbeat(1, 2, 1)})
		testmember.Within(t, time.Second, func() bool { return len(a.Recorder.Received()) == 1 })
	})
}

// TestUpdatePeerMovesLiveStreams: streams that work well are dialled anew at the
// new address.
func TestUpdatePeerMovesLiveStreams(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		d := &testmember.Dials{}
		a := testmember.StartSimulated(t, n, 1, func(tr *rafthttp.Transport) { tr.DialContext = d.Count(n.Host("m1").DialContext) })
		b := testmember.StartSimulated(t, n, 2, nil)
		second, err := n.Host("alt").Listen("7")
		require.NoError(t, err)
		served := make(chan struct{})
		go func() {
			defer close(served)
			_ = b.Server.Serve(second)
		}()
		testmember.Connect(t, a, b)
		for i := range 5 { // the first of the new URLs works, so it is the only one used
			a.UpdatePeer(2, []string{"http://alt:7", "http://dead:" + strconv.Itoa(i+1)})
			testmember.Within(t, time.Second, func() bool { return d.To("alt:7") >= 2 && a.ActivePeers() == 1 })
			require.Equal(t, []string{"http://alt:7", "http://dead:" + strconv.Itoa(i+1)}, a.Status().Peers[0].URLs)
			testmember.Within(t, time.Second, func() bool { return testmember.LaneOf(b, 1, "message").Up && testmember.LaneOf(b, 1, "msgapp").Up })
			require.Zero(t, d.To("dead:"+strconv.Itoa(i+1)))
		}
		old := d.To("m2:2380")
		a.Send([]*raftpb.Message{testmember.Message(raftpb.MsgSnap, 2)}) // posts go there as well
		testmember.Within(t, time.Second, func() bool { return len(b.Recorder.Received()) == 1 })
		require.Equal(t, old, d.To("m2:2380"))
		a.UpdatePeer(99, []string{"http://alt:7"}) // nobody
		require.Nil(t, a.Get(99))
		require.NoError(t, b.Server.Close())
		<-served
	})
}

// TestRedialAfterAHang: a dial that hung until its timeout is not followed by a
// pause as well, so that a link that came back is found by the next one soon.
func TestRedialAfterAHang(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		d := &testmember.Dials{}
		a := testmember.StartSimulated(t, n, 1, func(tr *rafthttp.Transport) {
			tr.ReadTimeout = time.Hour // no probes
			tr.DialContext = d.Count(n.Host("m1").DialContext)
		})
		urls := testmember.SilentHost(n, 2)
		n.Link("m1", "m2").Cut()
		a.AddPeer(2, urls)
		time.Sleep(2 * time.Minute)
		require.GreaterOrEqual(t, d.To("m2:2380"), 2*23, "5 s for each of both streams, and nothing between")
		require.LessOrEqual(t, d.To("m2:2380"), 2*25)
	})
}
