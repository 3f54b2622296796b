package groups_test

import (
	"bytes"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/memnet"
	"github.com/seed-4d73690b/rafthttp/snap"
)

// readers are those of a database: one that can seek, and one that cannot.
var readers = map[string]struct {
	of   func(data []byte) io.ReadCloser
	goes raft.SnapshotStatus // of a transfer that must begin again, or go on elsewhere
}{
	"seeks": {func(data []byte) io.ReadCloser { return &testmember.Seekable{Reader: bytes.NewReader(data)} }, raft.SnapshotFinish},
	"does not seek": {func(data []byte) io.ReadCloser { return io.NopCloser(io.MultiReader(bytes.NewReader(data))) },
		raft.SnapshotFailure},
}

// TestSnapshotWhileTheNodeMoves: a snapshot of a group goes on at the new URLs of its node once the former ones are gone, if its reader seeks,
// exactly as one of a peer does.
func TestSnapshotWhileTheNodeMoves(t *testing.T) {
	const size = 8 << 20
	data := testmember.RandomBytes(size)
	for name, reader := range readers {
		for _, group := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				dir := t.TempDir()
				testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
					store := testmember.OpenStore(t, dir)
					ma, mb := testmember.StartSimulated(t, n, 1, nil), testmember.StartSimulated(t, n, 2, testmember.Receives(store))
					front(t, n, nil, passOn)
					n.Link(testmember.HostOf(1), "front").SetBandwidth(1 << 20)
					from, raftOf := rafthttp.Transporter(ma.Transport), ma.Recorder
					if group {
						a, b := join(t, ma, 7, nil), join(t, mb, 7, saves(store))
						b.AddPeer(1, []string{testmember.URLOf(1)})
						from, raftOf = a.Group, a.raft
					} else {
						mb.AddPeer(1, []string{testmember.URLOf(1)})
					}
					from.AddPeer(2, []string{frontURL})
					time.Sleep(time.Second)
					m := snap.NewMessage(testmember.MsgSnap(2, 1, 7), reader.of(data), size)
					from.SendSnapshot(m)
					time.Sleep(4 * time.Second)
					from.UpdatePeer(2, []string{testmember.URLOf(2)})
					time.Sleep(time.Second)
					require.Empty(t, raftOf.SnapshotReports(), "a connection that works is used to the end")
					n.Host("front").Crash()
					require.Equal(t, reader.goes == raft.SnapshotFinish, <-m.CloseNotify())
					time.Sleep(time.Second)
					require.Equal(t, []raft.SnapshotStatus{reader.goes}, raftOf.SnapshotReports())
					if reader.goes == raft.SnapshotFinish {
						testmember.RequireSaved(t, store, 7, data)
					}
				})
			})
		}
	}
}

// TestAnotherNodeIsQuicker: the place at the receiver is free when it is asked, and another node's snapshot has it when the body comes. A
// reader that seeks begins again, when the place is free; any other has given bytes away, and raft is told.
func TestAnotherNodeIsQuicker(t *testing.T) {
	for name, reader := range readers {
		t.Run(name, func(t *testing.T) {
			testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
				m1, failures := startLogged(t, n)
				m3 := startNode(t, n, 3)
				m2 := testmember.StartSimulated(t, n, 2, func(tr *rafthttp.Transport) { tr.Raft, tr.MaxSnapshots = rafthttp.NoRaft{}, 1 })
				a, b := connect(t, m1, m2, 7, testmember.SavesAll)
				c := join(t, m3, 8, nil)
				c.AddPeer(2, []string{testmember.URLOf(2)})
				join(t, m2, 8, saves(testmember.SavesAll)).AddPeer(3, []string{testmember.URLOf(3)})
				time.Sleep(time.Second)
				for _, l := range []*memnet.Link{n.Link("m1", "m2"), n.Link("m2", "m1")} {
					l.SetDelay(time.Second / 2)
				}
				m := snap.NewMessage(testmember.MsgSnap(2, 1, 7), reader.of([]byte("database")), 8)
				a.SendSnapshot(m)
				time.Sleep(2800 * time.Millisecond) // the answer to the question is on its way
				other := snap.NewMessage(testmember.MsgSnap(2, 3, 7), testmember.Throttled(make([]byte, 60), 1, time.Second), 60)
				c.SendSnapshot(other)
				require.Equal(t, reader.goes == raft.SnapshotFinish, <-m.CloseNotify())
				time.Sleep(time.Second)
				require.Equal(t, []raft.SnapshotStatus{reader.goes}, a.raft.SnapshotReports())
				if reader.goes == raft.SnapshotFinish {
					require.Len(t, b.raft.Received(), 1)
					require.Equal(t, 2, groupNode(t, m1, 2).LastSnapshot.Attempts)
					return
				}
				require.Len(t, failures(), 1)
				require.Contains(t, failures()[0], "too many snapshots in flight")
				m = snap.NewMessage(testmember.MsgSnap(2, 1, 7), reader.of([]byte("database")), 8) // raft repeats it
				a.SendSnapshot(m)
				require.True(t, <-m.CloseNotify(), "it waits for the place")
				require.True(t, <-other.CloseNotify())
			})
		})
	}
}
