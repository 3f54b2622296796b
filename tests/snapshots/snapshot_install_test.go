package snapshots_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/bubble"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/memnet"
	"github.com/seed-4d73690b/rafthttp/snap"
)

// installs has a member take its time to process the message of a snapshot.
func installs(p *testmember.Pair, d time.Duration) {
	p.B.Recorder.OnProcess = func(ctx context.Context, m *raftpb.Message) error {
		if m.GetType() == raftpb.MsgSnap {
			select {
			case <-time.After(d):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		p.B.Recorder.Keep(m)
		return nil
	}
}

// TestSnapshotResumedWhileItIsInstalled: the connection breaks while the receiver, which has all of the database, processes the
// message. The transfer is resumed whatever the receiver's MaxSnapshots is, and whatever else its sender brings: the place that it
// waits for is its own. The message is processed once.
func TestSnapshotResumedWhileItIsInstalled(t *testing.T) {
	const size = 1 << 20
	data := testmember.RandomBytes(size)
	for name, tc := range map[string]struct {
		places, others int // MaxSnapshots; peers of the receiver beside the sender
		transfers      int // at once, as of several groups
	}{
		"4 places": {4, 1, 1},
		"4 places, of 2 groups, beside 3 more peers": {4, 3, 2},
		"2 places": {2, 1, 1},
		"1 place":  {1, 0, 1},
	} {
		dir := t.TempDir()
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				store := testmember.OpenStore(t, dir)
				p := testmember.NewPair(t, nil, func(tr *rafthttp.Transport) { tr.Snapshotter, tr.MaxSnapshots = store, tc.places })
				for i := range tc.others {
					p.B.AddPeer(types.ID(10+i), []string{"http://a:1"})
				}
				installs(p, 20*time.Second)
				time.Sleep(time.Second)
				for i := range tc.transfers {
					p.A.SendSnapshot(snap.NewMessage(testmember.MsgSnap(2, 1, uint64(7+i)), &testmember.Seekable{Reader: bytes.NewReader(data)}, size))
				}
				time.Sleep(2 * time.Second)
				p.Net.Reset("a", "b")
				for range tc.transfers {
					require.NoError(t, <-p.Sent)
				}
				testmember.RequireSaved(t, store, 7, data)
				require.Len(t, p.B.Recorder.Received(), tc.transfers)
				for _, st := range p.A.Status().Peers {
					require.LessOrEqual(t, st.SentBytes, uint64(tc.transfers*size+1000), "sent twice")
				}
			})
		})
	}
}

// consumed is a store whose databases are gone once they were processed.
type consumed struct {
	rafthttp.ResumingSnapshotter
	gone *bool
}

func (c consumed) PartialDB(t snap.Transfer) (int64, uint32) {
	if *c.gone {
		return 0, 0
	}
	return c.ResumingSnapshotter.PartialDB(t)
}

// TestSnapshotAnswerLostAndPlacesTaken: the connection breaks before the answer, and another sender takes the only place, and the
// database is no longer where it was saved. The transfer has succeeded all the same.
func TestSnapshotAnswerLostAndPlacesTaken(t *testing.T) {
	const size = 1 << 20
	data := testmember.RandomBytes(size)
	dir := t.TempDir()
	bubble.Test(t, func(t *testing.T) {
		gone := false
		p := testmember.NewPair(t, nil, func(tr *rafthttp.Transport) {
			tr.Snapshotter, tr.MaxSnapshots = consumed{testmember.OpenStore(t, dir), &gone}, 1
		})
		c := p.Start(t, "c", 3, nil)
		c.AddPeer(2, []string{p.B.URL})
		p.B.Recorder.OnProcess = func(_ context.Context, m *raftpb.Message) error {
			p.Net.Reset("a", "b")
			c.SendSnapshot(testmember.NewSnapshot(testmember.BlockingReader(nil), 10))
			gone = true
			p.B.Recorder.Keep(m)
			return nil
		}
		time.Sleep(time.Second)
		p.A.SendSnapshot(snap.NewMessage(testmember.MsgSnap(2, 1, 7), &testmember.Seekable{Reader: bytes.NewReader(data)}, size))
		require.NoError(t, <-p.Sent)
		require.Equal(t, 2, p.A.Status().Peers[0].LastSnapshot.Attempts)
		require.Len(t, p.B.Recorder.Received(), 1)
		c.Stop()
	})
}

// TestSnapshotResumedInTheHead: an attempt that stands still in the message at the head has the only place, which its sender
// knows to be broken: it is ended by the question about the same transfer, and by no other.
func TestSnapshotResumedInTheHead(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		a := testmember.StartSimulated(t, n, 1, testmember.Tuned(testmember.Receives(heldSaves{}), func(tr *rafthttp.Transport) { tr.MaxSnapshots = 1 }))
		a.AddPeer(2, testmember.SilentHost(n, 2))
		header := func(transfer string) map[string]string {
			return map[string]string{
				"X-Server-From": "2", "X-Raft-Snapshot-Term": "1", "X-Raft-Snapshot-Index": "7", "X-Raft-Snapshot-Size": "2",
				"X-Raft-Snapshot-Offset": "0", "X-Raft-Snapshot-Transfer": transfer,
			}
		}
		silent, end := io.Pipe()
		defer end.Close()
		transfers := &testmember.Posts{T: t, M: a.Transport, Codes: make(chan int)}
		transfers.Send("/raft/snapshot", testmember.PeerHeader(header("a")), silent)
		require.Equal(t, 503, testmember.Ask(t, a.Transport, "GET", "/raft/snapshot/offset", testmember.PeerHeader(header("b")), nil).Code)
		body := testmember.SnapshotBody(t, testmember.MsgSnap(1, 2, 7), "db")
		require.Equal(t, 409, testmember.Ask(t, a.Transport, "POST", "/raft/snapshot", testmember.PeerHeader(header("a")), body).Code)
		require.Equal(t, 204, testmember.Ask(t, a.Transport, "GET", "/raft/snapshot/offset", testmember.PeerHeader(header("a")), nil).Code)
		require.Equal(t, map[int]int{500: 1}, transfers.All())
	})
}

// TestSnapshotThatWasInstalled: what is remembered of a transfer that was installed serves another attempt at it, which brings the
// message and the checksum, and nothing else: not one that is cut short or has no length, not another transfer or another member's,
// not one from an earlier byte, and none after ten minutes. Of two such attempts the older one ends.
func TestSnapshotThatWasInstalled(t *testing.T) {
	const db = "database"
	dir := t.TempDir()
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		store := testmember.OpenStore(t, dir)
		a := testmember.StartSimulated(t, n, 1, testmember.Receives(store))
		a.AddPeer(2, testmember.SilentHost(n, 2))
		a.AddPeer(3, testmember.SilentHost(n, 3))
		frame, err := io.ReadAll(testmember.SnapshotBody(t, testmember.MsgSnap(1, 2, 7), ""))
		require.NoError(t, err)
		again := append(bytes.Clone(frame), checksumOf([]byte(db))...)
		post := func(from, transfer string, offset int, length int64, body io.Reader) int {
			r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/raft/snapshot", body)
			r.Header, r.ContentLength = testmember.PeerHeader(map[string]string{
				"X-Server-From": from, "X-Raft-Snapshot-Transfer": transfer, "X-Raft-Snapshot-Offset": strconv.Itoa(offset),
			}), length
			w := httptest.NewRecorder()
			a.Handler().ServeHTTP(w, r)
			return w.Code
		}
		whole := func(from, transfer string, offset int, body []byte) int {
			return post(from, transfer, offset, int64(len(body)), bytes.NewReader(body))
		}
		first := slices.Concat(frame, []byte(db), []byte(checksumOf([]byte(db))))
		require.Equal(t, 204, whole("2", "a", 0, first))
		path, err := store.DBFilePath(7)
		require.NoError(t, err)
		require.NoError(t, os.Remove(path)) // it was installed

		require.Equal(t, 204, whole("2", "a", len(db), again))
		require.Equal(t, 500, post("2", "a", len(db), int64(len(again)), bytes.NewReader(again[:len(again)-1])), "cut short")
		require.Equal(t, 400, post("2", "a", len(db), -1, bytes.NewReader(again)), "no length")
		require.Equal(t, 400, post("2", "a", len(db), 65<<20, bytes.NewReader(again)), "too long")
		require.Equal(t, 409, whole("2", "b", len(db), again), "another transfer")
		require.Equal(t, 409, whole("3", "a", len(db), again), "another member's")
		require.Equal(t, 409, whole("2", "a", len(db)-1, again), "an earlier byte")
		require.Len(t, a.Recorder.Received(), 1)

		silent, end := io.Pipe()
		older := make(chan int)
		go func() { older <- post("2", "a", len(db), int64(len(again)), silent) }()
		synctest.Wait()
		require.Equal(t, 204, whole("2", "a", len(db), again))
		require.Equal(t, 500, <-older)
		require.NoError(t, end.Close())

		time.Sleep(9 * time.Minute)
		require.Equal(t, 204, whole("2", "a", len(db), again))
		time.Sleep(2 * time.Minute)
		require.Equal(t, 409, whole("2", "a", len(db), again), "too late")
		require.Len(t, a.Recorder.Received(), 1)
		require.Equal(t, 204, whole("2", "a", 0, first), "from its first byte it is a snapshot as any other")
		require.Len(t, a.Recorder.Received(), 2)
	})
}
