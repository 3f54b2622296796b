package delivery_test

import (
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/memnet"
)

// TestActiveByItsPosts: a peer is active by a post or a snapshot of its own once that has succeeded, as its sender has it, and not
// by one that was answered with an error. On a stream, where nobody is answered, the frame counts.
func TestActiveByItsPosts(t *testing.T) {
	processes := func(err error) func(*testmember.Member) {
		return func(a *testmember.Member) {
			a.Recorder.OnProcess = func(context.Context, *raftpb.Message) error { return err }
		}
	}
	good, bad := processes(nil), processes(errors.New("no"))
	post := func(t *testing.T) (string, io.Reader) {
		return "/raft", testmember.PostBody(t, testmember.Heartbeat(1, 2, 1))
	}
	snapshot := func(t *testing.T) (string, io.Reader) {
		return "/raft/snapshot", testmember.SnapshotBody(t, testmember.MsgSnap(1, 2, 7), "db")
	}
	tests := map[string]struct {
		prepare func(*testmember.Member)
		body    func(*testing.T) (string, io.Reader)
		code    int
	}{
		"post":                       {good, post, 204},
		"post, Process fails":        {bad, post, 500},
		"post, Process answers":      {processes(testmember.Teapot{}), post, 418},
		"post, Process says removed": {processes(rafthttp.ErrMemberRemoved), post, 403},
		"post, cut":                  {func(a *testmember.Member) { a.CutPeer(2) }, post, 500},
		"post, for another": {good, func(t *testing.T) (string, io.Reader) {
			return "/raft", testmember.PostBody(t, testmember.Heartbeat(9, 2, 1))
		}, 412},
		"post, removed": {func(a *testmember.Member) { a.Recorder.Removed = func(uint64) bool { return true } }, post, 403},
		"post, no message": {good, func(t *testing.T) (string, io.Reader) {
			return "/raft", testmember.SnapshotBody(t, testmember.MsgSnap(1, 2, 7), "db")
		}, 400},
		"snapshot":                {good, snapshot, 204},
		"snapshot, Process fails": {bad, snapshot, 500},
		"snapshot, without a database": {good, func(t *testing.T) (string, io.Reader) {
			return "/raft/snapshot", testmember.PostBody(t, testmember.Heartbeat(1, 2, 1))
		}, 400},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
				a := testmember.StartSimulated(t, n, 1, testmember.Receives(testmember.SavesAll))
				a.AddPeer(2, testmember.SilentHost(n, 2))
				tc.prepare(a)
				path, body := tc.body(t)
				require.Equal(t, tc.code, testmember.Ask(t, a.Transport, "POST", path, testmember.PeerHeader(nil), body).Code)
				active := 0
				if tc.code == 204 {
					active = 1
				}
				require.Equal(t, active, a.ActivePeers())
			})
		})
	}
	for name, prepare := range map[string]func(*testmember.Member){"stream": good, "stream, Process fails": bad} {
		t.Run(name, func(t *testing.T) {
			testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
				a := testmember.StartSimulated(t, n, 1, nil)
				prepare(a)
				say := testmember.StartTalker(t, n, 2)
				a.AddPeer(2, []string{testmember.URLOf(2)})
				say("message", testmember.Heartbeat(1, 2, 1))
				synctest.Wait()
				require.Equal(t, 1, a.ActivePeers())
			})
		})
	}
}

// TestActiveOnceItsPostIsProcessed: not while Process has it, and then for ReadTimeout. A member that became a peer meanwhile is
// active as well.
func TestActiveOnceItsPostIsProcessed(t *testing.T) {
	for _, early := range []bool{true, false} {
		testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
			h := testmember.NewHoldingRaft(func(*raftpb.Message) bool { return true })
			a, posts := testmember.OnHolding(t, n, h, nil)
			if early {
				a.AddPeer(2, testmember.SilentHost(n, 2))
			}
			posts.Post(testmember.PeerHeader(nil), testmember.Heartbeat(1, 2, 1))
			if !early {
				a.AddPeer(2, testmember.SilentHost(n, 2))
			}
			time.Sleep(time.Second)
			require.Zero(t, a.ActivePeers())
			close(h.Release)
			require.Equal(t, map[int]int{204: 1}, posts.All())
			testmember.Always(t, testmember.ReadTimeout-10*time.Millisecond, func() bool { return a.ActivePeers() == 1 })
			testmember.Within(t, testmember.ReadTimeout, func() bool { return a.ActivePeers() == 0 })
		})
	}
}

// TestActiveByAPostWhileStreamsAreDown: a post of a peer speaks for it for ReadTimeout, whether its streams are up or not.
func TestActiveByAPostWhileStreamsAreDown(t *testing.T) {
	for _, posted := range []bool{true, false} {
		testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
			a, b := testmember.StartSimulated(t, n, 1, nil), testmember.StartSimulated(t, n, 2, nil)
			a.AddPeer(2, []string{testmember.URLOf(2)})
			b.AddPeer(1, []string{testmember.URLOf(1)})
			testmember.Within(t, testmember.ReadTimeout, func() bool { return a.ActivePeers() == 1 })
			if posted {
				require.Equal(t, 204, testmember.Ask(t, a.Transport, "POST", "/raft", testmember.PeerHeader(nil), testmember.PostBody(t, testmember.Heartbeat(1, 2, 1))).Code)
			}
			b.Stop()
			if posted {
				testmember.Always(t, testmember.ReadTimeout-10*time.Millisecond, func() bool { return a.ActivePeers() == 1 })
				require.Zero(t, a.Status().Peers[0].Disconnects)
			}
			testmember.Within(t, testmember.ReadTimeout, func() bool { return a.ActivePeers() == 0 })
		})
	}
}
