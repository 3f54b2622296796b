package groups_test

import (
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/stacks"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/memnet"
	"github.com/seed-4d73690b/rafthttp/snap"
)

// opened notes the order in which the databases of groups are opened, and how many are open.
type opened struct {
	mu         sync.Mutex
	groups     []uint64
	open, most int
}

func (o *opened) message(group uint64, priority int) *snap.Message {
	m := snap.NewMessage(testmember.MsgSnap(2, 1, group), nil, 8)
	m.Priority = priority
	m.Open = func() (io.ReadCloser, error) {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.groups = append(o.groups, group)
		o.open++
		o.most = max(o.most, o.open)
		return &openDatabase{strings.NewReader("database"), o}, nil
	}
	return m
}

type openDatabase struct {
	io.Reader
	of *opened
}

func (d *openDatabase) Close() error {
	d.of.mu.Lock()
	defer d.of.mu.Unlock()
	d.of.open--
	return nil
}

// waiting are groups of two nodes, of which the first sends one snapshot at a time. Group 1 is sending one, for 20 minutes, and then
// group 202 does, and all others wait in between.
type waiting struct {
	ma    *testmember.Member
	all   []joined // by id; [0] is not used
	ended []<-chan bool
	opened
}

const (
	waitingGroups = 10_000
	firstSending  = 1
	lastOrdered   = 201 // those between have the priorities 0 to 4
	nextSending   = 202 // this and those behind it have the priority -1
)

func startWaiting(t *testing.T, n *memnet.Network) *waiting {
	t.Helper()
	w := &waiting{all: make([]joined, waitingGroups+1), ended: make([]<-chan bool, waitingGroups+1)}
	w.ma = testmember.StartSimulated(t, n, 1, func(tr *rafthttp.Transport) { tr.Raft, tr.MaxSnapshots = rafthttp.NoRaft{}, 1 })
	mb := startNode(t, n, 2)
	for id := uint64(1); id <= waitingGroups; id++ {
		w.all[id] = join(t, w.ma, id, nil)
		w.all[id].AddPeer(2, []string{testmember.URLOf(2)})
		if id <= nextSending {
			join(t, mb, id, saves(testmember.SavesAll)).AddPeer(1, []string{testmember.URLOf(1)})
		}
	}
	time.Sleep(time.Second)
	return w
}

func (w *waiting) send(id uint64, m *snap.Message) {
	w.ended[id] = m.CloseNotify()
	w.all[id].SendSnapshot(m)
}

// slow is a snapshot that takes 20 minutes.
func (w *waiting) slow(id uint64, priority int) {
	m := snap.NewMessage(testmember.MsgSnap(2, 1, id), testmember.Throttled(make([]byte, 1200), 1, time.Second), 1200)
	m.Priority = priority
	w.send(id, m)
}

// requireEnd requires that a snapshot has exactly one result.
func (w *waiting) requireEnd(t *testing.T, id uint64, want raft.SnapshotStatus) {
	t.Helper()
	require.Equal(t, []raft.SnapshotStatus{want}, w.all[id].raft.SnapshotReports(), id)
	require.Equal(t, want == raft.SnapshotFinish, <-w.ended[id], id)
	require.Empty(t, w.ended[id], id)
}

// TestWaitingGroupSnapshots: those of thousands of groups to a node wait for their turn without a goroutine or an open database each. None
// fails for having waited, they are sent in the order of their priorities, and each has one report and one value of CloseNotify,
// whatever ends it.
func TestWaitingGroupSnapshots(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		w := startWaiting(t, n)
		w.slow(firstSending, 0)
		synctest.Wait()
		before := stacks.InBubble()
		bounded := func() {
			t.Helper()
			require.Less(t, stacks.InBubble(), before+20)
		}
		var want [5][]uint64
		for id := uint64(firstSending + 1); id <= lastOrdered; id++ {
			priority := int(id * 7 % 5)
			want[4-priority] = append(want[4-priority], id)
			w.send(id, w.message(id, priority))
		}
		w.slow(nextSending, -1)
		for id := uint64(nextSending + 1); id <= waitingGroups; id++ {
			w.send(id, w.message(id, -1))
		}
		bounded()
		time.Sleep(15 * time.Minute)
		synctest.Wait()
		bounded()
		for id := uint64(nextSending + 1); id <= 3000; id++ {
			w.all[id].RemovePeer(2)
		}
		bounded()
		synctest.Wait()
		for id := uint64(3001); id <= 6000; id++ {
			w.all[id].Stop()
			require.Len(t, w.all[id].raft.SnapshotReports(), 1)
		}
		bounded()
		for id := uint64(nextSending + 1); id <= 6000; id++ {
			w.requireEnd(t, id, raft.SnapshotFailure)
		}
		require.Empty(t, w.groups, "one was opened before its turn")
		time.Sleep(15 * time.Minute)
		require.Equal(t, slices.Concat(want[:]...), w.groups)
		require.Equal(t, 1, w.most)
		for id := uint64(firstSending); id <= lastOrdered; id++ {
			w.requireEnd(t, id, raft.SnapshotFinish)
		}
		w.ma.Stop()
		for id := uint64(nextSending); id <= waitingGroups; id++ {
			if id == nextSending || id > 6000 {
				w.requireEnd(t, id, raft.SnapshotFailure)
			}
		}
		require.Len(t, w.groups, lastOrdered-firstSending)
		require.Zero(t, w.open)
	})
}

// TestGroupSnapshotWaitsForTheReceiver: a snapshot that has its turn does not fail for having waited for a place at the receiver, however
// long another node's takes.
func TestGroupSnapshotWaitsForTheReceiver(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		m1, m3 := startNode(t, n, 1), startNode(t, n, 3)
		m2 := testmember.StartSimulated(t, n, 2, func(tr *rafthttp.Transport) { tr.Raft, tr.MaxSnapshots = rafthttp.NoRaft{}, 1 })
		a, _ := connect(t, m1, m2, 7, testmember.SavesAll)
		c := join(t, m3, 8, nil)
		c.AddPeer(2, []string{testmember.URLOf(2)})
		join(t, m2, 8, saves(testmember.SavesAll)).AddPeer(3, []string{testmember.URLOf(3)})
		time.Sleep(time.Second)
		c.SendSnapshot(snap.NewMessage(testmember.MsgSnap(2, 3, 7), testmember.Throttled(make([]byte, 1500), 1, time.Second), 1500))
		time.Sleep(10 * time.Second)
		m, db := small("database")
		a.SendSnapshot(m)
		time.Sleep(20 * time.Minute)
		require.Empty(t, a.raft.SnapshotReports())
		testmember.RequireEnd(t, m, db, true, a.raft, raft.SnapshotFinish)
	})
}
