package rafthttp_test

import (
	"context"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
)

// BenchmarkMsgApp sends appends from one member to another over loopback, with
// a bounded number in flight, so that nothing is dropped. Both members are in
// the process, so that time and allocations are those of both ends.
func BenchmarkMsgApp(b *testing.B) {
	for _, bb := range []struct {
		name          string
		entries, size int
		inFlight      int64
	}{
		{"64B", 1, 64, 1024},
		{"64x1KiB", 64, 1 << 10, 256},
		{"1MiB", 1, 1 << 20, 16},
	} {
		b.Run(bb.name, func(b *testing.B) { benchmarkMsgApp(b, bb.entries, bb.size, bb.inFlight) })
	}
}

func benchmarkMsgApp(b *testing.B, entries, size int, inFlight int64) {
	var processed atomic.Int64
	wake := make(chan struct{}, 1)
	sender, receiver := testmember.Start(b, 1, nil), testmember.Start(b, 2, nil)
	receiver.Recorder.OnProcess = func(context.Context, *raftpb.Message) error {
		processed.Add(1)
		select {
		case wake <- struct{}{}:
		default:
		}
		return nil
	}
	testmember.Connect(b, sender, receiver)
	msgs := appends(entries, size, int(2*inFlight)) // none is changed before it was written
	waitFor := func(n int64) {
		for processed.Load() < n {
			select {
			case <-wake:
			case <-time.After(20 * time.Second):
				b.Fatalf("%d of %d arrived; sender %+v, receiver %+v", processed.Load(), n, testmember.LaneOf(sender, 2, "msgapp"), testmember.LaneOf(receiver, 1, "append"))
			}
		}
	}
	b.SetBytes(int64(entries * size))
	b.ReportAllocs()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	b.ResetTimer()
	for i := range int64(b.N) {
		waitFor(i - inFlight + 1)
		sender.Send(msgs[i%int64(len(msgs))])
	}
	waitFor(int64(b.N))
	b.StopTimer()
	runtime.ReadMemStats(&after)
	b.ReportMetric(float64(after.Mallocs-before.Mallocs)/float64(b.N), "allocs/msg")
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msgs/s")
	for m, lanes := range map[*testmember.Member][]string{sender: {"msgapp", "message", "pipeline"}, receiver: {"append"}} {
		for _, name := range lanes {
			require.Zero(b, testmember.LaneOf(m, 3-m.ID, name).Dropped, name)
		}
	}
	testmember.Eventually(b, func() bool { return testmember.LaneOf(sender, 2, "msgapp").Messages == uint64(b.N) }) // counted once they are written
}

// appends are n appends in slices of one, each with data of its own kind, that
// continue each other as those of a leader do.
func appends(entries, size, n int) [][]*raftpb.Message {
	all := make([][]*raftpb.Message, n)
	data := make([]byte, size)
	for i := range all {
		m := testmember.MsgApp(2, 1, uint64(i*entries), data)
		for j := 1; j < entries; j++ {
			m.Entries = append(m.Entries, &raftpb.Entry{
				Term: new(uint64(1)), Index: new(uint64(i*entries + j + 1)), Data: data,
			})
		}
		all[i] = []*raftpb.Message{m}
	}
	return all
}

// sink reads a stream of a member and counts, without allocating.
type sink struct {
	total, target atomic.Int64 // bytes
	reached       chan struct{}
}

func drain(c *testmember.Stream) *sink {
	s := &sink{reached: make(chan struct{}, 1)}
	s.target.Store(1 << 62)
	go func() { // ends with the connection
		buf := make([]byte, 256<<10)
		for {
			n, err := c.Body.Read(buf)
			if err != nil {
				return
			}
			if s.total.Add(int64(n)) == s.target.Load() {
				s.reached <- struct{}{}
			}
		}
	}()
	return s
}

// TestSendAllocatesNothing: in a steady state, sending costs no allocation for
// each message, neither in Send nor in what writes it. What a burst costs, such
// as the goroutine that writes it, is spread over its messages.
func TestSendAllocatesNothing(t *testing.T) {
	if testmember.RaceEnabled {
		t.Skip("the race detector allocates")
	}
	for name, size := range map[string]int{"small": 64, "large, by writev": 16 << 10} {
		t.Run(name, func(t *testing.T) {
			// No probes, heartbeats or dials in between.
			a := testmember.Start(t, 1, func(tr *rafthttp.Transport) { tr.ReadTimeout, tr.DialRetryFrequency = time.Hour, 1e-3 })
			a.AddPeer(2, []string{testmember.RefusingURL})
			apps := drain(testmember.DialStream(t, testmember.DialLoopback, a, "msgapp", 2))
			beats := drain(testmember.DialStream(t, testmember.DialLoopback, a, "message", 2))
			testmember.WaitStreams(t, a, 2)
			const batch = 500
			var msgs []*raftpb.Message
			for _, m := range appends(1, size, batch) {
				msgs = append(msgs, m[0], testmember.Heartbeat(2, 1, m[0].GetIndex()))
			}
			var appBytes, beatBytes int64 // of one batch, once the stream has begun
			for round := range 20 {       // and buffers grow to what they need
				beforeApps, beforeBeats := apps.total.Load(), beats.total.Load()
				a.Send(msgs)
				testmember.Eventually(t, func() bool {
					return testmember.LaneOf(a, 2, "msgapp").Messages == uint64(batch*(round+1)) && testmember.LaneOf(a, 2, "message").Messages == uint64(batch*(round+1)) &&
						apps.total.Load() == int64(testmember.LaneOf(a, 2, "msgapp").Bytes) && beats.total.Load() == int64(testmember.LaneOf(a, 2, "message").Bytes)
				})
				appBytes, beatBytes = apps.total.Load()-beforeApps, beats.total.Load()-beforeBeats
			}
			late := time.After(20 * time.Second)
			perBatch := testing.AllocsPerRun(10, func() {
				apps.target.Store(apps.total.Load() + appBytes)
				beats.target.Store(beats.total.Load() + beatBytes)
				a.Send(msgs)
				for _, s := range []*sink{apps, beats} {
					select {
					case <-s.reached:
					case <-late:
						t.Fatal("the batch does not arrive")
					}
				}
			})
			t.Logf("%.1f allocations for %d messages", perBatch, len(msgs))
			require.Less(t, perBatch/float64(len(msgs)), 0.05)
			require.Zero(t, testmember.LaneOf(a, 2, "msgapp").Dropped+testmember.LaneOf(a, 2, "message").Dropped)
		})
	}
}
