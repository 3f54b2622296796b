package snapshots_test

import (
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/snap"
)

// failingFile is a file that the kernel can move bytes to, until it fails.
type failingFile struct {
	file *os.File
	err  error
}

func (f *failingFile) Write(p []byte) (int, error) { return f.file.Write(p) }
func (f *failingFile) File() *os.File              { return f.file }

func (f *failingFile) ReadFrom(io.Reader) (int64, error) {
	return 0, &os.PathError{Op: "write", Path: f.file.Name(), Err: os.NewSyscallError("splice", f.err)}
}

// TestSnapshotFileFailsWhileTheKernelMovesBytes: what is wrong with the file is not told as what is wrong with the
// connection, although both come from one call, and whatever it is.
func TestSnapshotFileFailsWhileTheKernelMovesBytes(t *testing.T) {
	tests := map[string]struct{ err, is error }{
		"stale":      {syscall.ESTALE, rafthttp.ErrSnapshotNotSaved},
		"unknown":    {syscall.EUCLEAN, rafthttp.ErrSnapshotNotSaved},
		"disk error": {syscall.EIO, rafthttp.ErrSnapshotDisk},
		"connection": {syscall.ECONNRESET, rafthttp.ErrSnapshotCut},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			b := testmember.Start(t, 2, testmember.Receives(testmember.Saver(func(r io.Reader, _ uint64) (int64, error) {
				f, err := os.Create(filepath.Join(t.TempDir(), "db"))
				if err != nil {
					return 0, err
				}
				defer f.Close()
				return r.(io.WriterTo).WriteTo(&failingFile{f, tc.err})
			})))
			ended := make(chan error, 1)
			a := testmember.Start(t, 1, func(tr *rafthttp.Transport) { tr.Observer = sentTo(ended) })
			a.AddPeer(2, []string{b.URL})
			const size = 4 << 20
			a.SendSnapshot(snap.NewMessage(testmember.MsgSnap(2, 1, 7), fileWith(t, nil, testmember.RandomBytes(size)), size))
			err := <-ended
			require.ErrorIs(t, err, tc.is)
			if name != "connection" {
				require.NotErrorIs(t, err, rafthttp.ErrSnapshotCut)
			}
		})
	}
}
