package delivery_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/memnet"
)

// stubbornRaft is a holdingRaft whose Process returns only once messages are let go.
type stubbornRaft struct{ *testmember.HoldingRaft }

func (s stubbornRaft) Process(ctx context.Context, m *raftpb.Message) error {
	return s.HoldingRaft.Process(context.WithoutCancel(ctx), m)
}

// membershipChanges are what a member may become while Process has a message of it.
var membershipChanges = map[string]struct {
	peer   bool // it is one before
	change func(a *testmember.Member, post func())
	then   bool // it is one afterwards
}{
	"becomes a peer": {false, func(a *testmember.Member, _ func()) { testmember.AddTalker(a) }, true},
	"is removed":     {true, func(a *testmember.Member, _ func()) { a.RemovePeer(2) }, false},
	"is replaced":    {true, func(a *testmember.Member, _ func()) { a.RemovePeer(2); testmember.AddTalker(a) }, true},
	"is replaced twice": {true, func(a *testmember.Member, _ func()) {
		a.RemovePeer(2)
		testmember.AddTalker(a)
		a.RemovePeer(2)
		testmember.AddTalker(a)
	}, true},
	"all are replaced":  {true, func(a *testmember.Member, _ func()) { a.RemoveAllPeers(); testmember.AddTalker(a) }, true},
	"is added, removed": {false, func(a *testmember.Member, _ func()) { testmember.AddTalker(a); a.RemovePeer(2) }, false},
	"is added, replaced": {false, func(a *testmember.Member, _ func()) {
		testmember.AddTalker(a)
		a.RemovePeer(2)
		testmember.AddTalker(a)
	}, true},
	"is removed, posts in vain, is added": {true, func(a *testmember.Member, post func()) {
		a.RemovePeer(2)
		post()
		testmember.AddTalker(a)
		time.Sleep(time.Minute)
	}, true},
	"is removed and left": {true, func(a *testmember.Member, _ func()) { a.RemovePeer(2); time.Sleep(time.Minute) }, false},
}

// TestMessagesAcrossMembershipChanges: messages of one kind from one member come to Process one after another although the member
// becomes a peer, is removed or added again meanwhile, whichever way they come. Those of other kinds are not held up.
func TestMessagesAcrossMembershipChanges(t *testing.T) {
	streams := map[string]string{"control": "message", "append": "msgapp", "proposal": "message"}
	for name, tc := range membershipChanges {
		for kind, first := range testmember.OfEachKind() {
			for way, bring := range map[string]func(posts *testmember.Posts, say func(string, *raftpb.Message), kind string){
				"post": func(posts *testmember.Posts, _ func(string, *raftpb.Message), kind string) {
					posts.Post(testmember.PeerHeader(nil), testmember.OfEachKind()[kind])
				},
				"snapshot": func(posts *testmember.Posts, _ func(string, *raftpb.Message), _ string) {
					posts.Send("/raft/snapshot", testmember.PeerHeader(nil), testmember.SnapshotBody(posts.T, testmember.MsgSnap(1, 2, 7), "db"))
				},
				"stream": func(_ *testmember.Posts, say func(string, *raftpb.Message), kind string) {
					say(streams[kind], testmember.OfEachKind()[kind])
					synctest.Wait()
				},
			} {
				if way == "stream" && !tc.then || way == "snapshot" && kind != "append" {
					continue
				}
				t.Run(name+"/"+kind+"/"+way, func(t *testing.T) {
					testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
						h := testmember.NewHoldingRaft(func(m *raftpb.Message) bool {
							return m.GetType() == first.GetType() || m.GetType() == raftpb.MsgSnap
						})
						a, posts := testmember.OnHolding(t, n, h, func(tr *rafthttp.Transport) { tr.Raft = stubbornRaft{h} })
						posts.Codes = make(chan int, 10)
						release := sync.OnceFunc(func() { close(h.Release) })
						t.Cleanup(release)
						say := testmember.StartTalker(t, n, 2)
						if tc.peer {
							testmember.AddTalker(a)
						}
						posts.Post(testmember.PeerHeader(nil), first)
						tc.change(a, func() { posts.Post(testmember.PeerHeader(nil), testmember.OfEachKind()[kind]) })
						time.Sleep(time.Second)
						posts.T = t
						bring(posts, say, kind)
						for other := range testmember.OfEachKind() {
							if other != kind {
								free := &testmember.Posts{T: t, M: a.Transport, Codes: make(chan int)}
								free.Post(testmember.PeerHeader(nil), testmember.OfEachKind()[other])
								require.Equal(t, map[int]int{204: 1}, free.All(), "%s waits for %s", other, kind)
							}
						}
						calls, running := h.Begun()
						require.Equal(t, []int{3, 1}, []int{calls, running}, "one after another")
						release()
						synctest.Wait()
						calls, running = h.Begun()
						require.Equal(t, []int{4, 0}, []int{calls, running})
						posts.All()
					})
				})
			}
		}
	}
}
