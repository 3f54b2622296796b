package delivery_test

import (
	"bytes"
	"runtime"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/memnet"
)

// TestMemoryOfPostsThatAreRead: posts that are read together are bounded by what they hold in memory, as messages in queues are, not
// only by what came over the wire: an entry of two bytes takes some 130 in memory.
func TestMemoryOfPostsThatAreRead(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		const limit, wire = 16 << 20, 200 << 10
		a := testmember.StartSimulated(t, n, 1, func(tr *rafthttp.Transport) { tr.MaxQueuedBytes, tr.MaxMessageBytes = limit, limit })
		a.AddPeer(2, testmember.SilentHost(n, 2))
		body := append(testmember.Marshal(t, testmember.Heartbeat(1, 2, 1)), bytes.Repeat([]byte{7<<3 | 2, 0}, wire/2)...) // empty entries
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		for range 16 { // of one member; 16 members may do the same
			beginPost(t, n, a, "2", len(body), body[:len(body)-1])
		}
		synctest.Wait()
		runtime.GC()
		runtime.ReadMemStats(&after)
		held := int64(after.HeapAlloc) - int64(before.HeapAlloc)
		t.Logf("%d MiB on the wire hold %d MiB", 16*len(body)>>20, held>>20)
		require.Less(t, held, int64(2*limit))
	})
}

// TestMemoryOfPostsThatWaitForRoom: nor does a post whose lane is full hold memory that nobody counts, while it waits for room.
func TestMemoryOfPostsThatWaitForRoom(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		const limit, size = 16 << 20, 8 << 20
		h := testmember.NewHoldingRaft(func(*raftpb.Message) bool { return true })
		a, posts := testmember.OnHolding(t, n, h, func(tr *rafthttp.Transport) { tr.MaxQueuedBytes, tr.ReceiveQueueMessages = limit, 1 })
		a.AddPeer(2, testmember.SilentHost(n, 2))
		body := testmember.Marshal(t, testmember.MsgApp(1, 2, 1, make([]byte, size)))
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		refused := 0
		for range 16 {
			posts.Send("/raft", testmember.PeerHeader(nil), bytes.NewReader(body))
			select {
			case code := <-posts.Codes:
				require.Equal(t, 503, code)
				posts.N--
				refused++
			default:
			}
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		held := int64(after.HeapAlloc) - int64(before.HeapAlloc)
		t.Logf("%d MiB held, %d refused", held>>20, refused)
		close(h.Release)
		require.Equal(t, map[int]int{204: 16 - refused}, posts.All())
		require.Less(t, held, int64(2*limit))
		require.Less(t, refused, 15, "one is processed, one waits")
	})
}
