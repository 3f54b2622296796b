package groups_test

import (
	"bytes"
	"io"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/memnet"
)

// TestProxyThatBuffersSnapshots: it reads the whole body before it passes it on.
func TestProxyThatBuffersSnapshots(t *testing.T) {
	for name, plain := range map[string]bool{"plain": true, "resumable": false} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
				front(t, n, nil, func(w http.ResponseWriter, r *http.Request, pass http.Handler) {
					if r.Method == http.MethodPost {
						body, err := io.ReadAll(r.Body)
						if err != nil {
							w.WriteHeader(http.StatusBadGateway)
							return
						}
						r.Body = io.NopCloser(bytes.NewReader(body))
					}
					pass.ServeHTTP(w, r)
				})
				store := testmember.OpenStore(t, dir)
				var saver rafthttp.Snapshotter = store
				if plain {
					saver = testmember.PlainStore{Snapshotter: store}
				}
				n.Link("front", testmember.HostOf(2)).SetBandwidth(256 << 10) // ReadTimeout and more
				ma, mb := startNode(t, n, 1), startNode(t, n, 2)
				a, b := join(t, ma, 7, nil), join(t, mb, 7, saves(saver))
				a.AddPeer(2, []string{frontURL})
				b.AddPeer(1, []string{testmember.URLOf(1)})
				data := testmember.RandomBytes(4 << 20)
				m, db := small(string(data))
				a.SendSnapshot(m)
				testmember.RequireEnd(t, m, db, true, a.raft, raft.SnapshotFinish)
				require.Len(t, b.raft.Received(), 1)
				testmember.RequireSaved(t, store, 7, data)
			})
		})
	}
}

// unflushed is a response of a proxy that buffers: it passes nothing on but the head, if that is wanted, until the buffer of the server is full
// or the answer ends.
type unflushed struct {
	http.ResponseWriter
	head bool
}

func (u unflushed) WriteHeader(code int) {
	u.ResponseWriter.WriteHeader(code)
	if u.head {
		u.ResponseWriter.(http.Flusher).Flush()
	}
}

// TestProxyThatBuffersStreams: nothing comes by the streams that are dialled through it, which are given up and dialled again, and each time the
// groups that sent something by them are told. The other direction, and snapshots, are not affected. Once the proxy buffers no more all is
// well.
func TestProxyThatBuffersStreams(t *testing.T) {
	for name, head := range map[string]bool{"answers with their heads": false, "answers": true} {
		t.Run(name, func(t *testing.T) {
			testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
				var buffers atomic.Bool
				buffers.Store(true)
				front(t, n, nil, func(w http.ResponseWriter, r *http.Request, pass http.Handler) {
					if buffers.Load() {
						w = unflushed{w, head}
					}
					pass.ServeHTTP(w, r)
				})
				ma, mb := startNode(t, n, 1), startNode(t, n, 2)
				a, b := join(t, ma, 7, nil), join(t, mb, 7, saves(testmember.SavesAll))
				idle := join(t, mb, 8, nil)
				a.AddPeer(2, []string{frontURL})
				b.AddPeer(1, []string{testmember.URLOf(1)})
				idle.AddPeer(1, []string{testmember.URLOf(1)})
				time.Sleep(3 * time.Second)
				tr := &traffic{a: a, b: b}
				gotA, gotB := tr.run(600)
				require.Equal(t, 1200, gotB)
				require.Zero(t, a.raft.Unreachables(2))
				require.Less(t, gotA, 1200)
				require.GreaterOrEqual(t, b.raft.Unreachables(1), 5, "once for each time that the streams are given up")
				require.Zero(t, idle.raft.Unreachables(1))
				m, db := small("database")
				a.SendSnapshot(m)
				testmember.RequireEnd(t, m, db, true, a.raft, raft.SnapshotFinish)
				buffers.Store(false)
				time.Sleep(10 * time.Second)
				tr.requireAll(t)
			})
		})
	}
}
