package snapshots_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/bubble"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/snap"
)

func TestSnapshotBodies(t *testing.T) {
	const max = 10_000
	a := testmember.Start(t, 1, func(tr *rafthttp.Transport) { tr.MaxMessageBytes, tr.Snapshotter = max, testmember.SavesAll })
	app := testmember.MsgApp(1, 2, 7, nil)
	large := testmember.MsgSnap(1, 2, 7)
	large.Snapshot.Data = make([]byte, max)
	mixed := testmember.MsgSnap(1, 2, 7)
	mixed.Type = raftpb.MsgApp.Enum()
	noIndex := testmember.MsgSnap(1, 2, 0)
	tests := []struct {
		name string
		body io.Reader
		code int
	}{
		{"good", testmember.SnapshotBody(t, testmember.MsgSnap(1, 2, 7), "db"), 204},
		{"without a database", testmember.SnapshotBody(t, testmember.MsgSnap(1, 2, 7), ""), 204},
		{"empty body", strings.NewReader(""), 400},
		{"half a length", strings.NewReader("\x00\x00\x00"), 400},
		{"length alone", bytes.NewReader(testmember.LengthPrefixBytes(10)), 400},
		{"cut message", bytes.NewReader(append(testmember.LengthPrefixBytes(10), 8, 7)), 400},
		{"undecodable", bytes.NewReader(append(testmember.LengthPrefixBytes(2), 0xff, 0xff)), 400},
		{"over-long", bytes.NewReader(testmember.LengthPrefixBytes(1 << 40)), 400},
		{"over the limit", testmember.SnapshotBody(t, large, ""), 400},
		{"empty message", bytes.NewReader(testmember.LengthPrefixBytes(0)), 400},
		{"link heartbeat", bytes.NewReader(append(testmember.LengthPrefixBytes(2), 8, 8)), 400},
		{"append", testmember.SnapshotBody(t, app, ""), 400},
		{"append with a snapshot in it", testmember.SnapshotBody(t, mixed, ""), 400},
		{"no snapshot in it", testmember.SnapshotBody(t, &raftpb.Message{Type: raftpb.MsgSnap.Enum()}, ""), 400},
		{"empty snapshot", testmember.SnapshotBody(t, noIndex, ""), 400},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			want := len(a.Recorder.Received())
			got := testmember.Exchange(t, a.URL, "POST", "/raft/snapshot", testmember.PeerHeader(nil), tc.body)
			require.Equal(t, tc.code, got.StatusCode, got.Body)
			if tc.code == 204 {
				want++
			}
			require.Len(t, a.Recorder.Received(), want)
			require.Empty(t, a.Status().Receiving)
		})
	}
}

// TestSnapshotHeadEncodedOtherwise: where the database begins, and how long it is, does not depend on how a sender
// encodes the message before it: here a field comes twice, and a number has an idle byte.
func TestSnapshotHeadEncodedOtherwise(t *testing.T) {
	var saved []string
	a := testmember.Start(t, 1, testmember.Receives(testmember.Saver(func(r io.Reader, _ uint64) (int64, error) {
		b, err := io.ReadAll(r)
		saved = append(saved, string(b))
		return int64(len(b)), err
	})))
	head := append([]byte{4 << 3, 9, 4 << 3, 0x89, 0}, testmember.Marshal(t, testmember.MsgSnap(1, 2, 7))...)
	for _, db := range []string{"", "x", "database", strings.Repeat("long ", 100_000)} {
		body := append(append(testmember.LengthPrefixBytes(uint64(len(head))), head...), db...)
		got := testmember.Exchange(t, a.URL, "POST", "/raft/snapshot", testmember.PeerHeader(nil), bytes.NewReader(body))
		require.Equal(t, 204, got.StatusCode, got.Body)
		require.Equal(t, db, saved[len(saved)-1])
	}
	require.Len(t, a.Recorder.Received(), 4)
}

func TestSnapshotProcessErrors(t *testing.T) {
	tests := []struct {
		name string
		err  error
		code int
		body string
	}{
		{"plain", errors.New("no"), 500, "failed to process raft message: no\n"},
		{"answers by itself", testmember.Teapot{}, 418, ""},
		{"WriteTo with a result", testmember.NotTeapot{}, 500, "failed to process raft message: no teapot\n"},
		{"removed", rafthttp.ErrMemberRemoved, 403, "failed to process raft message: the member has been permanently removed from the cluster\n"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			a := testmember.Start(t, 1, testmember.Receives(testmember.SavesAll))
			a.Recorder.OnProcess = func(context.Context, *raftpb.Message) error { return tc.err }
			body := testmember.ReadString(t, testmember.SnapshotBody(t, testmember.MsgSnap(1, 2, 7), "db"))
			c, err := net.Dial("tcp", strings.TrimPrefix(a.URL, "http://"))
			require.NoError(t, err)
			defer c.Close()
			for range 2 { // the connection is kept
				_, err = io.WriteString(c, testmember.RequestHead("POST", "/raft/snapshot", testmember.PeerHeader(nil), len(body))+body)
				require.NoError(t, err)
				got := testmember.ReadAnswer(t, c)
				require.Equal(t, tc.code, got.StatusCode)
				require.Equal(t, tc.body, got.Body)
			}
		})
	}
}

func TestSnapshotNotTaken(t *testing.T) {
	body := func() io.Reader { return testmember.SnapshotBody(t, testmember.MsgSnap(1, 2, 7), "db") }
	a := testmember.Start(t, 1, nil)
	got := testmember.Exchange(t, a.URL, "POST", "/raft/snapshot", testmember.PeerHeader(nil), body())
	require.Equal(t, 501, got.StatusCode)
	require.Equal(t, "this member takes no database snapshots\n", got.Body)

	held := make(chan struct{})
	b := testmember.Start(t, 1, func(tr *rafthttp.Transport) {
		tr.MaxSnapshots = 1
		tr.Snapshotter = testmember.Saver(func(io.Reader, uint64) (int64, error) { <-held; return 0, errors.New("disk full") })
	})
	bytes := testmember.ReadString(t, body())
	first, err := net.Dial("tcp", strings.TrimPrefix(b.URL, "http://"))
	require.NoError(t, err)
	defer first.Close()
	_, err = io.WriteString(first, testmember.RequestHead("POST", "/raft/snapshot", testmember.PeerHeader(nil), len(bytes))+bytes)
	require.NoError(t, err)
	testmember.Eventually(t, func() bool { return len(b.Status().Receiving) == 1 })
	got = testmember.Exchange(t, b.URL, "POST", "/raft/snapshot", testmember.PeerHeader(nil), body())
	require.Equal(t, 503, got.StatusCode)
	require.Equal(t, "1", got.Header.Get("Retry-After"))
	close(held)
	got = testmember.ReadAnswer(t, first)
	require.Equal(t, 500, got.StatusCode)
	require.Equal(t, "failed to save database snapshot: disk full\n", got.Body)
	require.Empty(t, a.Recorder.Received())
	require.Empty(t, b.Recorder.Received())
}

// A sender that dies without a word holds its handler for the read timeout, and
// nothing of it is taken.
func TestSnapshotSenderFallsSilent(t *testing.T) {
	whole := testmember.ReadString(t, testmember.SnapshotBody(t, testmember.MsgSnap(2, 1, 7), strings.Repeat("x", 1000)))
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
			bubble.Test(t, func(t *testing.T) {
				store, err := snap.Open(dir)
				require.NoError(t, err)
				received := make(chan error, 1)
				p := testmember.NewPair(t, nil, func(tr *rafthttp.Transport) {
					tr.ReadTimeout, tr.Snapshotter = 3*time.Second, store
					tr.Observer = &rafthttp.Observer{SnapshotReceived: func(_ types.ID, _ uint64, _ int64, _ time.Duration, err error) { received <- err }}
				})
				c, err := p.Net.Host("c").DialContext(t.Context(), "tcp", "b:80")
				require.NoError(t, err)
				defer c.Close()
				start := time.Now()
				_, err = io.WriteString(c, testmember.RequestHead("POST", "/raft/snapshot", testmember.PeerHeader(nil), len(whole))+tc.sent)
				require.NoError(t, err)
				time.Sleep(3*time.Second - 1)
				synctest.Wait()
				require.Len(t, p.B.Status().Receiving, 1, "patient until then")
				time.Sleep(time.Nanosecond)
				synctest.Wait()
				require.Empty(t, p.B.Status().Receiving)
				require.GreaterOrEqual(t, testmember.ReadAnswer(t, c).StatusCode, 400)
				require.LessOrEqual(t, time.Since(start), 6*time.Second)
				require.Empty(t, p.B.Recorder.Received())
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

// What is shown of a transfer, at both ends, while it goes on and afterwards.
func TestSnapshotStatus(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		const size, gone = 1 << 20, 300_000
		p := testmember.NewPair(t, nil, testmember.Receives(testmember.SavesAll))
		var mu sync.Mutex
		var told []rafthttp.SnapshotStatus
		c := p.Start(t, "c", 3, func(tr *rafthttp.Transport) {
			tr.Observer = &rafthttp.Observer{SnapshotProgress: func(s rafthttp.SnapshotStatus) {
				mu.Lock()
				defer mu.Unlock()
				told = append(told, s)
			}}
		})
		c.AddPeer(2, []string{p.B.URL})
		start := time.Now()
		slow := testmember.Throttled(testmember.RandomBytes(size), size/16, time.Second) // all of it in 16 seconds
		m := snap.NewMessage(testmember.MsgSnap(2, 3, 7), slow, size)
		c.SendSnapshot(m)
		time.Sleep(8*time.Second + time.Second/2)
		want := rafthttp.SnapshotStatus{
			Peer: 2, Index: 7, Bytes: size / 2, Total: size, Started: start, Attempts: 1,
		}
		sending := c.Status().Peers[0].Snapshots
		require.Len(t, sending, 1)
		require.InDelta(t, size/16, sending[0].Rate, size/16/2)
		require.InDelta(t, 8, sending[0].ETA.Seconds(), 4)
		sending[0].Rate, sending[0].ETA = 0, 0
		require.Equal(t, want, sending[0])
		receiving := p.B.Status().Receiving
		require.Len(t, receiving, 1)
		require.InDelta(t, size/16, receiving[0].Rate, size/16/2)
		receiving[0].Rate, receiving[0].ETA = 0, 0
		want.Peer, want.Incoming, want.Attempts = 3, true, 0
		require.Equal(t, want, receiving[0])
		mu.Lock()
		require.GreaterOrEqual(t, len(told), 4)
		require.Less(t, told[0].Bytes, told[3].Bytes)
		mu.Unlock()

		require.True(t, <-m.CloseNotify())
		synctest.Wait()
		require.Empty(t, c.Status().Peers[0].Snapshots)
		require.Empty(t, p.B.Status().Receiving)
		for _, last := range []*rafthttp.SnapshotStatus{c.Status().Peers[0].LastSnapshot, p.B.Status().LastReceived} {
			require.EqualValues(t, size, last.Bytes)
			require.InDelta(t, size/16, last.Rate, size/16/8)
			require.Zero(t, last.ETA)
			require.Empty(t, last.Error)
			require.Equal(t, time.Now(), last.Ended)
		}
	})
}

// The reason of a receiver reaches the sender's log, status and observer, and the
// receiver's own, as one error that can be told from others.
func TestSnapshotCauses(t *testing.T) {
	tests := []struct {
		name string
		err  error // of the Snapshotter
		want error
	}{
		{"no space", &os.PathError{Op: "write", Path: "/data/db", Err: syscall.ENOSPC}, rafthttp.ErrSnapshotDiskFull},
		{"quota", fmt.Errorf("save: %w", syscall.EDQUOT), rafthttp.ErrSnapshotDiskFull},
		{"permission", &os.PathError{Op: "open", Path: "/data/db", Err: syscall.EACCES}, rafthttp.ErrSnapshotPermission},
		{"read-only", syscall.EROFS, rafthttp.ErrSnapshotPermission},
		{"broken disk", syscall.EIO, rafthttp.ErrSnapshotDisk},
		{"checksum", snap.ErrChecksum, rafthttp.ErrSnapshotChecksum},
		{"anything else", errors.New("(disk full): not in our words\nnor in one line"), rafthttp.ErrSnapshotNotSaved},
	}
	all := []error{
		rafthttp.ErrSnapshotDiskFull, rafthttp.ErrSnapshotPermission, rafthttp.ErrSnapshotDisk, rafthttp.ErrSnapshotChecksum,
		rafthttp.ErrSnapshotCut, rafthttp.ErrSnapshotRefused, rafthttp.ErrSnapshotReader, rafthttp.ErrSnapshotSize, rafthttp.ErrStalled,
	}
	for _, tc := range tests {
		for _, size := range []int{10, 1 << 20} {
			t.Run(fmt.Sprint(tc.name, " ", size), func(t *testing.T) {
				bubble.Test(t, func(t *testing.T) {
					core, logged := observer.New(zap.WarnLevel)
					received := make(chan error, 1)
					p := testmember.NewPair(t, func(tr *rafthttp.Transport) { tr.Logger = zap.New(core) }, func(tr *rafthttp.Transport) {
						tr.Snapshotter = testmember.Saver(func(io.Reader, uint64) (int64, error) { return 0, tc.err })
						tr.Observer = &rafthttp.Observer{SnapshotReceived: func(_ types.ID, _ uint64, _ int64, _ time.Duration, err error) { received <- err }}
					})
					db := &testmember.Database{Reader: bytes.NewReader(testmember.RandomBytes(size))}
					m := testmember.NewSnapshot(db, int64(size))
					p.A.SendSnapshot(m)
					err := <-p.Sent
					for _, err := range []error{err, <-received} {
						require.ErrorIs(t, err, tc.want)
						require.ErrorIs(t, err, rafthttp.ErrSnapshotNotSaved)
						for _, other := range all {
							require.Equal(t, errors.Is(tc.want, other), errors.Is(err, other), "%v is %v", err, other)
						}
						require.NotContains(t, err.Error(), "\n")
					}
					testmember.RequireEnd(t, m, db, false, p.A.Recorder, raft.SnapshotFailure)
					lines := logged.FilterMessage("failed to send database snapshot").All()
					require.Len(t, lines, 1)
					require.Equal(t, err.Error(), lines[0].ContextMap()["error"])
					require.Equal(t, err.Error(), p.A.Status().Peers[0].LastSnapshot.Error)
					require.Contains(t, p.B.Status().LastReceived.Error, "failed to save database snapshot")
				})
			})
		}
	}
}

// TestVerifyPeerDuringASnapshot: it is asked again under no lock, so that nothing
// else waits for it.
func TestVerifyPeerDuringASnapshot(t *testing.T) {
	var b *testmember.Member
	started, asked := make(chan struct{}), make(chan struct{}, 1)
	verify := func(types.ID, *tls.ConnectionState) error {
		select {
		case <-started:
		default:
			return nil
		}
		status := make(chan struct{})
		go func() {
			defer close(status)
			b.Status()
		}()
		select {
		case <-status:
		case <-time.After(20 * time.Second):
			t.Error("Status waits for VerifyPeer")
		}
		select {
		case asked <- struct{}{}:
		default:
		}
		return nil
	}
	a := testmember.Start(t, 1, nil)
	b = testmember.Start(t, 2, func(tr *rafthttp.Transport) {
		tr.Snapshotter, tr.VerifyPeer, tr.TLSRecheck = testmember.SavesAll, verify, 10*time.Millisecond
	})
	a.AddPeer(2, []string{b.URL})
	db := testmember.BlockingReader([]byte("the first bytes"))
	m := testmember.NewSnapshot(db, 1000)
	a.SendSnapshot(m)
	testmember.Eventually(t, func() bool { return len(b.Status().Receiving) == 1 })
	close(started)
	<-asked
	a.RemovePeer(2)
	<-m.CloseNotify()
}
