package snapshots_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/bubble"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/snap"
)

// TestSnapshotSentTwiceAtOnce: a transfer waits for an older one of the same snapshot to
// the same peer, and shares its result.
func TestSnapshotSentTwiceAtOnce(t *testing.T) {
	const size = 8 << 20
	data := testmember.RandomBytes(size)
	whole := func() io.ReadCloser { return &testmember.Seekable{Reader: bytes.NewReader(data)} }
	failing := func() io.ReadCloser {
		return &testmember.Database{Reader: io.MultiReader(bytes.NewReader(data[:size/2]), iotest.ErrReader(errors.New("bad sector")))}
	}
	tests := []struct {
		name      string
		first     io.ReadCloser
		laterTerm bool // of the second message
		refused   bool // by the receiver
		ends      []bool
		processed int
		sent      int64 // bytes of databases, at most
	}{
		{name: "same", first: whole(), ends: []bool{true, true}, processed: 1, sent: size},
		{name: "refused", first: whole(), refused: true, ends: []bool{false, false}, sent: size},
		{name: "another head", first: whole(), laterTerm: true, ends: []bool{true, true}, processed: 2, sent: size},
		{name: "first reader fails", first: failing(), ends: []bool{false, true}, processed: 1, sent: size + size/2},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			bubble.Test(t, func(t *testing.T) {
				store := testmember.OpenStore(t, dir)
				var s rafthttp.Snapshotter = store
				if tc.refused {
					s = corrupting{store, size / 2}
				}
				p := testmember.NewPair(t, nil, testmember.Receives(s))
				p.Net.Link("a", "b").SetBandwidth(4 << 20)
				time.Sleep(time.Second)
				first := snap.NewMessage(testmember.MsgSnap(2, 1, 7), tc.first, size)
				head := testmember.MsgSnap(2, 1, 7)
				if tc.laterTerm {
					head.Term = new(uint64(2))
				}
				second := &testmember.Seekable{Reader: bytes.NewReader(data)}
				start := time.Now()
				p.A.SendSnapshot(first)
				time.Sleep(500 * time.Millisecond)
				m := snap.NewMessage(head, second, size)
				p.A.SendSnapshot(m)
				ends := []bool{<-first.CloseNotify(), <-m.CloseNotify()}
				require.Equal(t, tc.ends, ends)
				require.InDelta(t, float64(tc.sent)/(4<<20), time.Since(start).Seconds(), 1)
				synctest.Wait()
				st := p.A.Status().Peers[0]
				require.LessOrEqual(t, st.SentBytes, uint64(tc.sent+1000))
				require.Len(t, p.B.Recorder.Received(), tc.processed)
				require.EqualValues(t, 1, second.Closes.Load())
				if tc.processed > 0 {
					testmember.RequireSaved(t, store, 7, data)
				}
				want := []raft.SnapshotStatus{raft.SnapshotFailure, raft.SnapshotFinish}
				var reports []raft.SnapshotStatus
				for _, ok := range tc.ends {
					reports = append(reports, map[bool]raft.SnapshotStatus{false: want[0], true: want[1]}[ok])
				}
				require.Equal(t, reports, p.A.Recorder.SnapshotReports())
			})
		})
	}
}

// TestSnapshotIsNotInterruptedByAYoungerOne: another process with the sender's id, such
// as one that was not stopped well, has the same snapshot to send. A transfer that moves
// goes on, and the younger one waits for it.
func TestSnapshotIsNotInterruptedByAYoungerOne(t *testing.T) {
	const size = 4 << 20
	data := testmember.RandomBytes(size)
	dir := t.TempDir()
	bubble.Test(t, func(t *testing.T) {
		store := testmember.OpenStore(t, dir)
		p := testmember.NewPair(t, nil, testmember.Receives(store))
		p.Net.Link("a", "b").SetBandwidth(512 << 10) // 8 s
		time.Sleep(time.Second)
		m := snap.NewMessage(testmember.MsgSnap(2, 1, 7), &testmember.Seekable{Reader: bytes.NewReader(data)}, size)
		p.A.SendSnapshot(m)
		time.Sleep(time.Second)
		ended := make(chan error, 1)
		twin := p.Start(t, "c", 1, func(tr *rafthttp.Transport) {
			tr.Observer, tr.DialRetryFrequency = sentTo(ended), 1e-3
		})
		twin.AddPeer(2, []string{p.B.URL})
		start := time.Now()
		twin.SendSnapshot(snap.NewMessage(testmember.MsgSnap(2, 1, 7), &testmember.Seekable{Reader: bytes.NewReader(data)}, size))
		require.NoError(t, <-p.Sent)
		require.Less(t, time.Since(start), 8*time.Second)
		require.Equal(t, 1, p.A.Status().Peers[0].LastSnapshot.Attempts)
		require.NoError(t, <-ended)
		require.Less(t, time.Since(start), 12*time.Second)
		require.Less(t, twin.Status().Peers[0].SentBytes, uint64(size/10), "the receiver has it")
		require.Zero(t, twin.Status().Peers[0].SendFailures)
		testmember.RequireSaved(t, store, 7, data)
	})
}

// TestSnapshotOfASenderThatIsGone: the receiver was not told that the sender is gone, and
// is asked by the process that took its place. What does not move is ended then.
func TestSnapshotOfASenderThatIsGone(t *testing.T) {
	const size = 4 << 20
	data := testmember.RandomBytes(size)
	dir := t.TempDir()
	bubble.Test(t, func(t *testing.T) {
		store := testmember.OpenStore(t, dir)
		p := testmember.NewPair(t, nil, testmember.Receives(store))
		p.Net.Link("a", "b").SetBandwidth(512 << 10) // 8 s
		time.Sleep(time.Second)
		m := snap.NewMessage(testmember.MsgSnap(2, 1, 7), &testmember.Seekable{Reader: bytes.NewReader(data)}, size)
		p.A.SendSnapshot(m)
		time.Sleep(4 * time.Second)
		p.Net.Host("a").PowerLoss()
		p.A.Stop()
		ended := make(chan error, 1)
		a := p.Start(t, "a", 1, func(tr *rafthttp.Transport) { tr.Observer = sentTo(ended) })
		a.AddPeer(2, []string{p.B.URL})
		start := time.Now()
		a.SendSnapshot(snap.NewMessage(testmember.MsgSnap(2, 1, 7), &testmember.Seekable{Reader: bytes.NewReader(data)}, size))
		require.NoError(t, <-ended)
		require.Less(t, time.Since(start), 8*time.Second, "resumed")
		testmember.RequireSaved(t, store, 7, data)
	})
}

// TestSnapshotRefusedAfterTheQuestion: another transfer of the snapshot may begin between the
// question and the body. That is no reason to give it up.
func TestSnapshotRefusedAfterTheQuestion(t *testing.T) {
	probe := "HTTP/1.1 200 OK\r\nX-Raft-Extensions: snapshot-1\r\nContent-Length: 0\r\n\r\n"
	nothing := "HTTP/1.1 204 No Content\r\nX-Raft-Snapshot-Offset: 0\r\nX-Raft-Snapshot-Checksum: 00000000\r\n\r\n"
	for _, body := range []string{
		"still writing an earlier part of this snapshot", "the snapshot is not there up to this offset", "of another version",
	} {
		bubble.Test(t, func(t *testing.T) {
			p := testmember.NewPair(t, func(tr *rafthttp.Transport) { tr.DialRetryFrequency = 1e-3 }, nil)
			refusal := fmt.Sprintf("HTTP/1.1 409 Conflict\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
			url, _ := p.Script(t, testmember.Conversation(probe, nothing, refusal), true)
			p.A.AddPeer(3, []string{url})
			p.A.SendSnapshot(snap.NewMessage(testmember.MsgSnap(3, 1, 7), &testmember.Seekable{Reader: bytes.NewReader(testmember.RandomBytes(10))}, 10))
			err := <-p.Sent
			require.Error(t, err)
			for _, st := range p.A.Status().Peers {
				if st.ID == 3 {
					require.Equal(t, 6, st.LastSnapshot.Attempts, err)
				}
			}
		})
	}
}

// halfOpen is a connection that breaks at this end only.
type halfOpen struct {
	net.Conn
	broken *atomic.Bool
}

func (c *halfOpen) Write(p []byte) (int, error) {
	if c.broken.Load() {
		return 0, &net.OpError{Op: "write", Net: "tcp", Err: syscall.ECONNRESET}
	}
	return c.Conn.Write(p)
}

func (c *halfOpen) Close() error {
	if c.broken.Load() {
		_ = c.SetDeadline(time.Now())
		return nil
	}
	return c.Conn.Close()
}

// TestSnapshotOfAHalfOpenConnection: the receiver does not know that the connection is
// broken. It believes the sender that asks how far it is, and at once.
func TestSnapshotOfAHalfOpenConnection(t *testing.T) {
	const size = 8 << 20
	data := testmember.RandomBytes(size)
	dir := t.TempDir()
	bubble.Test(t, func(t *testing.T) {
		var broken atomic.Pointer[atomic.Bool] // of the newest connection
		var mu sync.Mutex
		var conns []net.Conn
		store := testmember.OpenStore(t, dir)
		p := testmember.NewPair(t, func(tr *rafthttp.Transport) {
			dial := tr.DialContext
			tr.DialRetryFrequency = 1e-3
			tr.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
				c, err := dial(ctx, network, addr)
				if err != nil {
					return nil, err
				}
				mu.Lock()
				defer mu.Unlock()
				conns = append(conns, c)
				broken.Store(new(atomic.Bool))
				return &halfOpen{c, broken.Load()}, nil
			}
		}, testmember.Receives(store))
		time.Sleep(time.Second)
		start := time.Now()
		db := breaking(data, func() { broken.Load().Store(true) }, size/4, size/2)
		p.A.SendSnapshot(snap.NewMessage(testmember.MsgSnap(2, 1, 7), db, size))
		require.NoError(t, <-p.Sent)
		require.Less(t, time.Since(start), 2*time.Second, "half a second each for an answer that may say why")
		require.Equal(t, 3, p.A.Status().Peers[0].LastSnapshot.Attempts)
		testmember.RequireSaved(t, store, 7, data)
		mu.Lock()
		defer mu.Unlock()
		for _, c := range conns {
			c.Close()
		}
	})
}
