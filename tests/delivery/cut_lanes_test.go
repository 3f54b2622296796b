package delivery_test

import (
	"io"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/memnet"
)

// cutters are ways of cutting member 2, and of ending that.
var cutters = map[string]struct{ cut, mend func(a *testmember.Member) }{
	"CutPeer":  {func(a *testmember.Member) { a.CutPeer(2) }, func(a *testmember.Member) { a.MendPeer(2) }},
	"Resume":   {func(a *testmember.Member) { a.CutPeer(2) }, func(a *testmember.Member) { a.Resume() }},
	"Pause":    {func(a *testmember.Member) { a.Pause() }, func(a *testmember.Member) { a.Resume() }},
	"Pausable": {func(a *testmember.Member) { pausable(a).Pause() }, func(a *testmember.Member) { pausable(a).Resume() }},
}

func pausable(a *testmember.Member) rafthttp.Pausable { return a.Get(2).(rafthttp.Pausable) }

func addRemote(a *testmember.Member) { a.AddRemote(2, []string{testmember.URLOf(2)}) }

// TestCutDropsWhatWaitsInAnyLane: posts that wait for Process are dropped, whoever their lane began for: a remote, or a peer, or who
// was one of them before. What is posted after the end of the cut is processed, behind what Process had all the while.
func TestCutDropsWhatWaitsInAnyLane(t *testing.T) {
	for who, tc := range map[string]struct {
		before, after func(a *testmember.Member) // the posts
		remote        bool                       // it is one afterwards
	}{
		"remote":                    {addRemote, func(*testmember.Member) {}, true},
		"peer":                      {testmember.AddTalker, func(*testmember.Member) {}, false},
		"remote, now a peer":        {addRemote, testmember.AddTalker, false},
		"stranger, now a remote":    {func(*testmember.Member) {}, addRemote, true},
		"stranger, now a peer":      {func(*testmember.Member) {}, testmember.AddTalker, false},
		"peer that was replaced":    {testmember.AddTalker, func(a *testmember.Member) { a.RemovePeer(2); testmember.AddTalker(a) }, false},
		"peer that is a remote now": {testmember.AddTalker, func(a *testmember.Member) { a.RemovePeer(2); addRemote(a) }, true},
	} {
		for name, c := range cutters {
			if tc.remote && (name == "Pause" || name == "Pausable") {
				continue // which are for peers
			}
			for kind := range testmember.OfEachKind() {
				t.Run(who+"/"+name+"/"+kind, func(t *testing.T) {
					testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
						h := testmember.NewHoldingRaft(func(*raftpb.Message) bool { return true })
						a, posts := testmember.OnHolding(t, n, h, func(tr *rafthttp.Transport) { tr.Raft = stubbornRaft{h} })
						release := sync.OnceFunc(func() { close(h.Release) })
						t.Cleanup(release)
						posts.Codes = make(chan int, 10)
						testmember.SilentHost(n, 2)
						tc.before(a)
						for range 3 {
							posts.Post(testmember.PeerHeader(nil), testmember.OfEachKind()[kind])
						}
						tc.after(a)
						c.cut(a)
						synctest.Wait()
						require.Len(t, posts.Codes, 2, "they are answered at once")
						posts.Post(testmember.PeerHeader(nil), testmember.OfEachKind()[kind])
						require.Len(t, posts.Codes, 3)
						c.mend(a)
						posts.Post(testmember.PeerHeader(nil), testmember.OfEachKind()[kind])
						release()
						synctest.Wait()
						calls, _ := h.Begun()
						require.Equal(t, 2, calls)
						require.Equal(t, 2, posts.All()[204])
					})
				})
			}
		}
	}
}

// TestCutWhileAMessageIsOnItsWay: nor is a message processed whose request was let in before the cut, and that comes to its lane
// after it.
func TestCutWhileAMessageIsOnItsWay(t *testing.T) {
	for who, add := range map[string]func(a *testmember.Member){
		"remote": addRemote, "peer": testmember.AddTalker,
		"remote, then a peer": addRemote,
	} {
		t.Run(who, func(t *testing.T) {
			testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
				at := testmember.NewBarrier()
				a := testmember.StartSimulated(t, n, 1, testmember.Receives(testmember.Saver(func(r io.Reader, _ uint64) (int64, error) {
					at.Pass()
					return io.Copy(io.Discard, r)
				})))
				posts := &testmember.Posts{T: t, M: a.Transport, Codes: make(chan int, 1)}
				testmember.SilentHost(n, 2)
				add(a)
				at.Close()
				posts.Send("/raft/snapshot", testmember.PeerHeader(nil), testmember.SnapshotBody(t, testmember.MsgSnap(1, 2, 7), "db"))
				<-at.Entered
				a.CutPeer(2)
				if who == "remote, then a peer" {
					testmember.AddTalker(a)
				}
				at.Open()
				posts.All()
				require.Empty(t, a.Recorder.Received())
			})
		})
	}
}
