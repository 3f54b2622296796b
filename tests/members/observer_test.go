package members_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/memnet"
)

// tally sums what the hooks of an Observer are told, by lane.
type tally struct {
	mu                sync.Mutex
	messages, bytes   map[string]int64
	calls             map[string]int
	slow              []string
	probes, badProbes int
	droppedBy         map[rafthttp.DropReason]int
	became            []bool
	unexpectedMembers int
	expected          types.ID
	negativeOrAbsurd  int
}

func newTally(expected types.ID) *tally {
	return &tally{
		expected: expected, messages: map[string]int64{}, bytes: map[string]int64{}, calls: map[string]int{},
		droppedBy: map[rafthttp.DropReason]int{},
	}
}

func (t *tally) note(id types.ID, f func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if id != t.expected {
		t.unexpectedMembers++
	}
	f()
}

func (t *tally) observer() *rafthttp.Observer {
	return &rafthttp.Observer{
		PeerState: func(id types.ID, active bool, cause error) {
			t.note(id, func() {
				t.became = append(t.became, active)
				if active != (cause == nil) {
					t.negativeOrAbsurd++
				}
			})
		},
		Sent: func(id types.ID, lane string, n int, bytes int64, took time.Duration) {
			t.note(id, func() {
				t.messages[lane] += int64(n)
				t.bytes[lane] += bytes
				if n > 0 {
					t.calls[lane]++
				}
				if took < 0 || bytes <= 0 || n < 0 {
					t.negativeOrAbsurd++
				}
			})
		},
		Received: func(id types.ID, lane string, n int, bytes int64) {
			t.note(id, func() {
				t.messages[lane] += int64(n)
				t.bytes[lane] += bytes
				t.calls[lane]++
			})
		},
		Dropped: func(id types.ID, _ string, n int, cause error) {
			t.note(id, func() { t.droppedBy[rafthttp.DropReasonOf(cause)] += n })
		},
		SlowProcess: func(id types.ID, lane string, kind raftpb.MessageType, took time.Duration) {
			t.note(id, func() { t.slow = append(t.slow, strings.Join([]string{lane, kind.String(), took.String()}, " ")) })
		},
		Probed: func(id types.ID, rtt, _ time.Duration, err error) {
			t.note(id, func() {
				t.probes++
				if err != nil || rtt <= 0 {
					t.badProbes++
				}
			})
		},
	}
}

// observed is a pair whose members have tallies.
func observed(t *testing.T, n *memnet.Network, tune func(*rafthttp.Transport)) (a, b *testmember.Member, ofA, ofB *tally) {
	t.Helper()
	ofA, ofB = newTally(2), newTally(1)
	a = testmember.StartSimulated(t, n, 1, func(tr *rafthttp.Transport) { tr.Observer = ofA.observer() })
	b = testmember.StartSimulated(t, n, 2, func(tr *rafthttp.Transport) {
		tr.Observer = ofB.observer()
		if tune != nil {
			tune(tr)
		}
	})
	n.Link("m1", "m2").SetDelay(time.Millisecond)
	testmember.Connect(t, a, b)
	testmember.Within(t, time.Second, func() bool { return a.ActivePeers() == 1 && b.ActivePeers() == 1 })
	return a, b, ofA, ofB
}

// TestObserverOfTraffic: the hooks are told what Status counts.
func TestObserverOfTraffic(t *testing.T) {
	if testmember.TinyBuffers {
		t.Skip("it is about large batches")
	}
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		a, b, ofA, ofB := observed(t, n, nil)
		for i := range uint64(500) {
			a.Send([]*raftpb.Message{testmember.MsgApp(2, 1, i, make([]byte, 100)), testmember.Heartbeat(2, 1, i)})
		}
		a.Send([]*raftpb.Message{testmember.Message(raftpb.MsgSnap, 2), testmember.Message(raftpb.MsgProp, 2)})
		testmember.Within(t, time.Minute, func() bool { return len(b.Recorder.Received()) == 1002 })
		time.Sleep(time.Minute)
		ofA.mu.Lock()
		defer ofA.mu.Unlock()
		ofB.mu.Lock()
		defer ofB.mu.Unlock()
		for _, lane := range []string{"msgapp", "message", "pipeline"} {
			l := testmember.LaneOf(a, 2, lane)
			require.EqualValues(t, l.Messages, ofA.messages[lane], lane)
			require.EqualValues(t, l.Bytes, ofA.bytes[lane], lane)
			require.EqualValues(t, l.Batches, ofA.calls[lane], lane)
		}
		require.EqualValues(t, 500, ofA.messages["msgapp"])
		require.EqualValues(t, 501, ofA.messages["message"])
		for _, lane := range []string{"append", "control", "proposal"} {
			l := testmember.LaneOf(b, 1, lane)
			if lane == "append" { // the MsgSnap was posted
				require.EqualValues(t, l.Messages, ofB.messages[lane]+ofB.messages["post"])
				continue
			}
			require.EqualValues(t, l.Messages, ofB.messages[lane], lane)
			require.EqualValues(t, l.Bytes, ofB.bytes[lane], lane)
		}
		require.EqualValues(t, 1, ofB.messages["post"])
		require.Equal(t, ofA.bytes["pipeline"], ofB.bytes["post"])
		require.Less(t, ofB.calls["append"], 500, "once a batch")
		require.GreaterOrEqual(t, ofA.probes, 2, "every 28 s")
		require.Zero(t, ofA.badProbes)
		require.Equal(t, []bool{true}, ofA.became)
		require.Zero(t, ofA.unexpectedMembers+ofB.unexpectedMembers+ofA.negativeOrAbsurd+ofB.negativeOrAbsurd)
	})
}

func TestObserverOfFailures(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		a, b, ofA, _ := observed(t, n, nil)
		a.CutPeer(2)
		a.Send([]*raftpb.Message{testmember.Heartbeat(2, 1, 1)})
		a.MendPeer(2)
		n.Host("m2").Crash()
		b.Stop()
		testmember.Within(t, time.Minute, func() bool { return a.ActivePeers() == 0 })
		a.Send([]*raftpb.Message{testmember.Heartbeat(2, 1, 2)})
		time.Sleep(time.Minute)
		ofA.mu.Lock()
		defer ofA.mu.Unlock()
		require.Equal(t, []bool{true, false}, ofA.became)
		require.Equal(t, map[rafthttp.DropReason]int{rafthttp.DropPaused: 1, rafthttp.DropDisconnected: 1}, ofA.droppedBy)
		require.Positive(t, ofA.badProbes)
		require.Zero(t, ofA.unexpectedMembers+ofA.negativeOrAbsurd)
	})
}

// TestSlowProcess: what takes as long as the threshold is told, with its lane and
// its time, and nothing else.
func TestSlowProcess(t *testing.T) {
	for _, tt := range []struct {
		name      string
		threshold time.Duration
		want      []string
	}{
		{"default", 0, []string{"control MsgHeartbeat 100ms", "append MsgApp 2s", "post MsgSnap 3s"}},
		{"1 s", time.Second, []string{"append MsgApp 2s", "post MsgSnap 3s"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
				a, b, _, ofB := observed(t, n, func(tr *rafthttp.Transport) { tr.Observer.SlowProcessAfter = tt.threshold })
				b.Recorder.OnProcess = func(_ context.Context, m *raftpb.Message) error {
					time.Sleep(map[raftpb.MessageType]time.Duration{
						raftpb.MsgHeartbeat: 100 * time.Millisecond, raftpb.MsgApp: 2 * time.Second, raftpb.MsgSnap: 3 * time.Second,
						raftpb.MsgVote: 99 * time.Millisecond,
					}[m.GetType()])
					b.Recorder.Keep(m)
					return nil
				}
				for _, typ := range []raftpb.MessageType{raftpb.MsgHeartbeat, raftpb.MsgApp, raftpb.MsgSnap, raftpb.MsgVote} {
					a.Send([]*raftpb.Message{testmember.Message(typ, 2)})
				}
				testmember.Within(t, time.Minute, func() bool { return len(b.Recorder.Received()) == 4 })
				time.Sleep(time.Second)
				ofB.mu.Lock()
				defer ofB.mu.Unlock()
				require.ElementsMatch(t, tt.want, ofB.slow)
			})
		})
	}
}
