package security_test

import (
	"io"
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
	"github.com/seed-4d73690b/rafthttp/snap"
)

// TestPostOfARemovedMember: it is refused before Process, whatever it brings. 403,
// upon which its sender stops, is for a message of its own only.
func TestPostOfARemovedMember(t *testing.T) {
	var saved atomic.Int32
	a := testmember.Start(t, 1, testmember.Receives(testmember.Saver(func(r io.Reader, _ uint64) (int64, error) {
		saved.Add(1)
		return io.Copy(io.Discard, r)
	})))
	a.Recorder.Removed = func(id uint64) bool { return id == 3 }
	of := func(mt raftpb.MessageType, from uint64) *raftpb.Message {
		return &raftpb.Message{Type: mt.Enum(), To: new(uint64(1)), From: new(from)}
	}
	tests := []struct {
		name string
		from string // header
		m    *raftpb.Message
		code int
	}{
		{"a vote of its own", "3", of(raftpb.MsgVote, 3), 403},
		{"a proposal of its own", "3", of(raftpb.MsgProp, 3), 403},
		{"sent by who knows", "", of(raftpb.MsgVote, 3), 403},
		{"passed on by it", "3", of(raftpb.MsgProp, 2), 500},
		{"of nobody, passed on by it", "3", of(raftpb.MsgProp, 0), 500},
		{"passed on by another", "2", of(raftpb.MsgProp, 3), 500},
		{"of another", "2", of(raftpb.MsgVote, 2), 204},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			h := testmember.PeerHeader(map[string]string{"X-Server-From": tc.from})
			before, kept := len(a.Recorder.Received()), saved.Load()
			require.Equal(t, tc.code, testmember.Ask(t, a.Transport, "POST", "/raft", h, testmember.PostBody(t, tc.m)).Code)
			m := testmember.MsgSnap(1, types.ID(tc.m.GetFrom()), 7)
			require.Equal(t, tc.code, testmember.Ask(t, a.Transport, "POST", "/raft/snapshot", h, testmember.SnapshotBody(t, m, "db")).Code)
			want := 0
			if tc.code == 204 {
				want = 2
			}
			require.Len(t, a.Recorder.Received(), before+want)
			require.EqualValues(t, want/2, saved.Load()-kept)
		})
	}
	h := testmember.PeerHeader(map[string]string{"X-Server-From": "3", "X-Raft-Snapshot-Term": "1", "X-Raft-Snapshot-Index": "7", "X-Raft-Snapshot-Size": "2"})
	store, err := snap.Open(t.TempDir())
	require.NoError(t, err)
	b := testmember.Start(t, 1, testmember.Receives(store))
	require.Equal(t, 204, testmember.Ask(t, b.Transport, "GET", "/raft/snapshot/offset", h, nil).Code)
	b.Recorder.Removed = a.Recorder.Removed
	require.Equal(t, 403, testmember.Ask(t, b.Transport, "GET", "/raft/snapshot/offset", h, nil).Code)
}

// TestStopUnderALockOfIsIDRemoved: a server may do that.
func TestStopUnderALockOfIsIDRemoved(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		locked := make(chan struct{}, 1) // a lock for bubbles
		a := testmember.StartSimulated(t, n, 1, testmember.Receives(testmember.SavesAll))
		asked := make(chan uint64, 10)
		a.Recorder.Removed = func(id uint64) bool {
			asked <- id
			locked <- struct{}{}
			<-locked
			return false
		}
		locked <- struct{}{}
		codes := make(chan int)
		for path, body := range map[string]io.Reader{
			"/raft": testmember.PostBody(t, testmember.Heartbeat(1, 2, 1)), "/raft/snapshot": testmember.SnapshotBody(t, testmember.MsgSnap(1, 2, 7), "db"), messagePath: nil,
		} {
			method := map[bool]string{true: "GET", false: "POST"}[body == nil]
			go func() { codes <- testmember.Ask(t, a.Transport, method, path, testmember.PeerHeader(nil), body).Code }()
		}
		synctest.Wait()
		require.Len(t, asked, 3)
		start := time.Now()
		a.Stop()
		require.Equal(t, time.Second, time.Since(start))
		<-locked
		for range 3 {
			require.Equal(t, 503, <-codes)
		}
		require.Empty(t, a.Recorder.Received())
	})
}

// TestRemovedMemberLearnsIt: by a post and by a snapshot as by its streams.
func TestRemovedMemberLearnsIt(t *testing.T) {
	for _, way := range []string{"post", "snapshot"} {
		t.Run(way, func(t *testing.T) {
			testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
				hears := make(chan error, 1)
				a := testmember.StartSimulated(t, n, 1, testmember.Receives(testmember.SavesAll))
				a.Recorder.Removed = func(id uint64) bool { return id == 2 }
				b := testmember.StartSimulated(t, n, 2, func(tr *rafthttp.Transport) { tr.ErrorC, tr.DialRetryFrequency = hears, 1e-9 })
				n.Link("m2", "m1").Cut() // until the first dials have failed
				b.AddPeer(1, []string{a.URL})
				time.Sleep(time.Minute)
				n.Heal()
				require.Empty(t, hears)
				if way == "post" {
					b.Send([]*raftpb.Message{testmember.Heartbeat(1, 2, 1)})
				} else {
					m := testmember.SnapshotTo(1)
					m.From = new(uint64(2))
					b.SendSnapshot(m)
				}
				time.Sleep(time.Second)
				require.ErrorIs(t, <-hears, rafthttp.ErrMemberRemoved)
				require.Empty(t, a.Recorder.Received())
			})
		})
	}
}
