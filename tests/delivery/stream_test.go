package delivery_test

import (
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
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

// drops counts what the observer of a member hears of messages lost.
type drops struct{ n atomic.Int64 }

func (d *drops) observe(tr *rafthttp.Transport) {
	tr.Observer = &rafthttp.Observer{Dropped: func(_ types.ID, _ string, n int, _ error) { d.n.Add(int64(n)) }}
}

// startSender runs member 1 with a peer 2 that nobody is: the test dials its
// streams.
func startSender(t *testing.T, n *memnet.Network, tune func(*rafthttp.Transport)) (*testmember.Member, *drops) {
	t.Helper()
	lost := &drops{}
	a := testmember.StartSimulated(t, n, 1, func(tr *rafthttp.Transport) {
		lost.observe(tr)
		if tune != nil {
			tune(tr)
		}
	})
	a.AddPeer(2, testmember.SilentHost(n, 2))
	return a, lost
}

// streamMessage returns the i-th message that goes over a kind of stream.
func streamMessage(kind string, i uint64, size int) *raftpb.Message {
	if kind == "msgapp" {
		return testmember.MsgApp(2, 1, i, make([]byte, size))
	}
	m := testmember.Heartbeat(2, 1, i)
	m.Context = make([]byte, size)
	return m
}

// TestReplacedConnectionsLoseNothingSilently has a peer that dials again and
// again under load and reads all it gets: it gets all where a batch takes no
// longer than a replaced connection is given to end it, and what it did not get
// was counted and reported.
func TestReplacedConnectionsLoseNothingSilently(t *testing.T) {
	tests := []struct {
		name, kind string
		bandwidth  int
		cut        bool // writes
	}{
		{"message", "message", 20 << 20, false},
		{"msgapp", "msgapp", 20 << 20, false},
		{"message, slow", "message", 300 << 10, true},
		{"msgapp, slow", "msgapp", 300 << 10, true},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
				const sent = 2000
				kind := tc.kind
				a, lost := startSender(t, n, nil)
				n.Link("m1", "m2").SetBandwidth(tc.bandwidth)
				rng := rand.New(rand.NewPCG(5, 6))
				var mu sync.Mutex
				var got []*raftpb.Message
				var readers sync.WaitGroup
				dial := func() {
					c := testmember.DialStream(t, n.Host("m2").DialContext, a, kind, 2)
					readers.Go(func() {
						ms, _ := c.ReadMessages(kind, 2, 1)
						mu.Lock()
						defer mu.Unlock()
						got = append(got, ms...)
					})
				}
				dial()
				synctest.Wait()
				for i := range uint64(sent) {
					a.Send([]*raftpb.Message{streamMessage(kind, i, rng.IntN(20<<10))})
					if i%10 == 0 {
						time.Sleep(time.Duration(rng.IntN(10)) * time.Millisecond)
					}
					if i%97 == 0 {
						dial()
					}
				}
				testmember.Within(t, 3*time.Minute, func() bool { return testmember.LaneOf(a, 2, kind).Queued == 0 })
				written := testmember.LaneOf(a, 2, kind).Messages
				require.EqualValues(t, sent, int64(written)+lost.n.Load(), "each is written or dropped")
				if !testmember.TinyBuffers { // with those, no batch is long enough
					require.Equal(t, tc.cut, lost.n.Load() > 0, "writes that were cut")
				}
				require.NotZero(t, a.Recorder.Unreachables(2))
				a.Stop()
				readers.Wait()

				seen := map[uint64]bool{}
				for _, m := range got {
					require.False(t, seen[m.GetCommit()], "delivered twice: %d", m.GetCommit())
					seen[m.GetCommit()] = true
				}
				require.GreaterOrEqual(t, len(seen), int(written))
				require.GreaterOrEqual(t, len(seen)+int(lost.n.Load()), sent)
			})
		})
	}
}

// TestLostConnectionIsReported: what was written to a connection may not have
// been read, so the end of one is reported even if nothing was queued.
func TestLostConnectionIsReported(t *testing.T) {
	ends := map[string]func(*testing.T, *memnet.Network, *testmember.Member, *testmember.Stream){
		"closed by the peer": func(_ *testing.T, _ *memnet.Network, _ *testmember.Member, c *testmember.Stream) { c.Close() },
		"reset":              func(_ *testing.T, n *memnet.Network, _ *testmember.Member, _ *testmember.Stream) { n.Reset("m1", "m2") },
		"replaced": func(t *testing.T, n *memnet.Network, a *testmember.Member, _ *testmember.Stream) {
			testmember.DialStream(t, n.Host("m2").DialContext, a, "msgapp", 2)
		},
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
				a, lost := startSender(t, n, nil)
				c := testmember.DialStream(t, n.Host("m2").DialContext, a, "msgapp", 2)
				synctest.Wait()
				for i := range uint64(5) {
					a.Send([]*raftpb.Message{testmember.MsgApp(2, 1, i, nil)})
				}
				testmember.Within(t, time.Second, func() bool { return testmember.LaneOf(a, 2, "msgapp").Messages == 5 })
				require.Zero(t, a.Recorder.Unreachables(2))
				end(t, n, a, c)
				testmember.Within(t, time.Second, func() bool { return a.Recorder.Unreachables(2) == 1 })
				require.Zero(t, lost.n.Load())
			})
		})
	}
}

// TestQueuedMessagesAreReported: a connection ends while messages wait for it.
func TestQueuedMessagesAreReported(t *testing.T) {
	ends := map[string]func(*memnet.Network, *testmember.Member, *testmember.Stream){
		"closed by the peer": func(_ *memnet.Network, _ *testmember.Member, c *testmember.Stream) { c.Close() },
		"cut":                func(n *memnet.Network, _ *testmember.Member, _ *testmember.Stream) { n.Link("m1", "m2").Cut() },
		"not read":           func(*memnet.Network, *testmember.Member, *testmember.Stream) {},
		"RemovePeer":         func(_ *memnet.Network, a *testmember.Member, _ *testmember.Stream) { a.RemovePeer(2) },
		"Stop":               func(_ *memnet.Network, a *testmember.Member, _ *testmember.Stream) { a.Stop() },
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
				const sent = 1000
				a, lost := startSender(t, n, nil)
				c := testmember.DialStream(t, n.Host("m2").DialContext, a, "msgapp", 2)
				synctest.Wait()
				for i := range uint64(sent) { // far more than the window
					a.Send([]*raftpb.Message{testmember.MsgApp(2, 1, i, make([]byte, 1000))})
				}
				start := time.Now()
				end(n, a, c)
				// What went into the window was progress.
				testmember.Within(t, 2*testmember.WriteTimeout+time.Second, func() bool { return a.Recorder.Unreachables(2) > 0 })
				if strings.HasPrefix(name, "cut") || strings.HasPrefix(name, "not") {
					require.GreaterOrEqual(t, time.Since(start), testmember.WriteTimeout)
				}
				time.Sleep(time.Second)
				n.Heal()
				got, _ := c.ReadMessages("msgapp", 2, 1)
				if name != "closed by the peer" { // who does not read what was written
					require.GreaterOrEqual(t, len(got)+int(lost.n.Load()), sent)
				}
				require.LessOrEqual(t, lost.n.Load(), int64(sent))
				for i, m := range got {
					require.EqualValues(t, i, m.GetIndex())
				}
				if a.Get(2) != nil {
					require.EqualValues(t, sent, int64(testmember.LaneOf(a, 2, "msgapp").Messages)+lost.n.Load())
					require.False(t, testmember.LaneOf(a, 2, "msgapp").Up)
				}
			})
		})
	}
}

func TestNewerConnectionReplacesTheOlder(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		a, _ := startSender(t, n, nil)
		dial := n.Host("m2").DialContext
		first, other := testmember.DialStream(t, dial, a, "message", 2), testmember.DialStream(t, dial, a, "msgapp", 2)
		second := testmember.DialStream(t, dial, a, "message", 2)
		require.Equal(t, time.Now(), first.WaitEnd(t))
		a.Send([]*raftpb.Message{testmember.Heartbeat(2, 1, 5)})
		time.Sleep(10 * testmember.ReadTimeout)
		a.Stop()
		got, _ := second.ReadMessages("message", 2, 1)
		require.Len(t, got, 1)
		require.EqualValues(t, 5, got[0].GetCommit())
		_, err := other.ReadMessages("msgapp", 2, 1)
		require.Equal(t, io.EOF, err, "the other kind was left alone until Stop")
	})
}

func TestTalkativeClientIsDropped(t *testing.T) {
	tests := map[string]func(c *testmember.Stream) error{
		"data": func(c *testmember.Stream) error { _, err := c.Write([]byte("x")); return err },
		"one more": func(c *testmember.Stream) error {
			_, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
			return err
		},
	}
	for name, talk := range tests {
		t.Run(name, func(t *testing.T) {
			testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
				a, _ := startSender(t, n, nil)
				c := testmember.DialStream(t, n.Host("m2").DialContext, a, "msgapp", 2)
				synctest.Wait()
				require.True(t, testmember.LaneOf(a, 2, "msgapp").Up)
				require.NoError(t, talk(c))
				synctest.Wait()
				require.False(t, testmember.LaneOf(a, 2, "msgapp").Up)
				require.Equal(t, time.Now(), c.WaitEnd(t))
			})
		})
	}
}

func TestStreamsThroughResponseWriters(t *testing.T) {
	for name, f := range testmember.Writers {
		t.Run(name, func(t *testing.T) {
			testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
				a, b := testmember.StartSimulated(t, n, 1, nil), testmember.StartSimulated(t, n, 2, nil)
				running := testmember.WrapWriters(a, f)
				testmember.Connect(t, a, b)
				synctest.Wait()
				if name == "hijacked" {
					require.Zero(t, running.Load(), "the handler returns")
				} else {
					require.EqualValues(t, 2, running.Load())
				}
				for i := range uint64(50) {
					a.Send([]*raftpb.Message{testmember.MsgApp(2, 1, i, make([]byte, 40<<10)), testmember.Heartbeat(2, 1, i)})
				}
				testmember.Within(t, time.Second, func() bool { return len(b.Recorder.Received()) == 100 })
				require.Zero(t, testmember.LaneOf(a, 2, "pipeline").Messages)

				b.Stop() // the client leaves
				testmember.Within(t, time.Second, func() bool {
					return running.Load() == 0 && !testmember.LaneOf(a, 2, "msgapp").Up && !testmember.LaneOf(a, 2, "message").Up
				})
			})
		})
	}
}

// TestHandlerEndsWithItsStream: the handler of a stream that could not be
// hijacked returns when the stream is replaced, when the peer is removed, and
// with Stop.
func TestHandlerEndsWithItsStream(t *testing.T) {
	for name, f := range testmember.Writers {
		t.Run(name, func(t *testing.T) {
			testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
				a, _ := startSender(t, n, nil)
				running := testmember.WrapWriters(a, f)
				dial := n.Host("m2").DialContext
				want := int32(1)
				if name == "hijacked" {
					want = 0
				}
				first := testmember.DialStream(t, dial, a, "msgapp", 2)
				testmember.DialStream(t, dial, a, "msgapp", 2)
				require.Equal(t, time.Now(), first.WaitEnd(t), "replaced")
				synctest.Wait()
				require.Equal(t, want, running.Load())

				a.RemovePeer(2)
				synctest.Wait()
				require.Zero(t, running.Load(), "removed")
				_, status := testmember.RequestStream(t, dial, a, "msgapp", 2)
				require.Equal(t, http.StatusNotFound, status)

				a.AddPeer(2, testmember.SilentHost(n, 2))
				last := testmember.DialStream(t, dial, a, "msgapp", 2)
				a.Stop()
				synctest.Wait() // for what wraps the handler
				require.Zero(t, running.Load(), "stopped")
				require.Equal(t, time.Now(), last.WaitEnd(t))
			})
		})
	}
}

// slowWriter is one whose write deadlines take a while to set.
type slowWriter struct{ testmember.DeadlineWriter }

func (s slowWriter) SetWriteDeadline(t time.Time) error {
	if t.After(time.Now()) {
		time.Sleep(time.Second)
	}
	return s.DeadlineWriter.SetWriteDeadline(t)
}

// TestEndDuringAWrite: a stream that ends at the moment its writer sets a new
// deadline does not wait for that deadline.
func TestEndDuringAWrite(t *testing.T) {
	if testmember.TinyBuffers {
		t.Skip("it is about large batches")
	}
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		a, _ := startSender(t, n, nil)
		running := testmember.WrapWriters(a, func(w http.ResponseWriter) http.ResponseWriter {
			return slowWriter{testmember.NewDeadlineWriter(w)}
		})
		testmember.DialStream(t, n.Host("m2").DialContext, a, "msgapp", 2)
		testmember.Within(t, 5*time.Second, func() bool { return testmember.LaneOf(a, 2, "msgapp").Bytes > 0 }) // the first heartbeat
		a.Send([]*raftpb.Message{testmember.MsgApp(2, 1, 1, make([]byte, 1<<20))})                              // is not read
		time.Sleep(time.Second / 2)
		require.EqualValues(t, 1, running.Load())
		a.RemovePeer(2)
		testmember.Within(t, time.Second, func() bool { return running.Load() == 0 })
	})
}
