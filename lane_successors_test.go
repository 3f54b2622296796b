package rafthttp_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/memnet"
)

// stubbornRaft is a holdingRaft whose Process returns only once messages are let go.
type stubbornRaft struct{ *holdingRaft }

func (s stubbornRaft) Process(ctx context.Context, m *raftpb.Message) error {
	return s.holdingRaft.Process(context.WithoutCancel(ctx), m)
}

// membershipChanges are what a member may become while Process has a message of it.
var membershipChanges = map[string]struct {
	peer   bool // it is one before
	change func(a *member, post func())
	then   bool // it is one afterwards
}{
	"becomes a peer":     {false, func(a *member, _ func()) { addTalker(a) }, true},
	"is removed":         {true, func(a *member, _ func()) { a.RemovePeer(2) }, false},
	"is replaced":        {true, func(a *member, _ func()) { a.RemovePeer(2); addTalker(a) }, true},
	"is replaced twice":  {true, func(a *member, _ func()) { a.RemovePeer(2); addTalker(a); a.RemovePeer(2); addTalker(a) }, true},
	"all are replaced":   {true, func(a *member, _ func()) { a.RemoveAllPeers(); addTalker(a) }, true},
	"is added, removed":  {false, func(a *member, _ func()) { addTalker(a); a.RemovePeer(2) }, false},
	"is added, replaced": {false, func(a *member, _ func()) { addTalker(a); a.RemovePeer(2); addTalker(a) }, true},
	"is removed, posts in vain, is added": {true, func(a *member, post func()) {
		a.RemovePeer(2)
		post()
		addTalker(a)
		time.Sleep(time.Minute)
	}, true},
	"is removed and left": {true, func(a *member, _ func()) { a.RemovePeer(2); time.Sleep(time.Minute) }, false},
}

func addTalker(a *member) { a.AddPeer(2, []string{urlOf(2)}) }

// TestMessagesAcrossMembershipChanges: messages of one kind from one member come to Process one after another although the member
// becomes a peer, is removed or added again meanwhile, whichever way they come. Those of other kinds are not held up.
func TestMessagesAcrossMembershipChanges(t *testing.T) {
	streams := map[string]string{"control": "message", "append": "msgapp", "proposal": "message"}
	for name, tc := range membershipChanges {
		for kind, first := range ofEachKind() {
			for way, bring := range map[string]func(posts *posting, say func(string, *raftpb.Message), kind string){
				"post": func(posts *posting, _ func(string, *raftpb.Message), kind string) {
					posts.post(peerHeader(nil), ofEachKind()[kind])
				},
				"snapshot": func(posts *posting, _ func(string, *raftpb.Message), _ string) {
					posts.send("/raft/snapshot", peerHeader(nil), snapshotBody(posts.t, msgSnap(1, 2, 7), "db"))
				},
				"stream": func(_ *posting, say func(string, *raftpb.Message), kind string) {
					say(streams[kind], ofEachKind()[kind])
					synctest.Wait()
				},
			} {
				if way == "stream" && !tc.then || way == "snapshot" && kind != "append" {
					continue
				}
				t.Run(name+"/"+kind+"/"+way, func(t *testing.T) {
					simulate(t, func(t *testing.T, n *memnet.Network) {
						h := newHoldingRaft(func(m *raftpb.Message) bool {
							return m.GetType() == first.GetType() || m.GetType() == raftpb.MsgSnap
						})
						a, posts := onHolding(t, n, h, func(tr *rafthttp.Transport) { tr.Raft = stubbornRaft{h} })
						posts.codes = make(chan int, 10)
						release := sync.OnceFunc(func() { close(h.release) })
						t.Cleanup(release)
						say := startTalker(t, n, 2)
						if tc.peer {
							addTalker(a)
						}
						posts.post(peerHeader(nil), first)
						tc.change(a, func() { posts.post(peerHeader(nil), ofEachKind()[kind]) })
						time.Sleep(time.Second)
						posts.t = t
						bring(posts, say, kind)
						for other := range ofEachKind() {
							if other != kind {
								free := &posting{t: t, m: a.Transport, codes: make(chan int)}
								free.post(peerHeader(nil), ofEachKind()[other])
								require.Equal(t, map[int]int{204: 1}, free.all(), "%s waits for %s", other, kind)
							}
						}
						calls, running := h.begun()
						require.Equal(t, []int{3, 1}, []int{calls, running}, "one after another")
						release()
						synctest.Wait()
						calls, running = h.begun()
						require.Equal(t, []int{4, 0}, []int{calls, running})
						posts.all()
					})
				})
			}
		}
	}
}
