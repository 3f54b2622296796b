package snapshots_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/bubble"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/snap"
)

// flipping is a reader that knows the file it reads, and gives other bytes, as one that
// decrypts.
type flipping struct{ io.ReadSeekCloser }

func (f flipping) File() *os.File { return f.ReadSeekCloser.(*os.File) }

func (f flipping) Read(p []byte) (int, error) {
	n, err := f.ReadSeekCloser.Read(p)
	for i := range p[:n] {
		p[i] ^= 0xff
	}
	return n, err
}

// unexposed hides everything of a file but reading.
type unexposed struct{ f *os.File }

func (u unexposed) Read(p []byte) (int, error) { return u.f.Read(p) }
func (u unexposed) Close() error               { return u.f.Close() }

// fileOf makes a file with a prefix that does not belong to the database, and
// positions it behind that.
func fileWith(t *testing.T, prefix, data []byte) *os.File {
	t.Helper()
	path := filepath.Join(t.TempDir(), "db")
	require.NoError(t, os.WriteFile(path, append(bytes.Clone(prefix), data...), 0o600))
	f, err := os.Open(path)
	require.NoError(t, err)
	t.Cleanup(func() { f.Close() })
	_, err = f.Seek(int64(len(prefix)), io.SeekStart)
	require.NoError(t, err)
	return f
}

// Over real sockets: every way by which bytes can go from a file to a file.
func TestSnapshotOfAFile(t *testing.T) {
	readers := map[string]func(*os.File) io.ReadCloser{
		"file":            func(f *os.File) io.ReadCloser { return f },
		"snap.FileReader": func(f *os.File) io.ReadCloser { return snap.NewFileReader(f, nil) },
		"unexposed":       func(f *os.File) io.ReadCloser { return unexposed{f} },
	}
	stores := map[string]func(*snap.Store) rafthttp.Snapshotter{
		"with a checksum": func(s *snap.Store) rafthttp.Snapshotter { return s },
		"as stock":        func(s *snap.Store) rafthttp.Snapshotter { return testmember.PlainStore{Snapshotter: s} },
		"by io.Copy":      func(s *snap.Store) rafthttp.Snapshotter { return testmember.Saver(copying(t)) },
	}
	servers := map[string]func(net.Listener) net.Listener{
		"plain listener": func(l net.Listener) net.Listener { return l },
		"deadlines": func(l net.Listener) net.Listener {
			return testmember.NewDeadlineListener(l, rafthttp.DefaultConnReadTimeout, rafthttp.DefaultConnWriteTimeout)
		},
	}
	data := testmember.RandomBytes(5<<20 + 12345)
	for readerName, reader := range readers {
		for storeName, wrap := range stores {
			for serverName, listen := range servers {
				t.Run(readerName+", "+storeName+", "+serverName, func(t *testing.T) {
					dir := t.TempDir()
					store, err := snap.Open(dir)
					require.NoError(t, err)
					a := testmember.Start(t, 1, nil)
					ln, err := net.Listen("tcp", "127.0.0.1:0")
					require.NoError(t, err)
					b := testmember.StartOn(t, listen(ln), 2, testmember.Receives(wrap(store)))
					a.AddPeer(2, []string{b.URL})
					for _, size := range []int{len(data), 100_000, 32<<10 + 1, 32 << 10, 1, 0} {
						m := snap.NewMessage(testmember.MsgSnap(2, 1, uint64(size)+1), reader(fileWith(t, []byte("not of it"), data[:size])), int64(size))
						a.SendSnapshot(m)
						require.True(t, <-m.CloseNotify(), a.Status().Peers[0].LastError)
						path, err := store.DBFilePath(uint64(size) + 1)
						if storeName == "by io.Copy" {
							path, err = copied, nil
						}
						require.NoError(t, err)
						got, err := os.ReadFile(path)
						require.NoError(t, err)
						require.True(t, bytes.Equal(data[:size], got), "the database differs")
						require.Equal(t, int64(size), b.Status().LastReceived.Bytes)
					}
				})
			}
		}
	}
}

// TestSnapshotOfAReaderThatKnowsItsFile: the bytes that are sent are those of Read.
func TestSnapshotOfAReaderThatKnowsItsFile(t *testing.T) {
	const size = 4 << 20
	data := testmember.RandomBytes(size)
	want := bytes.Clone(data)
	for i := range want {
		want[i] ^= 0xff
	}
	for _, stock := range []bool{false, true} {
		store := testmember.OpenStore(t, t.TempDir())
		a := testmember.Start(t, 1, nil)
		b := testmember.Start(t, 2, func(tr *rafthttp.Transport) {
			if tr.Snapshotter = store; stock {
				tr.Snapshotter = testmember.PlainStore{Snapshotter: store}
			}
		})
		a.AddPeer(2, []string{b.URL})
		m := snap.NewMessage(testmember.MsgSnap(2, 1, 7), flipping{fileWith(t, []byte("not of it"), data)}, size)
		a.SendSnapshot(m)
		require.True(t, <-m.CloseNotify(), a.Status().Peers[0].LastError)
		testmember.RequireSaved(t, store, 7, want)
	}
}

// copied is where the Snapshotter of copying puts a database.
var copied string

// copying saves a database as etcd does.
func copying(t *testing.T) func(io.Reader, uint64) (int64, error) {
	copied = filepath.Join(t.TempDir(), "copied")
	return func(r io.Reader, _ uint64) (int64, error) {
		f, err := os.Create(copied)
		if err != nil {
			return 0, err
		}
		defer f.Close()
		return io.Copy(f, r)
	}
}

type errReader struct{}

func (errReader) Read([]byte) (int, error) { return 0, errors.New("read by its wrapper") }

// A file that is shorter or longer than declared, or that changes while it is
// sent, is never taken for whole.
func TestSnapshotOfAFileOfAnotherSize(t *testing.T) {
	const size = 3 << 20
	data := testmember.RandomBytes(size)
	tests := []struct {
		name     string
		declared int64
		want     error
	}{
		{"shorter by a byte", size + 1, rafthttp.ErrSnapshotShort},
		{"much shorter", size * 3, rafthttp.ErrSnapshotShort},
		{"longer by a byte", size - 1, rafthttp.ErrSnapshotLong},
		{"much longer", size / 3, rafthttp.ErrSnapshotLong},
	}
	for _, tc := range tests {
		for _, stock := range []bool{true, false} {
			t.Run(tc.name, func(t *testing.T) {
				dir := t.TempDir()
				store, err := snap.Open(dir)
				require.NoError(t, err)
				ended := make(chan error, 1)
				a := testmember.Start(t, 1, func(tr *rafthttp.Transport) { tr.Observer = sentTo(ended) })
				b := testmember.Start(t, 2, func(tr *rafthttp.Transport) {
					if tr.Snapshotter = store; stock {
						tr.Snapshotter = testmember.PlainStore{Snapshotter: store}
					}
				})
				a.AddPeer(2, []string{b.URL})
				m := snap.NewMessage(testmember.MsgSnap(2, 1, 7), fileWith(t, nil, data), tc.declared)
				a.SendSnapshot(m)
				require.False(t, <-m.CloseNotify())
				err = <-ended
				require.ErrorIs(t, err, tc.want)
				require.ErrorIs(t, err, rafthttp.ErrSnapshotSize)
				testmember.Eventually(t, func() bool { return len(b.Status().Receiving) == 0 })
				_, err = store.DBFilePath(7)
				require.ErrorIs(t, err, snap.ErrNoDBSnapshot)
				require.Empty(t, b.Recorder.Received())
				a.Stop() // which the report does not outlive
				require.Equal(t, []raft.SnapshotStatus{raft.SnapshotFailure}, a.Recorder.SnapshotReports())
			})
		}
	}
}

// The memory of a transfer does not depend on its size: a database of 192 MiB.
func TestSnapshotMemory(t *testing.T) {
	if testmember.RaceEnabled {
		t.Skip("the race detector makes pools forget")
	}
	const size = 192 << 20
	path := filepath.Join(t.TempDir(), "db")
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	require.NoError(t, os.Truncate(path, size)) // a hole: nothing to write
	readers := []func(*os.File) io.ReadCloser{
		func(f *os.File) io.ReadCloser { return snap.NewFileReader(f, nil) },
		func(f *os.File) io.ReadCloser { return unexposed{f} },
	}
	for _, reader := range readers {
		f, err := os.Open(path)
		require.NoError(t, err)
		store, err := snap.Open(t.TempDir())
		require.NoError(t, err)
		a, b := testmember.Start(t, 1, nil), testmember.Start(t, 2, testmember.Receives(store))
		a.AddPeer(2, []string{b.URL})
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		m := snap.NewMessage(testmember.MsgSnap(2, 1, 7), reader(f), size)
		a.SendSnapshot(m)
		require.True(t, <-m.CloseNotify())
		runtime.ReadMemStats(&after)
		require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(4<<20), "allocated in all, by both sides")
	}
}

// A connection that was taken over still answers in time why a snapshot is not
// wanted, whatever the sender has still to say.
func TestSnapshotRefusedWhileItComes(t *testing.T) {
	b := testmember.Start(t, 2, testmember.Receives(testmember.Saver(func(r io.Reader, _ uint64) (int64, error) {
		_, err := io.ReadFull(r, make([]byte, 1<<20))
		return 0, errors.Join(err, os.ErrPermission)
	})))
	ended := make(chan error, 1)
	a := testmember.Start(t, 1, func(tr *rafthttp.Transport) { tr.Observer = sentTo(ended) })
	a.AddPeer(2, []string{b.URL})
	f := fileWith(t, nil, testmember.RandomBytes(64<<20))
	a.SendSnapshot(snap.NewMessage(testmember.MsgSnap(2, 1, 7), f, 64<<20))
	err := <-ended
	require.ErrorIs(t, err, rafthttp.ErrSnapshotPermission)
	var status *rafthttp.StatusError
	require.ErrorAs(t, err, &status)
	require.Equal(t, http.StatusInternalServerError, status.Code)
}

// oldFile is a file that was written a while ago, so that a change shows.
func oldFile(t *testing.T, data []byte) *os.File {
	t.Helper()
	f := fileWith(t, nil, data)
	past := time.Now().Add(-time.Hour)
	require.NoError(t, os.Chtimes(f.Name(), past, past))
	return f
}

// overwrite changes some bytes of a file in place.
func overwrite(t *testing.T, path string, at int64) {
	t.Helper()
	w, err := os.OpenFile(path, os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = w.WriteAt(make([]byte, 1000), at)
	require.NoError(t, err)
	require.NoError(t, w.Close())
}

// TestSnapshotOfAFileThatChanges: what would be half old and half new is not finished,
// whichever way it is sent, and not taken for whole by the receiver.
func TestSnapshotOfAFileThatChanges(t *testing.T) {
	const size = 24 << 20 // half of it does not fit into the buffers of sockets
	data := testmember.RandomBytes(size)
	changes := map[string]func(t *testing.T, path string){
		"the part that was sent": func(t *testing.T, path string) { overwrite(t, path, 1000) },
		"the part to come":       func(t *testing.T, path string) { overwrite(t, path, size-size/4) },
		"written anew": func(t *testing.T, path string) {
			require.NoError(t, os.WriteFile(path, bytes.Repeat([]byte("new "), size/4), 0))
		},
		"replaced": func(t *testing.T, path string) {
			require.NoError(t, os.Rename(fileWith(t, nil, data[1:]).Name(), path))
		},
		"made public": func(t *testing.T, path string) { require.NoError(t, os.Chmod(path, 0o644)) },
	}
	for name, change := range changes {
		ok := name == "replaced" || name == "made public" // the file that is open is as it was
		for _, stock := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, in one attempt, stock %t", name, stock), func(t *testing.T) {
				f := oldFile(t, data)
				store := testmember.OpenStore(t, t.TempDir())
				var s rafthttp.Snapshotter = &hanging{store, size / 2, func() { change(t, f.Name()) }}
				if stock {
					s = testmember.PlainStore{Snapshotter: s}
				}
				b := testmember.Start(t, 2, testmember.Receives(s))
				_ = requireUnlessChanged(t, b, b.URL, f, store, data, ok)
			})
		}
		t.Run(name+", between two attempts", func(t *testing.T) {
			f := oldFile(t, data)
			store := testmember.OpenStore(t, t.TempDir())
			b := testmember.Start(t, 2, testmember.Receives(store))
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			proxy := &cutter{Listener: ln, target: strings.TrimPrefix(b.URL, "http://"), buffer: 64 << 10, at: []int64{size / 2}}
			proxy.onCut = func() { change(t, f.Name()) }
			go proxy.run()
			t.Cleanup(func() { ln.Close(); proxy.wg.Wait() })
			a := requireUnlessChanged(t, b, "http://"+ln.Addr().String(), f, store, data, ok)
			require.LessOrEqual(t, a.Status().Peers[0].LastSnapshot.Attempts, 2)
		})
	}
	t.Run("through memory", func(t *testing.T) {
		f := oldFile(t, data)
		dir := t.TempDir()
		bubble.Test(t, func(t *testing.T) {
			store := testmember.OpenStore(t, dir)
			p := testmember.NewPair(t, nil, testmember.Receives(&hanging{store, size / 2, func() { overwrite(t, f.Name(), 1000) }}))
			p.A.SendSnapshot(snap.NewMessage(testmember.MsgSnap(2, 1, 7), f, size))
			require.ErrorIs(t, <-p.Sent, rafthttp.ErrSnapshotChanged)
			time.Sleep(time.Second)
			require.Empty(t, p.B.Recorder.Received())
			_, err := store.DBFilePath(7)
			require.ErrorIs(t, err, snap.ErrNoDBSnapshot)
		})
	})
}

func requireUnlessChanged(t *testing.T, b *testmember.Member, url string, f *os.File, store *snap.Store, data []byte, ok bool) *testmember.Member {
	t.Helper()
	ended := make(chan error, 1)
	a := testmember.Start(t, 1, func(tr *rafthttp.Transport) { tr.Observer = sentTo(ended) })
	a.AddPeer(2, []string{url})
	m := snap.NewMessage(testmember.MsgSnap(2, 1, 7), f, int64(len(data)))
	a.SendSnapshot(m)
	err := <-ended
	require.Equal(t, ok, <-m.CloseNotify())
	testmember.Eventually(t, func() bool { return len(b.Status().Receiving) == 0 })
	if ok {
		require.NoError(t, err)
		testmember.RequireSaved(t, store, 7, data)
		return a
	}
	require.ErrorIs(t, err, rafthttp.ErrSnapshotChanged)
	require.ErrorIs(t, err, rafthttp.ErrSnapshotReader)
	_, err = store.DBFilePath(7)
	require.ErrorIs(t, err, snap.ErrNoDBSnapshot)
	require.Empty(t, b.Recorder.Received())
	return a
}
