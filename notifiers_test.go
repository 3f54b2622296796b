package rafthttp_test

import (
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/memnet"
	"github.com/seed-4d73690b/rafthttp/snap"
)

// teller is a callback that stands still at a barrier, and keeps what it was told.
type teller struct {
	at *testmember.Barrier

	mu            sync.Mutex
	running, most int
	told          []string
}

func (c *teller) tell(id types.ID, what string) {
	if id != 2 {
		return
	}
	c.mu.Lock()
	c.running++
	c.most = max(c.most, c.running)
	c.mu.Unlock()
	c.at.Pass()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.running--
	c.told = append(c.told, what)
}

// tellingRaft is a Raft that tells one kind of reports.
type tellingRaft struct {
	testmember.Recorder
	*teller
	snapshots bool
}

func (r *tellingRaft) ReportUnreachable(id uint64) {
	if !r.snapshots {
		r.tell(types.ID(id), "unreachable")
	}
}

func (r *tellingRaft) ReportSnapshot(id uint64, s raft.SnapshotStatus) {
	if r.snapshots {
		r.tell(types.ID(id), strconv.Itoa(int(s)))
	}
}

// tellingLog tells of what changes the membership.
type tellingLog struct {
	zapcore.Core
	*teller
}

func (l tellingLog) Enabled(zapcore.Level) bool { return true }

func (l tellingLog) With([]zapcore.Field) zapcore.Core { return l }

func (l tellingLog) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	switch e.Message {
	case "added a peer", "removed a peer", "receiving database snapshot":
		return ce.AddCore(e, l)
	}
	return ce
}

func (l tellingLog) Write(e zapcore.Entry, _ []zapcore.Field) error {
	l.tell(2, e.Message)
	return nil
}

// toldOfMembers are the callbacks that are told what happens to a member in order.
var toldOfMembers = map[string]func(tr *rafthttp.Transport, c *teller){
	"PeerState": func(tr *rafthttp.Transport, c *teller) {
		tr.Observer = &rafthttp.Observer{PeerState: func(id types.ID, active bool, _ error) { c.tell(id, strconv.FormatBool(active)) }}
	},
	"Dropped": func(tr *rafthttp.Transport, c *teller) {
		tr.Observer = &rafthttp.Observer{Dropped: func(id types.ID, _ string, n int, _ error) { c.tell(id, strconv.Itoa(n)) }}
	},
	"SnapshotSent": func(tr *rafthttp.Transport, c *teller) {
		tr.Observer = &rafthttp.Observer{SnapshotSent: func(id types.ID, index uint64, _ int64, _ time.Duration, _ error) { c.tell(id, fmt.Sprint(index)) }}
	},
	"SnapshotReceived": func(tr *rafthttp.Transport, c *teller) {
		tr.Observer = &rafthttp.Observer{SnapshotReceived: func(id types.ID, index uint64, _ int64, _ time.Duration, _ error) { c.tell(id, fmt.Sprint(index)) }}
	},
	"ReportUnreachable": func(tr *rafthttp.Transport, c *teller) { tr.Raft = &tellingRaft{teller: c} },
	"ReportSnapshot":    func(tr *rafthttp.Transport, c *teller) { tr.Raft = &tellingRaft{teller: c, snapshots: true} },
	"Logger":            func(tr *rafthttp.Transport, c *teller) { tr.Logger = zap.New(tellingLog{zapcore.NewNopCore(), c}) },
}

const failed = "2" // raft.SnapshotFailure

// TestToldOfOneMember: what Raft, the Observer and the log are told of one member comes in order, and one after another, however
// slow they are, also while it becomes a peer, is removed, or added again; which does not wait for them.
func TestToldOfOneMember(t *testing.T) {
	const added, removed, receiving = "added a peer", "removed a peer", "receiving database snapshot"
	add := func(a *testmember.Member) { a.AddPeer(2, []string{testmember.URLOf(2)}) }
	for name, tc := range map[string]struct {
		begin, change func(a *testmember.Member)
		want          map[string][]string
	}{
		"replaced": {add, func(a *testmember.Member) { a.RemovePeer(2); add(a) }, map[string][]string{
			"PeerState": {"true", "false", "true"}, "Dropped": {"1", "2"}, "SnapshotSent": {"7", "8"}, "SnapshotReceived": {"7", "8"},
			"ReportSnapshot": {failed, failed}, "ReportUnreachable": {"unreachable"},
			"Logger": {added, receiving, removed, added, receiving},
		}},
		"removed": {add, func(a *testmember.Member) { a.RemovePeer(2) }, map[string][]string{
			"PeerState": {"true", "false"}, "Dropped": {"1"}, "SnapshotSent": {"7"}, "SnapshotReceived": {"7", "8"},
			"ReportSnapshot": {failed, failed}, "ReportUnreachable": {"unreachable"},
			"Logger": {added, receiving, removed, receiving},
		}},
		"remote": {func(a *testmember.Member) { a.AddRemote(2, []string{testmember.URLOf(2)}) }, add, map[string][]string{
			"PeerState": {"true"}, "Dropped": {"1", "2"}, "SnapshotSent": {"8"}, "SnapshotReceived": {"7", "8"},
			"ReportSnapshot": {failed, failed}, "ReportUnreachable": {"unreachable"},
			"Logger": {receiving, added, receiving},
		}},
		"stranger": {func(*testmember.Member) {}, add, map[string][]string{
			"PeerState": {"true"}, "Dropped": {"2"}, "SnapshotSent": {"8"}, "SnapshotReceived": {"7", "8"},
			"ReportSnapshot": {failed, failed}, "ReportUnreachable": {"unreachable"},
			"Logger": {receiving, added, receiving},
		}},
	} {
		for callback, install := range toldOfMembers {
			t.Run(name+"/"+callback, func(t *testing.T) {
				testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
					testmember.SilentHost(n, 2)
					c := &teller{at: testmember.NewBarrier()}
					open := sync.OnceFunc(c.at.Open)
					a := testmember.StartSimulated(t, n, 1, testmember.Tuned(testmember.Receives(testmember.SavesAll), func(tr *rafthttp.Transport) { install(tr, c) }))
					t.Cleanup(open)
					c.at.Close()
					testmember.Soon(t, func() { tc.begin(a) })
					happens(t, a, 1)
					testmember.Soon(t, func() { tc.change(a) })
					happens(t, a, 2)
					require.Equal(t, 1, c.running)
					open()
					synctest.Wait()
					require.Equal(t, 1, c.most, "two at once: %v", c.told)
					if callback == "ReportUnreachable" { // once or more often
						c.told = slices.Compact(c.told)
					}
					require.Equal(t, tc.want[callback], c.told)
					require.LessOrEqual(t, a.MembersToldOf(), 1)
					a.RemovePeer(2)
					synctest.Wait()
					require.Zero(t, a.MembersToldOf())
				})
			})
		}
	}
}

// happens has all happen to member 2 that anybody is told of, for the nth time.
func happens(t *testing.T, a *testmember.Member, n int) {
	t.Helper()
	index := uint64(6 + n)
	testmember.Soon(t, func() {
		testmember.Ask(t, a.Transport, "POST", "/raft/snapshot", testmember.PeerHeader(nil), testmember.SnapshotBody(t, testmember.MsgSnap(1, 2, index), "db"))
	})
	a.CutPeer(2)
	msgs := make([]*raftpb.Message, n)
	for i := range msgs {
		msgs[i] = testmember.Heartbeat(2, 1, 1)
	}
	testmember.Soon(t, func() {
		a.Send(msgs)
		a.SendSnapshot(snap.NewMessage(testmember.MsgSnap(2, 1, index), nil, 0))
	})
	synctest.Wait()
	a.MendPeer(2)
}

// TestStateChangesOfSuccessors: however quickly peers with one id follow each other, they are told active and inactive in turn, and
// the last that is told is true.
func TestStateChangesOfSuccessors(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1)) // so that the end of a peer comes after the beginning of the next
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		testmember.SilentHost(n, 2)
		seen := &testmember.States{}
		a := testmember.StartSimulated(t, n, 1, func(tr *rafthttp.Transport) {
			tr.Observer = &rafthttp.Observer{PeerState: func(_ types.ID, active bool, _ error) { seen.Told(active) }}
		})
		const successors = 300
		for range successors {
			a.RemovePeer(2)
			a.AddPeer(2, []string{testmember.URLOf(2)})
			a.Heard(2)
		}
		synctest.Wait()
		told := seen.List()
		for i, active := range told {
			require.Equal(t, i%2 == 0, active, "the %dth of %v", i, told)
		}
		require.Equal(t, 1, len(told)%2, "it is active")
		require.LessOrEqual(t, len(told), 2*successors)
	})
}

// TestToldOfStrangersIsBounded: members that are no peers cost a bounded number of goroutines while a hook stands still over each.
func TestToldOfStrangersIsBounded(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		at := testmember.NewBarrier()
		a := testmember.StartSimulated(t, n, 1, testmember.Tuned(testmember.Receives(testmember.SavesAll), func(tr *rafthttp.Transport) {
			tr.Observer = &rafthttp.Observer{SnapshotReceived: func(types.ID, uint64, int64, time.Duration, error) { at.Pass() }}
		}))
		t.Cleanup(at.Open)
		at.Close()
		for i := range types.ID(200) {
			h := testmember.PeerHeader(map[string]string{"X-Server-From": (1000 + i).String()})
			testmember.Soon(t, func() {
				require.Equal(t, 204, testmember.Ask(t, a.Transport, "POST", "/raft/snapshot", h, testmember.SnapshotBody(t, testmember.MsgSnap(1, 1000+i, 7), "db")).Code)
			})
		}
		synctest.Wait()
		require.Equal(t, 64, a.MembersToldOf())
		a.AddPeer(2, testmember.SilentHost(n, 2)) // which the application may do in any case
		require.Equal(t, 65, a.MembersToldOf())
	})
}

// TestSnapshotOfAMemberThatBecomesAPeer: of one transfer the progress is told first, and then the end.
func TestSnapshotOfAMemberThatBecomesAPeer(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		c := &teller{at: testmember.NewBarrier()}
		a := testmember.StartSimulated(t, n, 1, testmember.Tuned(testmember.Receives(testmember.SavesAll), func(tr *rafthttp.Transport) {
			tr.Observer = &rafthttp.Observer{
				SnapshotProgress: func(st rafthttp.SnapshotStatus) { c.tell(st.Peer, "progress") },
				SnapshotReceived: func(id types.ID, _ uint64, _ int64, _ time.Duration, _ error) { c.tell(id, "end") },
			}
		}))
		open := sync.OnceFunc(c.at.Open)
		t.Cleanup(open)
		c.at.Close()
		b := testmember.StartSimulated(t, n, 2, nil)
		b.AddPeer(1, []string{a.URL})
		m := snap.NewMessage(testmember.MsgSnap(1, 2, 7), testmember.Throttled(testmember.RandomBytes(20<<10), 1<<10, time.Second), 20<<10)
		b.SendSnapshot(m)
		time.Sleep(10 * time.Second)
		a.AddPeer(2, []string{b.URL})
		require.True(t, <-m.CloseNotify())
		open()
		synctest.Wait()
		require.Equal(t, 1, c.most)
		require.Equal(t, []string{"progress", "progress", "end"}, c.told)
	})
}
