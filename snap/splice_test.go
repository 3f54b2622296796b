package snap_test

import (
	"hash/crc32"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp/snap"
)

// sliced is a database that comes by a connection and knows its length. Like that of a Transport, it has the
// operating system move the bytes, where it writes to a file of it.
type sliced struct {
	net.Conn
	left int64
}

const sliceBytes = 1 << 20

func (s *sliced) Len() int64 { return s.left }

func (s *sliced) WriteTo(w io.Writer) (n int64, err error) {
	f := w.(interface {
		io.ReaderFrom
		File() *os.File
	})
	if f.File() == nil {
		return io.Copy(w, struct{ io.Reader }{s.Conn})
	}
	for {
		m, err := f.ReadFrom(&io.LimitedReader{R: s.Conn, N: sliceBytes})
		n += m
		s.left -= m
		if m == 0 || err != nil {
			return n, err
		}
	}
}

// connection brings data and ends.
func connection(t *testing.T, data []byte, length int64) *sliced {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	c, err := net.Dial("tcp", ln.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	far, err := ln.Accept()
	require.NoError(t, err)
	go func() { // ends with the data, or with c
		defer far.Close()
		_, _ = far.Write(data)
	}()
	return &sliced{c, length}
}

// TestBytesMovedByTheSystem: what never passes through memory of the store is saved and summed up all the same.
func TestBytesMovedByTheSystem(t *testing.T) {
	data := make([]byte, 20<<20+123)
	for i, rng := 0, rand.New(rand.NewPCG(1, 2)); i < len(data); i += 97 {
		data[i] = byte(rng.Uint32())
	}
	size := int64(len(data))
	sum := crc32.Checksum(data, castagnoli)
	whole := func() (uint32, error) { return sum, nil }
	saved := func(t *testing.T, s *snap.Store, index uint64) {
		t.Helper()
		path, err := s.DBFilePath(index)
		require.NoError(t, err)
		b, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, sum, crc32.Checksum(b, castagnoli))
		require.Len(t, b, len(data))
	}
	t.Run("without a checksum", func(t *testing.T) {
		s := openStore(t, t.TempDir())
		n, err := s.SaveDBFrom(connection(t, data, size), 7)
		require.NoError(t, err)
		require.Equal(t, size, n)
		saved(t, s, 7)
	})
	t.Run("with a checksum", func(t *testing.T) {
		s := openStore(t, t.TempDir())
		n, err := s.ResumeDBFrom(connection(t, data, size), snap.Transfer{From: 1, Term: 3, Index: 7, Size: size}, 0, whole)
		require.NoError(t, err)
		require.Equal(t, size, n)
		saved(t, s, 7)
	})
	t.Run("with another checksum", func(t *testing.T) {
		s := openStore(t, t.TempDir())
		_, err := s.ResumeDBFrom(connection(t, data, size), snap.Transfer{From: 1, Term: 3, Index: 7, Size: size}, 0,
			func() (uint32, error) { return sum + 1, nil })
		require.ErrorIs(t, err, snap.ErrChecksum)
		_, err = s.DBFilePath(7)
		require.Error(t, err)
	})
	t.Run("too short, and resumed", func(t *testing.T) {
		const came = 9<<20 + 1
		s := openStore(t, t.TempDir())
		tr := snap.Transfer{From: 1, Term: 3, Index: 7, Size: size}
		_, err := s.ResumeDBFrom(&failing{*connection(t, data[:came], size)}, tr, 0, whole)
		require.ErrorIs(t, err, errCut)
		at, partial := s.PartialDB(tr)
		require.EqualValues(t, came, at)
		require.Equal(t, crc32.Checksum(data[:came], castagnoli), partial)
		n, err := s.ResumeDBFrom(connection(t, data[came:], size-came), tr, at, whole)
		require.NoError(t, err)
		require.Equal(t, size-came, n)
		saved(t, s, 7)
	})
	t.Run("too long", func(t *testing.T) {
		s := openStore(t, t.TempDir())
		_, err := s.SaveDBFrom(connection(t, data, size-1000), 7)
		require.ErrorIs(t, err, snap.ErrWrongSize)
		_, err = s.DBFilePath(7)
		require.Error(t, err)
	})
}

// failing is a connection that breaks where it ends.
type failing struct{ sliced }

func (f *failing) WriteTo(w io.Writer) (int64, error) {
	n, err := f.sliced.WriteTo(w)
	if err == nil {
		err = errCut
	}
	return n, err
}
