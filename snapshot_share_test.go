package rafthttp_test

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
	"github.com/seed-4d73690b/rafthttp/snap"
)

// TestSnapshotSentTwiceAtOnce: a transfer waits for an older one of the same snapshot to
// the same peer, and shares its result.
func TestSnapshotSentTwiceAtOnce(t *testing.T) {
	const size = 8 << 20
	data := randomBytes(size)
	whole := func() io.ReadCloser { return &seekable{Reader: bytes.NewReader(data)} }
	failing := func() io.ReadCloser {
		return &database{Reader: io.MultiReader(bytes.NewReader(data[:size/2]), iotest.ErrReader(errors.New("bad sector")))}
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
				store := openIn(t, dir)
				var s rafthttp.Snapshotter = store
				if tc.refused {
					s = corrupting{store, size / 2}
				}
				p := newPair(t, nil, receives(s))
				p.net.Link("a", "b").SetBandwidth(4 << 20)
				time.Sleep(time.Second)
				first := snap.NewMessage(msgSnap(2, 1, 7), tc.first, size)
				head := msgSnap(2, 1, 7)
				if tc.laterTerm {
					head.Term = new(uint64(2))
				}
				second := &seekable{Reader: bytes.NewReader(data)}
				start := time.Now()
				p.a.SendSnapshot(first)
				time.Sleep(500 * time.Millisecond)
				m := snap.NewMessage(head, second, size)
				p.a.SendSnapshot(m)
				ends := []bool{<-first.CloseNotify(), <-m.CloseNotify()}
				require.Equal(t, tc.ends, ends)
				require.InDelta(t, float64(tc.sent)/(4<<20), time.Since(start).Seconds(), 1)
				synctest.Wait()
				st := p.a.Status().Peers[0]
				require.LessOrEqual(t, st.SentBytes, uint64(tc.sent+1000))
				require.Len(t, p.b.raft.received(), tc.processed)
				require.EqualValues(t, 1, second.closes.Load())
				if tc.processed > 0 {
					requireSaved(t, store, 7, data)
				}
				want := []raft.SnapshotStatus{raft.SnapshotFailure, raft.SnapshotFinish}
				var reports []raft.SnapshotStatus
				for _, ok := range tc.ends {
					reports = append(reports, map[bool]raft.SnapshotStatus{false: want[0], true: want[1]}[ok])
				}
				require.Equal(t, reports, p.a.raft.snapshotReports())
			})
		})
	}
}

// TestSnapshotIsNotInterruptedByAYoungerOne: another process with the sender's id, such
// as one that was not stopped well, has the same snapshot to send. A transfer that moves
// goes on, and the younger one waits for it.
func TestSnapshotIsNotInterruptedByAYoungerOne(t *testing.T) {
	const size = 32 << 20
	data := randomBytes(size)
	dir := t.TempDir()
	bubble.Test(t, func(t *testing.T) {
		store := openIn(t, dir)
		p := newPair(t, nil, receives(store))
		p.net.Link("a", "b").SetBandwidth(4 << 20) // 8 s
		time.Sleep(time.Second)
		m := snap.NewMessage(msgSnap(2, 1, 7), &seekable{Reader: bytes.NewReader(data)}, size)
		p.a.SendSnapshot(m)
		time.Sleep(time.Second)
		ended := make(chan error, 1)
		twin := p.start(t, "c", 1, func(tr *rafthttp.Transport) {
			tr.Observer, tr.DialRetryFrequency = sentTo(ended), 1e-3
		})
		twin.AddPeer(2, []string{p.b.url})
		start := time.Now()
		twin.SendSnapshot(snap.NewMessage(msgSnap(2, 1, 7), &seekable{Reader: bytes.NewReader(data)}, size))
		require.NoError(t, <-p.sent)
		require.Less(t, time.Since(start), 8*time.Second)
		require.Equal(t, 1, p.a.Status().Peers[0].LastSnapshot.Attempts)
		require.NoError(t, <-ended)
		require.Less(t, time.Since(start), 12*time.Second)
		require.Less(t, twin.Status().Peers[0].SentBytes, uint64(size/10), "the receiver has it")
		require.Zero(t, twin.Status().Peers[0].SendFailures)
		requireSaved(t, store, 7, data)
	})
}

// TestSnapshotOfASenderThatIsGone: the receiver was not told that the sender is gone, and
// is asked by the process that took its place. What does not move is ended then.
func TestSnapshotOfASenderThatIsGone(t *testing.T) {
	const size = 32 << 20
	data := randomBytes(size)
	dir := t.TempDir()
	bubble.Test(t, func(t *testing.T) {
		store := openIn(t, dir)
		p := newPair(t, nil, receives(store))
		p.net.Link("a", "b").SetBandwidth(4 << 20) // 8 s
		time.Sleep(time.Second)
		m := snap.NewMessage(msgSnap(2, 1, 7), &seekable{Reader: bytes.NewReader(data)}, size)
		p.a.SendSnapshot(m)
		time.Sleep(4 * time.Second)
		p.net.Host("a").PowerLoss()
		p.a.Stop()
		ended := make(chan error, 1)
		a := p.start(t, "a", 1, func(tr *rafthttp.Transport) { tr.Observer = sentTo(ended) })
		a.AddPeer(2, []string{p.b.url})
		start := time.Now()
		a.SendSnapshot(snap.NewMessage(msgSnap(2, 1, 7), &seekable{Reader: bytes.NewReader(data)}, size))
		require.NoError(t, <-ended)
		require.Less(t, time.Since(start), 8*time.Second, "resumed")
		requireSaved(t, store, 7, data)
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
			p := newPair(t, func(tr *rafthttp.Transport) { tr.DialRetryFrequency = 1e-3 }, nil)
			refusal := fmt.Sprintf("HTTP/1.1 409 Conflict\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
			url, _ := p.script(t, conversation(probe, nothing, refusal), true)
			p.a.AddPeer(3, []string{url})
			p.a.SendSnapshot(snap.NewMessage(msgSnap(3, 1, 7), &seekable{Reader: bytes.NewReader(randomBytes(10))}, 10))
			err := <-p.sent
			require.Error(t, err)
			for _, st := range p.a.Status().Peers {
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
	data := randomBytes(size)
	dir := t.TempDir()
	bubble.Test(t, func(t *testing.T) {
		var broken atomic.Pointer[atomic.Bool] // of the newest connection
		var mu sync.Mutex
		var conns []net.Conn
		store := openIn(t, dir)
		p := newPair(t, func(tr *rafthttp.Transport) {
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
		}, receives(store))
		time.Sleep(time.Second)
		start := time.Now()
		db := breaking(data, func() { broken.Load().Store(true) }, size/4, size/2)
		p.a.SendSnapshot(snap.NewMessage(msgSnap(2, 1, 7), db, size))
		require.NoError(t, <-p.sent)
		require.Less(t, time.Since(start), 2*time.Second, "half a second each for an answer that may say why")
		require.Equal(t, 3, p.a.Status().Peers[0].LastSnapshot.Attempts)
		requireSaved(t, store, 7, data)
		mu.Lock()
		defer mu.Unlock()
		for _, c := range conns {
			c.Close()
		}
	})
}
