package members_test

import (
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/memnet"
)

// introduce has m learn of a member by a post that states its URLs.
func introduce(t *testing.T, m *testmember.Member, id types.ID, urls string) {
	t.Helper()
	testmember.IntroduceBy(t, m, id, urls, testmember.Heartbeat(m.ID, id, 1))
}

// TestStrangerIsAnswered: a member that knows us, and that we do not know, gets
// our messages to it.
func TestStrangerIsAnswered(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		a, b := testmember.StartSimulated(t, n, 1, nil), testmember.StartSimulated(t, n, 2, nil)
		a.AddPeer(2, []string{b.URL})
		b.Send([]*raftpb.Message{testmember.Heartbeat(1, 2, 9)})
		testmember.Within(t, time.Second, func() bool { return len(b.Status().Remotes) == 1 }) // from the stream that a dials
		b.Send([]*raftpb.Message{testmember.Heartbeat(1, 2, 10)})
		testmember.Within(t, time.Second, func() bool { return len(a.Recorder.Received()) > 0 })
		require.Equal(t, []types.ID{1}, b.Status().Remotes)
		require.Nil(t, b.Get(1))
		require.Zero(t, b.ActivePeers())
	})
}

func TestRemotesAreBounded(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		a := testmember.StartSimulated(t, n, 1, nil)
		url := testmember.SilentHost(n, 2)
		for i := range types.ID(100) {
			a.AddRemote(1000+i, url)
			time.Sleep(time.Millisecond)
		}
		for i := range types.ID(1000) {
			introduce(t, a, 5000+i, url[0])
			require.LessOrEqual(t, len(a.Status().Remotes), testmember.MaxRemotes)
		}
		remotes := a.Status().Remotes
		require.Len(t, remotes, testmember.MaxRemotes)
		for i := range types.ID(100) {
			require.Contains(t, remotes, 1000+i, "added by the application")
		}
		for i := range types.ID(200) {
			a.AddRemote(2000+i, url)
			time.Sleep(time.Millisecond)
		}
		remotes = a.Status().Remotes
		require.Len(t, remotes, testmember.MaxRemotes)
		for i := range types.ID(testmember.MaxRemotes) {
			require.Contains(t, remotes, 2000+200-1-i, "the youngest stay")
		}
		introduce(t, a, 9999, url[0])
		require.NotContains(t, a.Status().Remotes, types.ID(9999), "no room for a stranger")
	})
}

func TestRemotesExpire(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		a, b := testmember.StartSimulated(t, n, 1, nil), testmember.StartSimulated(t, n, 2, nil)
		for id := range types.ID(3) {
			a.AddRemote(2+id, []string{b.URL})
		}
		for range 5 {
			time.Sleep(9 * time.Minute)
			require.Contains(t, a.Status().Remotes, types.ID(2))
			a.Send([]*raftpb.Message{testmember.Heartbeat(2, 1, 1)})
		}
		require.Equal(t, []types.ID{2}, a.Status().Remotes, "those that were not used are gone")
		time.Sleep(10*time.Minute - time.Second)
		require.Equal(t, []types.ID{2}, a.Status().Remotes)
		testmember.Within(t, 5*time.Second, func() bool { return len(a.Status().Remotes) == 0 })
		a.Send([]*raftpb.Message{testmember.Heartbeat(2, 1, 1)})
		time.Sleep(time.Minute)
		require.Len(t, b.Recorder.Received(), 5)
		require.Zero(t, a.Recorder.Unreachables(2))
	})
}

// TestIdleRemotesCostNothing: what was used once has no goroutine and none of the
// budget a few heartbeats later, long before the remote expires.
func TestIdleRemotesCostNothing(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		a, b := testmember.StartSimulated(t, n, 1, nil), testmember.StartSimulated(t, n, 2, nil)
		for id := range types.ID(testmember.MaxRemotes) {
			a.AddRemote(100+id, []string{b.URL})
			a.Send([]*raftpb.Message{testmember.Heartbeat(100+id, 1, 1), testmember.Heartbeat(100+id, 1, 2), testmember.Heartbeat(100+id, 1, 3)})
		}
		synctest.Wait()
		require.NotZero(t, pipelineWorkers(), "they wait for more")
		time.Sleep(2 * testmember.ReadTimeout)
		synctest.Wait()
		require.Len(t, a.Status().Remotes, testmember.MaxRemotes)
		require.Zero(t, pipelineWorkers())
		require.Zero(t, a.Status().QueuedBytes)
	})
}

// pipelineWorkers returns how many goroutines work for pipelines, or wait to.
func pipelineWorkers() int {
	stacks := make([]byte, 8<<20)
	return strings.Count(string(stacks[:runtime.Stack(stacks, true)]), "internal/pipeline.(*Pipeline).work(")
}

func TestRemoteBecomesPeer(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		a := testmember.StartSimulated(t, n, 1, nil)
		n.Link("m1", "m2").Cut()
		a.AddRemote(2, testmember.SilentHost(n, 2))
		a.Send([]*raftpb.Message{testmember.Heartbeat(2, 1, 1), testmember.Message(raftpb.MsgSnap, 2)})
		synctest.Wait()
		testmember.Soon(t, func() { a.AddPeer(2, testmember.SilentHost(n, 2)) })
		require.Empty(t, a.Status().Remotes)
		require.NotNil(t, a.Get(2))
		testmember.Within(t, time.Second, func() bool { return a.Recorder.Unreachables(2) > 0 && len(a.Recorder.SnapshotReports()) == 1 })
		a.AddRemote(2, []string{testmember.RefusingURL})
		introduce(t, a, 2, testmember.RefusingURL)
		a.AddRemote(1, []string{testmember.RefusingURL})
		require.Empty(t, a.Status().Remotes, "neither a peer nor ourselves")
	})
}

// TestSendWhileARemoteBecomesAPeer: a message goes to one of them.
func TestSendWhileARemoteBecomesAPeer(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		held, at := heldLog()
		a := testmember.StartSimulated(t, n, 1, held)
		b := testmember.StartSimulated(t, n, 3, nil)
		a.AddPeer(2, testmember.SilentHost(n, 2))
		a.CutPeer(2)
		a.AddRemote(3, []string{b.URL})
		time.Sleep(time.Second)
		at.Close()
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			a.Send([]*raftpb.Message{testmember.Heartbeat(2, 1, 1), testmember.Heartbeat(3, 1, 7), testmember.Message(raftpb.MsgSnap, 3)})
		}()
		<-at.Entered // at the first message
		a.AddPeer(3, []string{b.URL})
		at.Open()
		<-sent
		time.Sleep(time.Second)
		require.Len(t, b.Recorder.Received(), 2)
		require.Len(t, a.Recorder.SnapshotReports(), 1)
	})
}

// TestRefusalWhileARemoteEnds: what a full pipeline refused is reported, although
// the remote becomes a peer before that is done.
func TestRefusalWhileARemoteEnds(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		held, at := heldLog()
		a := testmember.StartSimulated(t, n, 1, held)
		at.Close()
		a.AddRemote(2, testmember.SilentHost(n, 2))
		n.Link("m1", "m2").Cut()
		const all = 64 + 1 // what it holds, and one
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			for range all {
				a.Send([]*raftpb.Message{testmember.Message(raftpb.MsgSnap, 2)})
			}
		}()
		<-at.Entered
		a.AddPeer(2, testmember.SilentHost(n, 2))
		time.Sleep(time.Minute) // all that does not wait for the refusal has ended
		at.Open()
		<-sent
		time.Sleep(time.Second)
		require.Len(t, a.Recorder.SnapshotReports(), all)
	})
}

// TestRemotesAreNeverActive: only of a peer is it told, and logged, that it became
// active, since only of a peer it would be told that it no longer is.
func TestRemotesAreNeverActive(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		core, logged := observer.New(zap.InfoLevel)
		a := testmember.StartSimulated(t, n, 1, func(tr *rafthttp.Transport) {
			tr.Logger = zap.New(core)
			tr.Observer = &rafthttp.Observer{PeerState: func(id types.ID, _ bool, _ error) { t.Errorf("%s changed", id) }}
		})
		b := testmember.StartSimulated(t, n, 2, nil)
		a.AddRemote(2, []string{b.URL})
		a.Send([]*raftpb.Message{testmember.Heartbeat(2, 1, 1)})
		testmember.Within(t, time.Second, func() bool { return len(b.Recorder.Received()) == 1 })
		b.Server.Close()
		a.Send([]*raftpb.Message{testmember.Heartbeat(2, 1, 1)})
		testmember.Within(t, time.Minute, func() bool { return a.Recorder.Unreachables(2) == 1 })
		require.Zero(t, logged.FilterMessageSnippet("active").Len())
	})
}

// TestRemoteMoves: the last URLs hold, but a stranger cannot redirect what the
// application said.
func TestRemoteMoves(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		a, b := testmember.StartSimulated(t, n, 1, nil), testmember.StartSimulated(t, n, 2, nil)
		reaches := func(want bool) {
			t.Helper()
			before := len(b.Recorder.Received())
			a.Send([]*raftpb.Message{testmember.Heartbeat(2, 1, 1)})
			time.Sleep(time.Second)
			require.Equal(t, want, len(b.Recorder.Received()) == before+1)
		}
		wrong := "http://" + testmember.HostOf(9) + ":1"
		n.Host(testmember.HostOf(9))
		introduce(t, a, 2, wrong)
		reaches(false)
		require.Equal(t, 1, a.Recorder.Unreachables(2))
		introduce(t, a, 2, b.URL)
		reaches(true)
		introduce(t, a, 2, wrong)
		reaches(false)
		a.AddRemote(2, []string{b.URL})
		reaches(true)
		introduce(t, a, 2, wrong)
		reaches(true)
		a.AddRemote(2, []string{wrong})
		reaches(false)
	})
}

func TestFullPipelineOfARemote(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		a := testmember.StartSimulated(t, n, 1, nil)
		n.Link("m1", "m2").Cut()
		a.AddRemote(2, testmember.SilentHost(n, 2))
		for range 100 {
			a.Send([]*raftpb.Message{testmember.Message(raftpb.MsgSnap, 2)})
		}
		synctest.Wait()
		require.Len(t, a.Recorder.SnapshotReports(), 100-64, "64 are held")
		require.NotZero(t, a.Recorder.Unreachables(2))
	})
}

// TestCutRemote: a remote is cut like a peer, in both directions, also while its
// URLs change and when it becomes a peer.
func TestCutRemote(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		a, b := testmember.StartSimulated(t, n, 1, nil), testmember.StartSimulated(t, n, 2, nil)
		a.AddRemote(2, []string{b.URL})
		b.AddRemote(1, []string{a.URL})
		passes := func(want int) {
			t.Helper()
			toA, toB := len(a.Recorder.Received()), len(b.Recorder.Received())
			lost := a.Recorder.Unreachables(2)
			a.Send([]*raftpb.Message{testmember.Heartbeat(2, 1, 1)})
			b.Send([]*raftpb.Message{testmember.Heartbeat(1, 2, 1)})
			time.Sleep(time.Second)
			require.Len(t, a.Recorder.Received(), toA+want)
			require.Len(t, b.Recorder.Received(), toB+want)
			require.Equal(t, 1-want, a.Recorder.Unreachables(2)-lost, "a loss is reported")
		}
		passes(1)
		a.CutPeer(2)
		passes(0)
		a.AddRemote(2, []string{"http://" + testmember.HostOf(2) + ":80", b.URL})
		passes(0)
		a.MendPeer(2)
		a.AddRemote(2, []string{b.URL})
		passes(1)
		a.CutPeer(2)
		a.Resume()
		passes(1)
		a.CutPeer(2)
		a.AddPeer(2, []string{b.URL})
		passes(0)
		a.MendPeer(2)
		passes(1)
	})
}
