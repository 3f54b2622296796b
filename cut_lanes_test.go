package rafthttp_test

import (
	"io"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/memnet"
)

// cutters are ways of cutting member 2, and of ending that.
var cutters = map[string]struct{ cut, mend func(a *member) }{
	"CutPeer":  {func(a *member) { a.CutPeer(2) }, func(a *member) { a.MendPeer(2) }},
	"Resume":   {func(a *member) { a.CutPeer(2) }, func(a *member) { a.Resume() }},
	"Pause":    {func(a *member) { a.Pause() }, func(a *member) { a.Resume() }},
	"Pausable": {func(a *member) { pausable(a).Pause() }, func(a *member) { pausable(a).Resume() }},
}

func pausable(a *member) rafthttp.Pausable { return a.Get(2).(rafthttp.Pausable) }

func addRemote(a *member) { a.AddRemote(2, []string{urlOf(2)}) }

// TestCutDropsWhatWaitsInAnyLane: posts that wait for Process are dropped, whoever their lane began for: a remote, or a peer, or who
// was one of them before. What is posted after the end of the cut is processed, behind what Process had all the while.
func TestCutDropsWhatWaitsInAnyLane(t *testing.T) {
	for who, tc := range map[string]struct {
		before, after func(a *member) // the posts
		remote        bool            // it is one afterwards
	}{
		"remote":                    {addRemote, func(*member) {}, true},
		"peer":                      {addTalker, func(*member) {}, false},
		"remote, now a peer":        {addRemote, addTalker, false},
		"stranger, now a remote":    {func(*member) {}, addRemote, true},
		"stranger, now a peer":      {func(*member) {}, addTalker, false},
		"peer that was replaced":    {addTalker, func(a *member) { a.RemovePeer(2); addTalker(a) }, false},
		"peer that is a remote now": {addTalker, func(a *member) { a.RemovePeer(2); addRemote(a) }, true},
	} {
		for name, c := range cutters {
			if tc.remote && (name == "Pause" || name == "Pausable") {
				continue // which are for peers
			}
			for kind := range ofEachKind() {
				t.Run(who+"/"+name+"/"+kind, func(t *testing.T) {
					simulate(t, func(t *testing.T, n *memnet.Network) {
						h := newHoldingRaft(func(*raftpb.Message) bool { return true })
						a, posts := onHolding(t, n, h, func(tr *rafthttp.Transport) { tr.Raft = stubbornRaft{h} })
						release := sync.OnceFunc(func() { close(h.release) })
						t.Cleanup(release)
						posts.codes = make(chan int, 10)
						silentHost(n, 2)
						tc.before(a)
						for range 3 {
							posts.post(peerHeader(nil), ofEachKind()[kind])
						}
						tc.after(a)
						c.cut(a)
						synctest.Wait()
						require.Len(t, posts.codes, 2, "they are answered at once")
						posts.post(peerHeader(nil), ofEachKind()[kind])
						require.Len(t, posts.codes, 3)
						c.mend(a)
						posts.post(peerHeader(nil), ofEachKind()[kind])
						release()
						synctest.Wait()
						calls, _ := h.begun()
						require.Equal(t, 2, calls)
						require.Equal(t, 2, posts.all()[204])
					})
				})
			}
		}
	}
}

// TestCutWhileAMessageIsOnItsWay: nor is a message processed whose request was let in before the cut, and that comes to its lane
// after it.
func TestCutWhileAMessageIsOnItsWay(t *testing.T) {
	for who, add := range map[string]func(a *member){
		"remote": addRemote, "peer": addTalker,
		"remote, then a peer": addRemote,
	} {
		t.Run(who, func(t *testing.T) {
			simulate(t, func(t *testing.T, n *memnet.Network) {
				at := newBarrier()
				a := startSimulated(t, n, 1, receives(saver(func(r io.Reader, _ uint64) (int64, error) {
					at.pass()
					return io.Copy(io.Discard, r)
				})))
				posts := &posting{t: t, m: a.Transport, codes: make(chan int, 1)}
				silentHost(n, 2)
				add(a)
				at.close()
				posts.send("/raft/snapshot", peerHeader(nil), snapshotBody(t, msgSnap(1, 2, 7), "db"))
				<-at.entered
				a.CutPeer(2)
				if who == "remote, then a peer" {
					addTalker(a)
				}
				at.open()
				posts.all()
				require.Empty(t, a.raft.received())
			})
		})
	}
}
