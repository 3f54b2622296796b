package rafthttp_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/snap"
)

// read returns what r brings.
func read(t *testing.T, r io.Reader) string {
	t.Helper()
	b, err := io.ReadAll(r)
	require.NoError(t, err)
	return string(b)
}

func TestSnapshotBodies(t *testing.T) {
	const max = 10_000
	a := startMember(t, 1, func(tr *rafthttp.Transport) { tr.MaxMessageBytes, tr.Snapshotter = max, savesAll })
	app := msgApp(1, 2, 7, nil)
	large := msgSnap(1, 2, 7)
	large.Snapshot.Data = make([]byte, max)
	mixed := msgSnap(1, 2, 7)
	mixed.Type = raftpb.MsgApp.Enum()
	noIndex := msgSnap(1, 2, 0)
	tests := []struct {
		name string
		body io.Reader
		code int
	}{
		{"good", snapshotBody(t, msgSnap(1, 2, 7), "db"), 204},
		{"without a database", snapshotBody(t, msgSnap(1, 2, 7), ""), 204},
		{"empty body", strings.NewReader(""), 400},
		{"half a length", strings.NewReader("\x00\x00\x00"), 400},
		{"length alone", bytes.NewReader(lengthPrefix(10)), 400},
		{"cut message", bytes.NewReader(append(lengthPrefix(10), 8, 7)), 400},
		{"undecodable", bytes.NewReader(append(lengthPrefix(2), 0xff, 0xff)), 400},
		{"over-long", bytes.NewReader(lengthPrefix(1 << 40)), 400},
		{"over the limit", snapshotBody(t, large, ""), 400},
		{"empty message", bytes.NewReader(lengthPrefix(0)), 400},
		{"link heartbeat", bytes.NewReader(append(lengthPrefix(2), 8, 8)), 400},
		{"append", snapshotBody(t, app, ""), 400},
		{"append with a snapshot in it", snapshotBody(t, mixed, ""), 400},
		{"no snapshot in it", snapshotBody(t, &raftpb.Message{Type: raftpb.MsgSnap.Enum()}, ""), 400},
		{"empty snapshot", snapshotBody(t, noIndex, ""), 400},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			want := len(a.raft.received())
			got := exchange(t, a.url, "POST", "/raft/snapshot", peerHeader(nil), tc.body)
			require.Equal(t, tc.code, got.StatusCode, got.body)
			if tc.code == 204 {
				want++
			}
			require.Len(t, a.raft.received(), want)
			require.Empty(t, a.Status().Receiving)
		})
	}
}

func TestSnapshotProcessErrors(t *testing.T) {
	tests := []struct {
		name string
		err  error
		code int
		body string
	}{
		{"plain", errors.New("no"), 500, "failed to process raft message: no\n"},
		{"answers by itself", teapot{}, 418, ""},
		{"WriteTo with a result", notTeapot{}, 500, "failed to process raft message: no teapot\n"},
		{"removed", rafthttp.ErrMemberRemoved, 403, "failed to process raft message: the member has been permanently removed from the cluster\n"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			a := startMember(t, 1, receives(savesAll))
			a.raft.process = func(context.Context, *raftpb.Message) error { return tc.err }
			body := read(t, snapshotBody(t, msgSnap(1, 2, 7), "db"))
			c, err := net.Dial("tcp", strings.TrimPrefix(a.url, "http://"))
			require.NoError(t, err)
			defer c.Close()
			for range 2 { // the connection is kept
				_, err = io.WriteString(c, requestHead("POST", "/raft/snapshot", peerHeader(nil), len(body))+body)
				require.NoError(t, err)
				got := readAnswer(t, c)
				require.Equal(t, tc.code, got.StatusCode)
				require.Equal(t, tc.body, got.body)
			}
		})
	}
}

func TestSnapshotNotTaken(t *testing.T) {
	body := func() io.Reader { return snapshotBody(t, msgSnap(1, 2, 7), "db") }
	a := startMember(t, 1, nil)
	got := exchange(t, a.url, "POST", "/raft/snapshot", peerHeader(nil), body())
	require.Equal(t, 501, got.StatusCode)
	require.Equal(t, "this member takes no database snapshots\n", got.body)

	held := make(chan struct{})
	b := startMember(t, 1, func(tr *rafthttp.Transport) {
		tr.MaxSnapshots = 1
		tr.Snapshotter = saver(func(io.Reader, uint64) (int64, error) { <-held; return 0, errors.New("disk full") })
	})
	bytes := read(t, body())
	first, err := net.Dial("tcp", strings.TrimPrefix(b.url, "http://"))
	require.NoError(t, err)
	defer first.Close()
	_, err = io.WriteString(first, requestHead("POST", "/raft/snapshot", peerHeader(nil), len(bytes))+bytes)
	require.NoError(t, err)
	eventually(t, func() bool { return len(b.Status().Receiving) == 1 })
	got = exchange(t, b.url, "POST", "/raft/snapshot", peerHeader(nil), body())
	require.Equal(t, 503, got.StatusCode)
	require.Equal(t, "1", got.Header.Get("Retry-After"))
	close(held)
	got = readAnswer(t, first)
	require.Equal(t, 500, got.StatusCode)
	require.Equal(t, "failed to save database snapshot: disk full\n", got.body)
	require.Empty(t, a.raft.received())
	require.Empty(t, b.raft.received())
}

// A sender that dies without a word holds its handler for the read timeout, and
// nothing of it is taken.
func TestSnapshotSenderFallsSilent(t *testing.T) {
	whole := read(t, snapshotBody(t, msgSnap(2, 1, 7), strings.Repeat("x", 1000)))
	tests := []struct {
		name string
		sent string
	}{
		{"before the head", ""},
		{"in the length", whole[:4]},
		{"in the message", whole[:12]},
		{"in the database", whole[:500]},
		{"before the last byte", whole[:len(whole)-1]},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				store, err := snap.Open(dir)
				require.NoError(t, err)
				received := make(chan error, 1)
				p := newPair(t, nil, func(tr *rafthttp.Transport) {
					tr.ReadTimeout, tr.Snapshotter = 3*time.Second, store
					tr.Observer = &rafthttp.Observer{SnapshotReceived: func(_ types.ID, _ uint64, _ int64, _ time.Duration, err error) { received <- err }}
				})
				c, err := p.net.Host("c").DialContext(t.Context(), "tcp", "b:80")
				require.NoError(t, err)
				defer c.Close()
				start := time.Now()
				_, err = io.WriteString(c, requestHead("POST", "/raft/snapshot", peerHeader(nil), len(whole))+tc.sent)
				require.NoError(t, err)
				time.Sleep(3*time.Second - 1)
				synctest.Wait()
				require.Len(t, p.b.Status().Receiving, 1, "patient until then")
				time.Sleep(time.Nanosecond)
				synctest.Wait()
				require.Empty(t, p.b.Status().Receiving)
				require.GreaterOrEqual(t, readAnswer(t, c).StatusCode, 400)
				require.LessOrEqual(t, time.Since(start), 6*time.Second)
				require.Empty(t, p.b.raft.received())
				if len(tc.sent) > 100 {
					require.ErrorIs(t, <-received, rafthttp.ErrStalled)
				}
			})
			files, err := os.ReadDir(dir)
			require.NoError(t, err)
			require.Empty(t, files)
		})
	}
}

// What is shown of a transfer, at both ends.
func TestSnapshotStatus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size, gone = 1 << 20, 300_000
		p := newPair(t, nil, receives(savesAll))
		db := blockingReader(randomBytes(gone))
		m := newSnapshot(db, size)
		start := time.Now()
		p.a.SendSnapshot(m)
		time.Sleep(time.Second)
		sending := p.a.Status().Peers[0].Snapshots
		require.Equal(t, []rafthttp.SnapshotStatus{{Index: 7, Bytes: gone, Total: size, Started: start}}, sending)
		receiving := p.b.Status().Receiving
		require.Equal(t, []rafthttp.SnapshotStatus{{Peer: 1, Index: 7, Bytes: gone, Total: size, Started: start}}, receiving)
		<-m.CloseNotify()
		time.Sleep(time.Second)
		require.Empty(t, p.a.Status().Peers[0].Snapshots)
		require.Empty(t, p.b.Status().Receiving)
	})
}
