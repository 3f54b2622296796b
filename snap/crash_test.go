package snap_test

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp/internal/bubble"
	"github.com/seed-4d73690b/rafthttp/snap"
)

const (
	crashEnv  = "SNAP_CRASH_DIR"
	crashSize = 3 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// crashDB is the database with this index: any byte of it says which one it is.
func crashDB(index uint64) []byte {
	b := make([]byte, crashSize)
	r := rand.NewChaCha8([32]byte(binary.BigEndian.AppendUint64(make([]byte, 24, 32), index)))
	_, _ = r.Read(b)
	return b
}

// TestCrashHelper is the process that is killed: it saves one database after the
// other, in all ways there are, and says each index when it is saved.
func TestCrashHelper(t *testing.T) {
	dir := os.Getenv(crashEnv)
	if dir == "" {
		t.Skip("only for TestKilledWhileSaving")
	}
	store := openStore(t, dir)
	for scan := bufio.NewScanner(os.Stdin); scan.Scan(); {
		index, err := strconv.ParseUint(scan.Text(), 10, 64)
		require.NoError(t, err)
		data := crashDB(index)
		fmt.Println("begin")
		if index%2 == 0 {
			_, err = store.SaveDBFrom(socket(t, data), index)
		} else {
			half := int64(len(data) / 2)
			tr := snap.Transfer{From: 1, Term: 1, Index: index, Size: int64(len(data))}
			sum := func() (uint32, error) { return crc32.Checksum(data, castagnoli), nil }
			_, err = store.ResumeDBFrom(io.MultiReader(bytes.NewReader(data[:half]), broken{}), tr, 0, sum)
			require.ErrorIs(t, err, errBroken)
			offset, _ := store.PartialDB(tr)
			_, err = store.ResumeDBFrom(bytes.NewReader(data[offset:]), tr, offset, sum)
		}
		require.NoError(t, err)
		fmt.Println("saved")
	}
	os.Exit(0)
}

var errBroken = errors.New("connection broken")

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errBroken }

// socket is data as it comes from a socket: the kernel can move it.
func socket(t *testing.T, data []byte) io.Reader {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	go func() {
		c, err := net.Dial("tcp", ln.Addr().String())
		if err == nil {
			_, _ = c.Write(data)
			c.Close()
		}
	}()
	c, err := ln.Accept()
	require.NoError(t, err)
	return &spliced{c, int64(len(data))}
}

// spliced is a reader that does as those of package rafthttp.
type spliced struct {
	conn net.Conn
	left int64
}

func (s *spliced) Len() int64                 { return s.left }
func (s *spliced) Read(p []byte) (int, error) { return s.conn.Read(p) }

func (s *spliced) WriteTo(w io.Writer) (total int64, err error) {
	defer s.conn.Close()
	to := w.(io.ReaderFrom)
	for s.left > 0 {
		n, err := to.ReadFrom(&io.LimitedReader{R: s.conn, N: min(s.left, 64<<10)})
		total += n
		if s.left -= n; err != nil || n == 0 {
			return total, errors.Join(err, errBroken)
		}
	}
	return total, nil
}

// A process that is killed at any moment while it saves leaves the whole database
// or none, and nothing else once the store is opened again.
func TestKilledWhileSaving(t *testing.T) {
	dir := t.TempDir()
	index, took := uint64(0), 20*time.Millisecond
	crashes := bubble.Runs(200, 40) // a process that is killed reports no race
	var whole, none, said int
	for range crashes {
		index++
		saved, err := killWhileSaving(t, dir, index, rand.N(2*took), &took)
		require.NoError(t, err)
		files, err := os.ReadDir(dir)
		require.NoError(t, err)
		for _, f := range files {
			if f.Name() == fmt.Sprintf("%016x.snap.db", index) {
				requireWhole(t, filepath.Join(dir, f.Name()), index)
			}
		}
		store := openStore(t, dir)
		path, err := store.DBFilePath(index)
		switch {
		case err == nil:
			requireWhole(t, path, index)
			requireFiles(t, dir, filepath.Base(path))
			require.NoError(t, os.Remove(path))
			whole++
		default:
			require.ErrorIs(t, err, snap.ErrNoDBSnapshot)
			require.False(t, saved, "it was said to be saved, and is gone")
			requireFiles(t, dir)
			none++
		}
		if saved {
			said++
		}
		require.NoError(t, store.Close())
	}
	t.Logf("killed %d times: %d whole databases, %d of them known to be saved, %d none", crashes, whole, said, none)
	require.Positive(t, none, "no kill came in time")
	require.Positive(t, whole, "no kill came late enough")
}

func requireWhole(t *testing.T, path string, index uint64) {
	t.Helper()
	got, err := os.ReadFile(path)
	require.NoError(t, err)
	require.True(t, bytes.Equal(crashDB(index), got), "part of a database under its final name: %d bytes", len(got))
}

// killWhileSaving has a process save a database and kills it after a while. It
// reports whether the process said that the database is saved. took becomes how
// long that takes.
func killWhileSaving(t *testing.T, dir string, index uint64, after time.Duration, took *time.Duration) (saved bool, err error) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestCrashHelper$")
	cmd.Env = append(os.Environ(), crashEnv+"="+dir)
	in, err := cmd.StdinPipe()
	if err != nil {
		return false, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return false, err
	}
	if err := cmd.Start(); err != nil {
		return false, err
	}
	if _, err := fmt.Fprintln(in, index); err != nil {
		return false, err
	}
	lines := bufio.NewScanner(out)
	lines.Scan() // begin
	begun := time.Now()
	kill := time.AfterFunc(after, func() { _ = cmd.Process.Kill() })
	if saved = lines.Scan() && lines.Text() == "saved"; saved {
		*took = (3**took + time.Since(begun)) / 4
	}
	kill.Stop()
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	return saved, nil
}
