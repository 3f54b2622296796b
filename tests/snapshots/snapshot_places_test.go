package snapshots_test

import (
	"fmt"
	"io"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/memnet"
	"github.com/seed-4d73690b/rafthttp/snap"
)

// heldSaves is a ResumingSnapshotter that has not saved anything until it is told to.
type heldSaves struct{ release chan struct{} }

func (s heldSaves) SaveDBFrom(r io.Reader, _ uint64) (int64, error) {
	<-s.release
	return io.Copy(io.Discard, r)
}

func (s heldSaves) ResumeDBFrom(r io.Reader, _ snap.Transfer, _ int64, _ func() (uint32, error)) (int64, error) {
	return s.SaveDBFrom(r, 0)
}

func (heldSaves) PartialDB(snap.Transfer) (int64, uint32) { return 0, 0 }

// TestSnapshotShares: whatever a peer and members that are none send, there is a place for a snapshot of each other peer, up to
// half of all places. What is refused is refused to the question before it as well.
func TestSnapshotShares(t *testing.T) {
	const nobody = types.ID(0)
	for _, tc := range []struct {
		max, peers int
		from       []types.ID // peers are 2 and those after it, others 0 and above 0x100; a second refusal in a row is left out
		refused    []types.ID // once those of from are under way; they were taken
		next       []types.ID // taken then
	}{
		{4, 2, []types.ID{2, 2, 2}, []types.ID{2, nobody, 0x101}, []types.ID{3}},
		{4, 2, []types.ID{nobody, 0x101}, []types.ID{nobody, 0x101, 0x102}, []types.ID{2, 3}},
		{4, 2, []types.ID{2, 3, 2, 3}, []types.ID{2, 3, nobody}, nil},
		{4, 2, []types.ID{2, 3, nobody, 0x101}, []types.ID{2, 3, nobody}, nil},
		{4, 1, []types.ID{2, 2, 2, 2}, []types.ID{2, nobody}, nil},
		{4, 1, []types.ID{nobody, 0x101, 0x102}, []types.ID{0x103, nobody}, []types.ID{2}},
		{4, 0, []types.ID{nobody, 0x101, 0x101, 0x101}, []types.ID{nobody, 0x102}, nil},
		{4, 8, []types.ID{2, 2}, []types.ID{2, nobody, 0x101}, []types.ID{3, 4}},
		{4, 8, []types.ID{0x101, 0x101}, []types.ID{nobody, 0x101, 0x102}, []types.ID{8, 9}},
		{16, 200, []types.ID{2, 2, 2, 2, 2, 2, 2, 2}, []types.ID{2, nobody}, []types.ID{3, 4, 5, 6, 7, 8, 9, 10}},
		{3, 2, []types.ID{2, 2}, []types.ID{2, nobody}, []types.ID{3}},
		{2, 2, []types.ID{2}, []types.ID{2, nobody}, []types.ID{3}},
		{1, 2, []types.ID{0x101}, []types.ID{2, 3, nobody}, nil},
		{1, 2, []types.ID{2}, []types.ID{2, 3, nobody}, nil},
	} {
		t.Run(fmt.Sprintf("%d for %d, %v", tc.max, tc.peers, tc.from), func(t *testing.T) {
			testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
				held := heldSaves{make(chan struct{})}
				release := sync.OnceFunc(func() { close(held.release) })
				t.Cleanup(release)
				a := testmember.StartSimulated(t, n, 1, testmember.Tuned(testmember.Receives(held), func(tr *rafthttp.Transport) { tr.MaxSnapshots = tc.max }))
				for i := range tc.peers {
					a.AddPeer(types.ID(2+i), testmember.SilentHost(n, 2))
				}
				transfers := &testmember.Posts{T: t, M: a.Transport, Codes: make(chan int)}
				start := time.Now()
				for i, id := range append(tc.from, tc.next...) {
					if i == len(tc.from) {
						requireAnswers(t, a, tc.refused, 503)
					}
					transfers.Send("/raft/snapshot", senderHeader(id), testmember.SnapshotBody(t, testmember.MsgSnap(1, id|0x1000, 7), "db"))
					require.Len(t, a.Status().Receiving, i+1, "of %s", id)
				}
				requireAnswers(t, a, tc.refused, 503)
				require.Zero(t, time.Since(start))
				release()
				require.Equal(t, map[int]int{204: len(tc.from) + len(tc.next)}, transfers.All())
				synctest.Wait()
				requireAnswers(t, a, tc.refused, 204)
			})
		})
	}
}

// senderHeader is that of a member; 0 states none.
func senderHeader(id types.ID) http.Header {
	from := ""
	if id != 0 {
		from = id.String()
	}
	return testmember.PeerHeader(map[string]string{
		"X-Server-From": from, "X-Raft-Snapshot-Term": "1", "X-Raft-Snapshot-Index": "7", "X-Raft-Snapshot-Size": "2",
	})
}

// requireAnswers requires that a snapshot of each is answered so, and the question about one.
func requireAnswers(t *testing.T, a *testmember.Member, from []types.ID, code int) {
	t.Helper()
	for _, id := range from {
		codes, body := make(chan int, 2), testmember.SnapshotBody(t, testmember.MsgSnap(1, id|0x1000, 7), "db")
		go func() {
			codes <- testmember.Ask(t, a.Transport, "POST", "/raft/snapshot", senderHeader(id), body).Code
			if id != 0 { // who states no id cannot ask
				codes <- testmember.Ask(t, a.Transport, "GET", "/raft/snapshot/offset", senderHeader(id), nil).Code
			}
			close(codes)
		}()
		synctest.Wait()
		require.NotEmpty(t, codes, "it was taken, of %s", id)
		for got := range codes {
			require.Equal(t, code, got, "of %s", id)
		}
	}
}
