package snapshots_test

import (
	"fmt"
	"net"
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/snap"
)

// TestSnapshotProbeIsCut: a connection that breaks before the receiver has said what it is
// costs another one, and not the snapshot.
func TestSnapshotProbeIsCut(t *testing.T) {
	const size = 1 << 20
	data := testmember.RandomBytes(size)
	cuts := map[string]func(net.Conn){
		"reset":  func(c net.Conn) { _ = c.(interface{ SetLinger(int) error }).SetLinger(0) },
		"closed": func(net.Conn) {},
	}
	for how, cut := range cuts {
		for _, n := range []int64{1, 2} { // how many; with two the plan is plain
			t.Run(fmt.Sprintf("%s, %d", how, n), func(t *testing.T) {
				store := testmember.OpenStore(t, t.TempDir())
				ln, err := net.Listen("tcp", "127.0.0.1:0")
				require.NoError(t, err)
				var left atomic.Int64
				b := testmember.StartBy(t, func(h http.Handler) *http.Server {
					return rafthttp.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						// Those of members that measure their clocks end their connections.
						if r.URL.Path != rafthttp.ProbingPrefix || r.Close || left.Add(-1) < 0 {
							h.ServeHTTP(w, r)
							return
						}
						c, _, err := http.NewResponseController(w).Hijack()
						if err == nil {
							cut(c)
							c.Close()
						}
					}))
				}, ln, "http://"+ln.Addr().String(), 2, func(tr *rafthttp.Transport) { tr.Snapshotter = store })
				left.Store(n)
				ended := make(chan error, 1)
				a := testmember.Start(t, 1, func(tr *rafthttp.Transport) { tr.Observer = sentTo(ended) })
				a.AddPeer(2, []string{b.URL})
				a.SendSnapshot(snap.NewMessage(testmember.MsgSnap(2, 1, 7), fileWith(t, nil, data), size))
				require.NoError(t, <-ended)
				require.Less(t, left.Load(), int64(1))
				testmember.RequireSaved(t, store, 7, data)
				require.Equal(t, 1, a.Status().Peers[0].LastSnapshot.Attempts)
				require.Len(t, b.Recorder.Received(), 1)
			})
		}
	}
}
