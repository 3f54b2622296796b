package members_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/internal/testtls"
	"github.com/seed-4d73690b/rafthttp/memnet"
)

func streamOf(t testing.TB, m *testmember.Member, id types.ID, name, direction string) rafthttp.StreamStatus {
	t.Helper()
	for _, s := range testmember.PeerStatus(t, m, id).Streams {
		if s.Name == name && s.Direction == direction {
			return s
		}
	}
	require.FailNow(t, "no such stream")
	return rafthttp.StreamStatus{}
}

func TestStatusOfTheTransport(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		begin := time.Now()
		a := testmember.StartSimulated(t, n, 1, func(tr *rafthttp.Transport) { tr.ServerVersion = "3.6.1" })
		time.Sleep(time.Minute)
		st := a.Status()
		require.Equal(t, types.ID(1), st.ID)
		require.Equal(t, testmember.ClusterID, st.ClusterID)
		require.Equal(t, []string{testmember.URLOf(1)}, st.URLs)
		require.Equal(t, "3.6.1", st.Version)
		require.True(t, st.Started.Equal(begin))
		require.True(t, st.Time.Equal(begin.Add(time.Minute)))
		b, err := json.Marshal(st)
		require.NoError(t, err)
		require.Contains(t, string(b), `"peers":[]`, "not null")
	})
}

// TestStatusOfLanes: fill, capacity and age of the lanes, in virtual time.
func TestStatusOfLanes(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		a := testmember.StartSimulated(t, n, 1, func(tr *rafthttp.Transport) { tr.SendQueueMessages, tr.SendQueueBytes = 10, 1<<20 })
		b := testmember.StartSimulated(t, n, 2, func(tr *rafthttp.Transport) { tr.ReceiveQueueMessages, tr.ReceiveQueueBytes = 20, 2<<20 })
		release := make(chan struct{})
		b.Recorder.OnProcess = func(_ context.Context, m *raftpb.Message) error {
			<-release
			return nil
		}
		testmember.Connect(t, a, b)
		require.Zero(t, testmember.LaneOf(b, 1, "control").OldestAge)

		a.Send([]*raftpb.Message{testmember.Heartbeat(2, 1, 1)})
		testmember.Within(t, time.Second, func() bool { return testmember.LaneOf(b, 1, "control").Queued == 1 })
		time.Sleep(2 * time.Second)
		a.Send([]*raftpb.Message{testmember.Heartbeat(2, 1, 2)})
		testmember.Within(t, time.Second, func() bool { return testmember.LaneOf(b, 1, "control").Queued == 2 })
		l := testmember.LaneOf(b, 1, "control")
		require.Equal(t, 2*time.Second, l.OldestAge.Truncate(100*time.Millisecond), "of the one in the hands of Process")
		require.Equal(t, 20, l.Capacity)
		require.EqualValues(t, 2<<20, l.CapacityBytes)
		require.Zero(t, l.Batches)

		time.Sleep(time.Second)
		release <- struct{}{}
		time.Sleep(time.Second)
		l = testmember.LaneOf(b, 1, "control")
		require.Equal(t, 1, l.Queued)
		require.Equal(t, 2*time.Second, l.OldestAge.Truncate(100*time.Millisecond), "of the next: it came 2 s ago")
		require.EqualValues(t, 1, l.Batches)
		require.Equal(t, 3*time.Second, l.BusyTime.Truncate(100*time.Millisecond))
		close(release)
		testmember.Within(t, time.Second, func() bool { return testmember.LaneOf(b, 1, "control").Queued == 0 })
		require.Zero(t, testmember.LaneOf(b, 1, "control").OldestAge)

		sent := testmember.LaneOf(a, 2, "message")
		require.Equal(t, 10, sent.Capacity)
		require.EqualValues(t, 1<<20, sent.CapacityBytes)
		require.EqualValues(t, 2, sent.Messages)
		require.GreaterOrEqual(t, sent.Batches, uint64(2))
	})
}

// TestAgeOfWhatWaitsToBeWritten: the age is that of the oldest also behind the
// first batch, and counts from when it was sent.
func TestAgeOfWhatWaitsToBeWritten(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		a := testmember.StartSimulated(t, n, 1, func(tr *rafthttp.Transport) { tr.WriteTimeout = time.Minute })
		a.AddPeer(2, testmember.SilentHost(n, 2))
		testmember.DialStream(t, n.Host("m2").DialContext, a, "msgapp", 2) // and is not read
		testmember.Within(t, time.Second, func() bool { return testmember.LaneOf(a, 2, "msgapp").Up })
		time.Sleep(time.Second) // the first heartbeat is written
		fill := make([]byte, 8<<20)
		start := time.Now()
		a.Send([]*raftpb.Message{testmember.MsgApp(2, 1, 1, fill)})
		time.Sleep(3 * time.Second)
		a.Send([]*raftpb.Message{testmember.MsgApp(2, 1, 2, nil)})
		time.Sleep(2 * time.Second)
		l := testmember.LaneOf(a, 2, "msgapp")
		require.Equal(t, 2, l.Queued)
		require.Equal(t, time.Since(start), l.OldestAge)
	})
}

func TestStatusOfDrops(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		a := testmember.StartSimulated(t, n, 1, func(tr *rafthttp.Transport) { tr.SendQueueMessages = 1 })
		b := testmember.StartSimulated(t, n, 2, nil)
		testmember.Connect(t, a, b)
		a.CutPeer(2)
		a.Send([]*raftpb.Message{testmember.Heartbeat(2, 1, 1), testmember.Heartbeat(2, 1, 2)})
		require.Equal(t, rafthttp.Drops{Paused: 2}, testmember.LaneOf(a, 2, "message").Drops)
		a.MendPeer(2)

		n.Link("m1", "m2").Cut()
		n.Link("m2", "m1").Cut()
		a.Send([]*raftpb.Message{testmember.Message(raftpb.MsgSnap, 2)}) // a post, that cannot get through
		testmember.Within(t, time.Minute, func() bool { return testmember.LaneOf(a, 2, "pipeline").Drops.Disconnected == 1 })
		b.Stop()
		n.Heal()
		a.Send([]*raftpb.Message{testmember.Message(raftpb.MsgSnap, 2)})
		testmember.Within(t, time.Minute, func() bool { return testmember.LaneOf(a, 2, "pipeline").Drops.Refused == 1 }) // 503
		l := testmember.LaneOf(a, 2, "pipeline")
		require.EqualValues(t, 2, l.Dropped)
		require.Equal(t, l.Dropped, l.Drops.Total())
		sum := map[rafthttp.DropReason]uint64{}
		for reason, n := range l.Drops.All() {
			sum[reason] = n
		}
		require.Equal(t, map[rafthttp.DropReason]uint64{
			rafthttp.DropQueueFull: 0, rafthttp.DropDisconnected: 1, rafthttp.DropRefused: 1, rafthttp.DropPaused: 0, rafthttp.DropEnded: 0,
			rafthttp.DropMemoryLimit: 0, rafthttp.DropTooLarge: 0, rafthttp.DropLocal: 0,
		}, sum)
		require.GreaterOrEqual(t, testmember.PeerStatus(t, a, 2).SendFailures, uint64(4))
	})
}

func TestDropReasons(t *testing.T) {
	for _, tt := range []struct {
		cause error
		want  rafthttp.DropReason
	}{
		{rafthttp.ErrQueueFull, rafthttp.DropQueueFull},
		{rafthttp.ErrMemoryLimit, rafthttp.DropMemoryLimit},
		{rafthttp.ErrExceedSizeLimit, rafthttp.DropTooLarge},
		{rafthttp.ErrLocalMessage, rafthttp.DropLocal},
		{rafthttp.ErrPaused, rafthttp.DropPaused},
		{rafthttp.ErrStopped, rafthttp.DropEnded},
		{rafthttp.ErrPeerRemoved, rafthttp.DropEnded},
		{rafthttp.ErrStalled, rafthttp.DropDisconnected},
		{io.ErrUnexpectedEOF, rafthttp.DropDisconnected},
		{rafthttp.ErrClusterIDMismatch, rafthttp.DropRefused},
		{&rafthttp.StatusError{Code: 500}, rafthttp.DropRefused},
		{&net.OpError{Err: rafthttp.ErrStopped}, rafthttp.DropEnded},
	} {
		require.Equal(t, tt.want, rafthttp.DropReasonOf(tt.cause), "%v", tt.cause)
	}
}

// TestStatusOfStreams: age, reconnects and failed dials, in both directions.
func TestStatusOfStreams(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		a, b := testmember.StartSimulated(t, n, 1, nil), testmember.StartSimulated(t, n, 2, nil)
		testmember.Connect(t, a, b)
		testmember.Within(t, time.Second, func() bool {
			return streamOf(t, a, 2, "message", rafthttp.StreamIn).Up && streamOf(t, a, 2, "msgapp", rafthttp.StreamIn).Up
		})
		connected := time.Now()
		time.Sleep(time.Minute)
		for _, name := range []string{"message", "msgapp"} {
			for _, direction := range []string{rafthttp.StreamIn, rafthttp.StreamOut} {
				s := streamOf(t, a, 2, name, direction)
				require.True(t, s.Up)
				require.EqualValues(t, 1, s.Connects)
				require.WithinDuration(t, connected, s.Since, time.Second)
				require.Positive(t, s.Bytes, "link heartbeats")
			}
		}
		require.Zero(t, testmember.PeerStatus(t, a, 2).Disconnects)
		require.Equal(t, "3.7.0", testmember.PeerStatus(t, a, 2).Version)

		b.Stop() // refuses with 503
		testmember.Within(t, time.Second, func() bool { return streamOf(t, a, 2, "message", rafthttp.StreamIn).DialFailures > 2 })
		require.False(t, streamOf(t, a, 2, "message", rafthttp.StreamIn).Up)
		require.Zero(t, streamOf(t, a, 2, "message", rafthttp.StreamIn).Since)
		require.Zero(t, streamOf(t, a, 2, "message", rafthttp.StreamOut).Since)
		testmember.Within(t, time.Minute, func() bool { return testmember.PeerStatus(t, a, 2).Disconnects == 1 })
		require.False(t, testmember.PeerStatus(t, a, 2).Active)

		testmember.DialStream(t, n.Host("m2").DialContext, a, "message", 2)
		testmember.Within(t, time.Second, func() bool { return streamOf(t, a, 2, "message", rafthttp.StreamOut).Connects == 2 })
	})
}

// TestStatusOfTraffic: both ends count the same bytes, whatever way they go.
func TestStatusOfTraffic(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		a := testmember.StartSimulated(t, n, 1, nil)
		b := testmember.StartSimulated(t, n, 2, func(tr *rafthttp.Transport) { tr.Snapshotter = testmember.SavesAll })
		testmember.Connect(t, a, b)
		db := testmember.RandomBytes(1 << 20)
		a.Send([]*raftpb.Message{testmember.MsgApp(2, 1, 1, db), testmember.Heartbeat(2, 1, 1), testmember.Message(raftpb.MsgSnap, 2)})
		m := testmember.NewSnapshot(&testmember.Database{Reader: bytes.NewReader(db)}, int64(len(db)))
		a.SendSnapshot(m)
		require.True(t, <-m.CloseNotify())
		testmember.Within(t, time.Minute, func() bool { return len(b.Recorder.Received()) == 4 })
		testmember.Within(t, time.Minute, func() bool {
			return testmember.PeerStatus(t, a, 2).SentBytes == testmember.PeerStatus(t, b, 1).ReceivedBytes
		})
		require.Greater(t, testmember.PeerStatus(t, a, 2).SentBytes, uint64(2*len(db)))
		require.Zero(t, testmember.PeerStatus(t, a, 2).SendFailures)
		require.Zero(t, testmember.PeerStatus(t, b, 1).ReceiveFailures)
	})
}

func TestStatusOfProbes(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		a, b := testmember.StartSimulated(t, n, 1, nil), testmember.StartSimulated(t, n, 2, nil)
		n.Link("m1", "m2").SetDelay(30 * time.Millisecond)
		testmember.Connect(t, a, b)
		testmember.Within(t, time.Minute, func() bool { return testmember.PeerStatus(t, a, 2).Probes == 2 })
		st := testmember.PeerStatus(t, a, 2)
		require.GreaterOrEqual(t, st.RTT, 30*time.Millisecond)
		require.Zero(t, st.ProbeFailures)
		require.WithinDuration(t, time.Now(), st.ProbedAt, time.Second)
		n.Host("m2").Crash()
		testmember.Within(t, time.Minute, func() bool { return testmember.PeerStatus(t, a, 2).ProbeFailures == 1 })
		require.Equal(t, st.ProbedAt, testmember.PeerStatus(t, a, 2).ProbedAt)
	})
}

func TestStatusOfCertificates(t *testing.T) {
	ca := testtls.NewAuthority(t)
	a := testtls.Start(t, "https", 1, ca.Member(t, 1), nil)
	b := testtls.Start(t, "https", 2, ca.Member(t, 2), nil)
	a.AddPeer(2, []string{b.URL})
	testmember.Eventually(t, func() bool { return !testmember.PeerStatus(t, a, 2).CertificateExpires.IsZero() })
	require.WithinDuration(t, time.Now().Add(time.Hour), testmember.PeerStatus(t, a, 2).CertificateExpires, 10*time.Minute)
}
