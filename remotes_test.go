package rafthttp_test

import (
	"net/http"
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
	"google.golang.org/protobuf/proto"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/memnet"
)

const maxRemotes = 128

// introduce has m learn of a member by a post that states its URLs.
func introduce(t *testing.T, m *member, id types.ID, urls string) {
	t.Helper()
	introduceBy(t, m, id, urls, heartbeat(m.ID, id, 1))
}

// introduceBy is introduce with another message.
func introduceBy(t *testing.T, m *member, id types.ID, urls string, msg *raftpb.Message) {
	t.Helper()
	body, err := proto.Marshal(msg)
	require.NoError(t, err)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, rafthttp.RaftPrefix, strings.NewReader(string(body)))
	require.NoError(t, err)
	r.Header.Set("X-Server-From", id.String())
	r.Header.Set("X-Server-Version", "3.7.0")
	r.Header.Set("X-Min-Cluster-Version", "3.0.0")
	r.Header.Set("X-Etcd-Cluster-ID", testCluster.String())
	r.Header.Set("X-PeerURLs", urls)
	w := &statusWriter{header: http.Header{}}
	m.server.Handler.ServeHTTP(w, r)
	require.Equal(t, http.StatusNoContent, w.code)
}

// statusWriter is a ResponseWriter that keeps the status.
type statusWriter struct {
	header http.Header
	code   int
}

func (a *statusWriter) Header() http.Header         { return a.header }
func (a *statusWriter) WriteHeader(code int)        { a.code = code }
func (a *statusWriter) Write(p []byte) (int, error) { return len(p), nil }

// TestStrangerIsAnswered: a member that knows us, and that we do not know, gets
// our messages to it.
func TestStrangerIsAnswered(t *testing.T) {
	simulate(t, func(t *testing.T, n *memnet.Network) {
		a, b := startSimulated(t, n, 1, nil), startSimulated(t, n, 2, nil)
		a.AddPeer(2, []string{b.url})
		b.Send([]*raftpb.Message{heartbeat(1, 2, 9)})
		within(t, time.Second, func() bool { return len(b.Status().Remotes) == 1 }) // from the stream that a dials
		b.Send([]*raftpb.Message{heartbeat(1, 2, 10)})
		within(t, time.Second, func() bool { return len(a.raft.received()) > 0 })
		require.Equal(t, []types.ID{1}, b.Status().Remotes)
		require.Nil(t, b.Get(1))
		require.Zero(t, b.ActivePeers())
	})
}

func TestRemotesAreBounded(t *testing.T) {
	simulate(t, func(t *testing.T, n *memnet.Network) {
		a := startSimulated(t, n, 1, nil)
		url := silentHost(n, 2)
		for i := range types.ID(100) {
			a.AddRemote(1000+i, url)
			time.Sleep(time.Millisecond)
		}
		for i := range types.ID(1000) {
			introduce(t, a, 5000+i, url[0])
			require.LessOrEqual(t, len(a.Status().Remotes), maxRemotes)
		}
		remotes := a.Status().Remotes
		require.Len(t, remotes, maxRemotes)
		for i := range types.ID(100) {
			require.Contains(t, remotes, 1000+i, "added by the application")
		}
		for i := range types.ID(200) {
			a.AddRemote(2000+i, url)
			time.Sleep(time.Millisecond)
		}
		remotes = a.Status().Remotes
		require.Len(t, remotes, maxRemotes)
		for i := range types.ID(maxRemotes) {
			require.Contains(t, remotes, 2000+200-1-i, "the youngest stay")
		}
		introduce(t, a, 9999, url[0])
		require.NotContains(t, a.Status().Remotes, types.ID(9999), "no room for a stranger")
	})
}

func TestRemotesExpire(t *testing.T) {
	simulate(t, func(t *testing.T, n *memnet.Network) {
		a, b := startSimulated(t, n, 1, nil), startSimulated(t, n, 2, nil)
		for id := range types.ID(3) {
			a.AddRemote(2+id, []string{b.url})
		}
		for range 5 {
			time.Sleep(9 * time.Minute)
			require.Contains(t, a.Status().Remotes, types.ID(2))
			a.Send([]*raftpb.Message{heartbeat(2, 1, 1)})
		}
		require.Equal(t, []types.ID{2}, a.Status().Remotes, "those that were not used are gone")
		time.Sleep(10*time.Minute - time.Second)
		require.Equal(t, []types.ID{2}, a.Status().Remotes)
		within(t, 5*time.Second, func() bool { return len(a.Status().Remotes) == 0 })
		a.Send([]*raftpb.Message{heartbeat(2, 1, 1)})
		time.Sleep(time.Minute)
		require.Len(t, b.raft.received(), 5)
		require.Zero(t, a.raft.unreachables(2))
	})
}

// TestIdleRemotesCostNothing: what was used once has no goroutine and none of the
// budget a few heartbeats later, long before the remote expires.
func TestIdleRemotesCostNothing(t *testing.T) {
	simulate(t, func(t *testing.T, n *memnet.Network) {
		a, b := startSimulated(t, n, 1, nil), startSimulated(t, n, 2, nil)
		for id := range types.ID(maxRemotes) {
			a.AddRemote(100+id, []string{b.url})
			a.Send([]*raftpb.Message{heartbeat(100+id, 1, 1), heartbeat(100+id, 1, 2), heartbeat(100+id, 1, 3)})
		}
		synctest.Wait()
		require.NotZero(t, pipelineWorkers(), "they wait for more")
		time.Sleep(2 * readTimeout)
		synctest.Wait()
		require.Len(t, a.Status().Remotes, maxRemotes)
		require.Zero(t, pipelineWorkers())
		require.Zero(t, a.Status().QueuedBytes)
	})
}

// pipelineWorkers returns how many goroutines work for pipelines, or wait to.
func pipelineWorkers() int {
	stacks := make([]byte, 8<<20)
	return strings.Count(string(stacks[:runtime.Stack(stacks, true)]), "rafthttp.(*pipeline).work(")
}

func TestRemoteBecomesPeer(t *testing.T) {
	simulate(t, func(t *testing.T, n *memnet.Network) {
		a := startSimulated(t, n, 1, nil)
		n.Link("m1", "m2").Cut()
		a.AddRemote(2, silentHost(n, 2))
		a.Send([]*raftpb.Message{heartbeat(2, 1, 1), message(raftpb.MsgSnap, 2)})
		synctest.Wait()
		soon(t, func() { a.AddPeer(2, silentHost(n, 2)) })
		require.Empty(t, a.Status().Remotes)
		require.NotNil(t, a.Get(2))
		within(t, time.Second, func() bool { return a.raft.unreachables(2) > 0 && len(a.raft.snapshotReports()) == 1 })
		a.AddRemote(2, []string{refuse})
		introduce(t, a, 2, refuse)
		a.AddRemote(1, []string{refuse})
		require.Empty(t, a.Status().Remotes, "neither a peer nor ourselves")
	})
}

// TestSendWhileARemoteBecomesAPeer: a message goes to one of them.
func TestSendWhileARemoteBecomesAPeer(t *testing.T) {
	simulate(t, func(t *testing.T, n *memnet.Network) {
		held, at := heldLog()
		a := startSimulated(t, n, 1, held)
		b := startSimulated(t, n, 3, nil)
		a.AddPeer(2, silentHost(n, 2))
		a.CutPeer(2)
		a.AddRemote(3, []string{b.url})
		time.Sleep(time.Second)
		at.close()
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			a.Send([]*raftpb.Message{heartbeat(2, 1, 1), heartbeat(3, 1, 7), message(raftpb.MsgSnap, 3)})
		}()
		<-at.entered // at the first message
		a.AddPeer(3, []string{b.url})
		at.open()
		<-sent
		time.Sleep(time.Second)
		require.Len(t, b.raft.received(), 2)
		require.Len(t, a.raft.snapshotReports(), 1)
	})
}

// TestRefusalWhileARemoteEnds: what a full pipeline refused is reported, although
// the remote becomes a peer before that is done.
func TestRefusalWhileARemoteEnds(t *testing.T) {
	simulate(t, func(t *testing.T, n *memnet.Network) {
		held, at := heldLog()
		a := startSimulated(t, n, 1, held)
		at.close()
		a.AddRemote(2, silentHost(n, 2))
		n.Link("m1", "m2").Cut()
		const all = 64 + 1 // what it holds, and one
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			for range all {
				a.Send([]*raftpb.Message{message(raftpb.MsgSnap, 2)})
			}
		}()
		<-at.entered
		a.AddPeer(2, silentHost(n, 2))
		time.Sleep(time.Minute) // all that does not wait for the refusal has ended
		at.open()
		<-sent
		time.Sleep(time.Second)
		require.Len(t, a.raft.snapshotReports(), all)
	})
}

// TestRemotesAreNeverActive: only of a peer is it told, and logged, that it became
// active, since only of a peer it would be told that it no longer is.
func TestRemotesAreNeverActive(t *testing.T) {
	simulate(t, func(t *testing.T, n *memnet.Network) {
		core, logged := observer.New(zap.InfoLevel)
		a := startSimulated(t, n, 1, func(tr *rafthttp.Transport) {
			tr.Logger = zap.New(core)
			tr.Observer = &rafthttp.Observer{PeerState: func(id types.ID, _ bool, _ error) { t.Errorf("%s changed", id) }}
		})
		b := startSimulated(t, n, 2, nil)
		a.AddRemote(2, []string{b.url})
		a.Send([]*raftpb.Message{heartbeat(2, 1, 1)})
		within(t, time.Second, func() bool { return len(b.raft.received()) == 1 })
		b.server.Close()
		a.Send([]*raftpb.Message{heartbeat(2, 1, 1)})
		within(t, time.Minute, func() bool { return a.raft.unreachables(2) == 1 })
		require.Zero(t, logged.FilterMessageSnippet("active").Len())
	})
}

// TestRemoteMoves: the last URLs hold, but a stranger cannot redirect what the
// application said.
func TestRemoteMoves(t *testing.T) {
	simulate(t, func(t *testing.T, n *memnet.Network) {
		a, b := startSimulated(t, n, 1, nil), startSimulated(t, n, 2, nil)
		reaches := func(want bool) {
			t.Helper()
			before := len(b.raft.received())
			a.Send([]*raftpb.Message{heartbeat(2, 1, 1)})
			time.Sleep(time.Second)
			require.Equal(t, want, len(b.raft.received()) == before+1)
		}
		wrong := "http://" + hostOf(9) + ":1"
		n.Host(hostOf(9))
		introduce(t, a, 2, wrong)
		reaches(false)
		require.Equal(t, 1, a.raft.unreachables(2))
		introduce(t, a, 2, b.url)
		reaches(true)
		introduce(t, a, 2, wrong)
		reaches(false)
		a.AddRemote(2, []string{b.url})
		reaches(true)
		introduce(t, a, 2, wrong)
		reaches(true)
		a.AddRemote(2, []string{wrong})
		reaches(false)
	})
}

func TestFullPipelineOfARemote(t *testing.T) {
	simulate(t, func(t *testing.T, n *memnet.Network) {
		a := startSimulated(t, n, 1, nil)
		n.Link("m1", "m2").Cut()
		a.AddRemote(2, silentHost(n, 2))
		for range 100 {
			a.Send([]*raftpb.Message{message(raftpb.MsgSnap, 2)})
		}
		synctest.Wait()
		require.Len(t, a.raft.snapshotReports(), 100-64, "64 are held")
		require.NotZero(t, a.raft.unreachables(2))
	})
}

// TestCutRemote: a remote is cut like a peer, in both directions, also while its
// URLs change and when it becomes a peer.
func TestCutRemote(t *testing.T) {
	simulate(t, func(t *testing.T, n *memnet.Network) {
		a, b := startSimulated(t, n, 1, nil), startSimulated(t, n, 2, nil)
		a.AddRemote(2, []string{b.url})
		b.AddRemote(1, []string{a.url})
		passes := func(want int) {
			t.Helper()
			toA, toB := len(a.raft.received()), len(b.raft.received())
			lost := a.raft.unreachables(2)
			a.Send([]*raftpb.Message{heartbeat(2, 1, 1)})
			b.Send([]*raftpb.Message{heartbeat(1, 2, 1)})
			time.Sleep(time.Second)
			require.Len(t, a.raft.received(), toA+want)
			require.Len(t, b.raft.received(), toB+want)
			require.Equal(t, 1-want, a.raft.unreachables(2)-lost, "a loss is reported")
		}
		passes(1)
		a.CutPeer(2)
		passes(0)
		a.AddRemote(2, []string{"http://" + hostOf(2) + ":80", b.url})
		passes(0)
		a.MendPeer(2)
		a.AddRemote(2, []string{b.url})
		passes(1)
		a.CutPeer(2)
		a.Resume()
		passes(1)
		a.CutPeer(2)
		a.AddPeer(2, []string{b.url})
		passes(0)
		a.MendPeer(2)
		passes(1)
	})
}
