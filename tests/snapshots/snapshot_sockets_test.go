package snapshots_test

import (
	"io"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/memnet"
	"github.com/seed-4d73690b/rafthttp/snap"
)

// countedFile is a file that bytes are moved to.
type countedFile struct {
	file  *os.File
	moves atomic.Int64
}

func (f *countedFile) Write(p []byte) (int, error) { return f.file.Write(p) }
func (f *countedFile) File() *os.File              { return f.file }

func (f *countedFile) ReadFrom(r io.Reader) (int64, error) {
	f.moves.Add(1)
	return f.file.ReadFrom(r)
}

// TestSnapshotIsMovedFromFileToFile: by sendfile and splice, or what stands for them, on a line that is fast, or so slow that
// deadlines end each of both many times.
func TestSnapshotIsMovedFromFileToFile(t *testing.T) {
	const size = 1 << 20
	data := testmember.RandomBytes(size)
	for name, rate := range map[string]int{"fast": 0, "slow": 20 << 10} {
		for _, stock := range []bool{false, true} {
			if stock {
				name += ", plain"
			}
			t.Run(name, func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "received")
				testmember.SimulateSockets(t, func(t *testing.T, n *memnet.Network) {
					uses, ended := new(testmember.SocketUses), make(chan error, 1)
					a := testmember.StartSimulated(t, n, 1, func(tr *rafthttp.Transport) {
						tr.Observer = sentTo(ended)
						uses.Dials(tr)
					})
					f, err := os.Create(path)
					require.NoError(t, err)
					defer f.Close()
					to := &countedFile{file: f}
					var s rafthttp.Snapshotter = testmember.Saver(func(r io.Reader, _ uint64) (int64, error) { return r.(io.WriterTo).WriteTo(to) })
					if stock {
						s = testmember.PlainStore{Snapshotter: s}
					}
					b := testmember.StartSimulated(t, n, 2, testmember.Receives(s))
					a.AddPeer(2, []string{b.URL})
					n.Link("m1", "m2").SetBandwidth(rate)
					a.SendSnapshot(snap.NewMessage(testmember.MsgSnap(2, 1, 7), fileWith(t, []byte("before"), data), size))
					require.NoError(t, <-ended)
					require.NotZero(t, uses.Files.Load(), "sendfile")
					require.NotZero(t, to.moves.Load(), "splice")
				})
				got, err := os.ReadFile(path)
				require.NoError(t, err)
				require.Equal(t, data, got)
			})
		}
	}
}

// TestSnapshotSocketIsAsPatient is TestSnapshotKernelIsAsPatient in a bubble.
func TestSnapshotSocketIsAsPatient(t *testing.T) {
	const size = 1 << 20
	for name, stock := range map[string]bool{"resumable": false, "plain": true} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			testmember.SimulateSockets(t, func(t *testing.T, n *memnet.Network) {
				uses, ended := new(testmember.SocketUses), make(chan error, 1)
				var s rafthttp.Snapshotter = &hanging{testmember.OpenStore(t, dir), size / 2, func() { time.Sleep(20 * time.Second) }}
				if stock {
					s = testmember.PlainStore{Snapshotter: s}
				}
				b := testmember.StartSimulated(t, n, 2, testmember.Receives(s))
				a := testmember.StartSimulated(t, n, 1, func(tr *rafthttp.Transport) {
					tr.Observer = sentTo(ended)
					uses.Dials(tr)
				})
				a.AddPeer(2, []string{b.URL})
				a.SendSnapshot(snap.NewMessage(testmember.MsgSnap(2, 1, 7), fileWith(t, nil, testmember.RandomBytes(size)), size))
				require.NoError(t, <-ended)
				a.Stop()
				uses.Mu.Lock()
				defer uses.Mu.Unlock()
				require.Equal(t, []time.Duration{time.Hour, testmember.ReadTimeout}, uses.Timeouts)
			})
		})
	}
}
