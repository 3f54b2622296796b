package snapshot

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp/internal/socket"
)

// TestSendfileAfterItsDeadline: the file is never behind what was sent, so that nothing is left out.
func TestSendfileAfterItsDeadline(t *testing.T) {
	const prefix, size = "not of it", 1 << 20
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { ln.Close() })
	c, err := net.Dial("tcp", ln.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	path := filepath.Join(t.TempDir(), "db")
	require.NoError(t, os.WriteFile(path, append([]byte(prefix), make([]byte, size)...), 0o600))
	f, err := os.Open(path)
	require.NoError(t, err)
	t.Cleanup(func() { f.Close() })
	_, err = f.Seek(int64(len(prefix)), io.SeekStart)
	require.NoError(t, err)
	time.AfterFunc(100*time.Millisecond, func() { c.Close() }) // as an attempt does that sees that nothing moves

	tr := &transfer{sender: &Sender{cfg: SenderConfig{Config: Config{ReadTimeout: 1}}}} // deadlines are over before it begins
	tr.db = newSource(f, size)
	require.NoError(t, tr.db.begin())
	w := &bodyWriter{t: tr, conn: &peerConn{Conn: c}, files: socket.Files(c), partial: true}
	require.ErrorIs(t, w.sendfile(size, nil), net.ErrClosed)
	require.Zero(t, tr.db.at())
	at, err := f.Seek(0, io.SeekCurrent)
	require.NoError(t, err)
	require.EqualValues(t, len(prefix), at)
}
