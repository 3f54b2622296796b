package interop_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3"
	"google.golang.org/protobuf/proto"

	"github.com/seed-4d73690b/rafthttp/compat/member"
	"github.com/seed-4d73690b/rafthttp/compat/traffic"
	"github.com/seed-4d73690b/rafthttp/compat/v36/drive"
)

// TestSnapshots: databases up to 256 MiB, byte for byte. The sender is told of success once, the receiver's raft once, and
// the database is on disk by then.
func TestSnapshots(t *testing.T) {
	plainAndTLS(t, all, func(t *testing.T, p pairing, files *drive.TLS) {
		a, b := connect(t, p, withTLS(files))
		sizes := []int64{0, 1, 1 << 20}
		switch plain37 := p == mixed[0] && files == nil; {
		case plain37, slices.Contains(mixed, p) && !raceDetector:
			sizes = append(sizes, 256<<20)
		case slices.Contains(mixed, p):
			sizes = append(sizes, 16<<20)
		}
		inBothDirections(t, a, b, func(t *testing.T, from, to *end) {
			for i, size := range sizes {
				t.Run(fmt.Sprint(size), func(t *testing.T) {
					transfer(t, from, to, uint64(1000+i), size)
				})
			}
		})
	})
}

// TestSnapshotToUnknownReceiver: a snapshot for who has us neither as a peer nor as a remote, as a new member's.
func TestSnapshotToUnknownReceiver(t *testing.T) {
	for _, p := range all {
		for _, kinds := range p.directions() {
			t.Run("from-"+string(kinds[0])+"-to-"+string(kinds[1]), func(t *testing.T) {
				from, to := start(t, kinds[0], 1), start(t, kinds[1], 2)
				from.AddPeer(to.ID(), to.URL())
				transfer(t, from, to, 1000, 1<<20)
			})
		}
	}
}

// TestSnapshotRequests: a stock receiver is sent the stock request and nothing that it does not know, one of our own is asked
// how far it is.
func TestSnapshotRequests(t *testing.T) {
	for _, kind := range []member.Kind{member.Ours, member.Stock37, member.Stock36} {
		for _, known := range []bool{true, false} {
			t.Run(fmt.Sprintf("to-%s-known-%t", kind, known), func(t *testing.T) {
				var from, to *end
				if known {
					from, to = connect(t, pairing{member.Ours, kind})
				} else {
					from, to = start(t, member.Ours, 1), start(t, kind, 2)
					from.AddPeer(to.ID(), to.URL())
				}
				transfer(t, from, to, 1000, 1<<20)
				requests := to.Look(from.ID()).Requests
				require.Equal(t, 1, requests["POST /raft/snapshot"])
				questions := 0
				for request, n := range requests {
					switch request {
					case "POST /raft", "POST /raft/snapshot", "GET /raft/probing", "GET /raft/stream/message", "GET /raft/stream/msgapp":
					case "GET /raft/snapshot/offset":
						questions += n
					default:
						require.Fail(t, "a request of no known kind", request)
					}
				}
				require.Equal(t, kind == member.Ours, questions == 1)
			})
		}
	}
}

// transfer sends one snapshot and checks everything that comes of it.
func transfer(t *testing.T, from, to *end, index uint64, size int64) {
	t.Helper()
	from.Reset()
	to.Reset()
	db := drive.Database{Seed: index, Size: size}
	head := traffic.SnapshotMessage(from.ID(), to.ID(), index, 3)
	sent := proto.CloneOf(head) // the transport owns what it is given
	closed := from.SendSnapshot(head, member.Source{Generated: db})

	require.True(t, <-closed)
	got := await(t, to, 1)
	require.Len(t, got, 1)
	require.Truef(t, alike(from, to, sent, got[0]), "want %v\ngot %v", sent, got[0])
	saved := member.DatabasePath(to.dir, index)
	requireDatabase(t, db, saved)
	require.NoError(t, os.Remove(saved))
	eventually(t, from, func(s *member.Seen) bool { return len(s.Snapshots) > 0 })
	from.Recorder.Look(func(s *member.Seen) {
		require.Equal(t, []member.SnapshotReport{{Peer: to.ID(), Status: raft.SnapshotFinish}}, s.Snapshots)
	})
}

// requireDatabase requires that the file has the bytes of db and no others.
func requireDatabase(t *testing.T, db drive.Database, path string) {
	t.Helper()
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	info, err := f.Stat()
	require.NoError(t, err)
	require.Equal(t, db.Size, info.Size())
	want, got := make([]byte, 1<<20), make([]byte, 1<<20)
	generated := db.Reader()
	for at := int64(0); at < db.Size; {
		n, err := io.ReadFull(f, got)
		if err != io.ErrUnexpectedEOF {
			require.NoError(t, err)
		}
		_, err = io.ReadFull(generated, want[:n])
		require.NoError(t, err)
		require.Truef(t, bytes.Equal(want[:n], got[:n]), "the database differs within the MiB from byte %d", at)
		at += int64(n)
	}
}

// TestSnapshotGoesOnToStock: the receiver is one of ours when a transfer of a file begins, and a stock member when its
// connection breaks in the middle. What arrives there is the whole database.
func TestSnapshotGoesOnToStock(t *testing.T) {
	const size = 8 << 20
	for _, kind := range []member.Kind{member.Stock37, member.Stock36} {
		t.Run(string(kind), func(t *testing.T) {
			from, first, second := start(t, member.Ours, 1), start(t, member.Ours, 2), start(t, kind, 2)
			proxy := newSwitch(t, hostOf(t, first.URL()), hostOf(t, second.URL()), size/2)
			from.AddPeer(2, "http://"+proxy.Addr().String())
			db := drive.Database{Seed: 1, Size: size}
			path := filepath.Join(t.TempDir(), "db")
			f, err := os.Create(path)
			require.NoError(t, err)
			_, err = io.Copy(f, db.Reader())
			require.NoError(t, err)
			require.NoError(t, f.Close())
			closed := from.SendSnapshot(traffic.SnapshotMessage(1, 2, 1000, 3), member.Source{File: path})
			require.True(t, <-closed)
			require.Len(t, await(t, second, 1), 1)
			requireDatabase(t, db, member.DatabasePath(second.dir, 1000))
			_, err = os.Stat(member.DatabasePath(first.dir, 1000))
			require.ErrorIs(t, err, os.ErrNotExist)
		})
	}
}

// newSwitch is a proxy that leads to a first address until a number of bytes have gone there, breaks the connection then, and
// leads to a second one.
func newSwitch(t *testing.T, first, second string, after int64) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var wg sync.WaitGroup
	left := new(atomic.Int64)
	left.Store(after)
	serve := func(client net.Conn) {
		defer client.Close()
		to := first
		if left.Load() <= 0 {
			to = second
		}
		target, err := net.Dial("tcp", to)
		if err != nil {
			return
		}
		defer target.Close()
		wg.Go(func() {
			_, _ = io.Copy(client, target)
			client.Close()
		})
		for buf := make([]byte, 32<<10); ; {
			n, err := client.Read(buf)
			if _, werr := target.Write(buf[:n]); err != nil || werr != nil {
				return
			}
			if to == first && left.Add(int64(-n)) <= 0 {
				return
			}
		}
	}
	wg.Go(func() {
		for {
			client, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { serve(client) })
		}
	})
	t.Cleanup(func() { ln.Close() })
	return ln
}
