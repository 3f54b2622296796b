package snapshots_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/bubble"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/snap"
)

// TestSnapshotPeerBecomesPlain: the peer resumes snapshots when a transfer begins and
// does not, or seems not to, when its connection breaks. What arrives is the whole
// database, from its first byte.
func TestSnapshotPeerBecomesPlain(t *testing.T) {
	const size = 8 << 20
	data := testmember.RandomBytes(size)
	events := map[string]func(t *testing.T, p *testmember.Pair, store *snap.Store){
		"restarted with another Snapshotter": func(t *testing.T, p *testmember.Pair, store *snap.Store) {
			p.Net.Host("b").Crash()
			b := p.Start(t, "b", 2, testmember.Receives(testmember.PlainStore{Snapshotter: store}))
			b.AddPeer(1, []string{p.A.URL})
		},
		"a stream request in its name": func(t *testing.T, p *testmember.Pair, _ *snap.Store) {
			testmember.DialStream(t, p.Net.Host("c").DialContext, p.A, "message", 2).Close()
			p.Net.Reset("a", "b")
		},
	}
	for name, event := range events {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			bubble.Test(t, func(t *testing.T) {
				store := testmember.OpenStore(t, dir)
				p := testmember.NewPair(t, nil, testmember.Receives(store))
				p.Net.Link("a", "b").SetBandwidth(4 << 20)
				time.Sleep(time.Second)
				m := snap.NewMessage(testmember.MsgSnap(2, 1, 7), breaking(data, func() { event(t, p, store) }, size/2), size)
				p.A.SendSnapshot(m)
				require.NoError(t, <-p.Sent)
				require.True(t, <-m.CloseNotify())
				testmember.RequireSaved(t, store, 7, data)
				time.Sleep(time.Second)
				require.Equal(t, []raft.SnapshotStatus{raft.SnapshotFinish}, p.A.Recorder.SnapshotReports())
			})
		})
	}
}

// TestSnapshotOfAFilePeerBecomesPlain is the same over sockets, by sendfile.
func TestSnapshotOfAFilePeerBecomesPlain(t *testing.T) {
	const size = 8 << 20
	data := testmember.RandomBytes(size)
	store := testmember.OpenStore(t, t.TempDir())
	first := testmember.Start(t, 2, testmember.Receives(store))
	second := testmember.Start(t, 2, testmember.Receives(testmember.PlainStore{Snapshotter: store}))
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	proxy := &cutter{Listener: ln, target: strings.TrimPrefix(first.URL, "http://"), buffer: 64 << 10, at: []int64{size / 2}}
	proxy.onCut = func() { proxy.target = strings.TrimPrefix(second.URL, "http://") }
	go proxy.run()
	t.Cleanup(func() { ln.Close(); proxy.wg.Wait() })

	ended := make(chan error, 1)
	a := testmember.Start(t, 1, func(tr *rafthttp.Transport) { tr.Observer = sentTo(ended) })
	a.AddPeer(2, []string{"http://" + ln.Addr().String()})
	m := snap.NewMessage(testmember.MsgSnap(2, 1, 7), fileWith(t, []byte("not of it"), data), size)
	a.SendSnapshot(m)
	require.NoError(t, <-ended)
	require.True(t, <-m.CloseNotify())
	testmember.RequireSaved(t, store, 7, data)
	require.Len(t, second.Recorder.Received(), 1)
	require.Empty(t, first.Recorder.Received())
	a.Stop()
	require.Equal(t, []raft.SnapshotStatus{raft.SnapshotFinish}, a.Recorder.SnapshotReports())
}

// slowSeekable is a database that can go back, each Read of which takes a while.
func slowSeekable(data []byte, pause time.Duration) *testmember.Seekable {
	return &testmember.Seekable{Reader: bytes.NewReader(data), OnRead: func(int64) { time.Sleep(pause) }}
}

// leavePart has b keep the first half of a database of a, as after a failure.
func leavePart(t *testing.T, p *testmember.Pair, data []byte) {
	t.Helper()
	p.Net.Link("a", "b").SetBandwidth(4 << 20)
	time.Sleep(time.Second)
	m := snap.NewMessage(testmember.MsgSnap(2, 1, 7), breaking(data, func() { p.A.RemovePeer(2) }, int64(len(data)/2)), int64(len(data)))
	p.A.SendSnapshot(m)
	require.False(t, <-m.CloseNotify())
	require.Error(t, <-p.Sent)
	p.A.AddPeer(2, []string{p.B.URL})
	time.Sleep(time.Second)
}

// TestSnapshotFromASlowReader: what the receiver has is compared with what the reader
// brings, which takes longer than any connection may be idle. It is resumed all the
// same, and takes no longer than a whole transfer.
func TestSnapshotFromASlowReader(t *testing.T) {
	const size, pause = 8 << 20, 600 * time.Millisecond // a Read
	data := testmember.RandomBytes(size)
	whole := size / (256 << 10) * pause
	for _, part := range []bool{false, true} {
		dir := t.TempDir()
		bubble.Test(t, func(t *testing.T) {
			store := testmember.OpenStore(t, dir)
			p := testmember.NewPair(t, nil, nil)
			p.Deadlines = true
			p.B.Stop()
			p.Net.Host("b").Crash()
			p.B = p.Start(t, "b", 2, testmember.Receives(store))
			p.B.AddPeer(1, []string{p.A.URL})
			if part {
				leavePart(t, p, data)
			}
			before := p.A.Status().Peers[0].SentBytes
			m := snap.NewMessage(testmember.MsgSnap(2, 1, 7), slowSeekable(data, pause), size)
			start := time.Now()
			p.A.SendSnapshot(m)
			require.NoError(t, <-p.Sent)
			require.Less(t, time.Since(start), whole+5*time.Second)
			testmember.RequireSaved(t, store, 7, data)
			if part {
				require.Less(t, p.A.Status().Peers[0].SentBytes-before, uint64(size*6/10), "sent twice")
			}
		})
	}
}

// TestSnapshotOfAFileResumedByTheNext: a later transfer of the same file goes on where
// the first one was.
func TestSnapshotOfAFileResumedByTheNext(t *testing.T) {
	const size = 16 << 20
	data := testmember.RandomBytes(size)
	store := testmember.OpenStore(t, t.TempDir())
	b := testmember.Start(t, 2, testmember.Receives(store))
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	proxy := &cutter{Listener: ln, target: strings.TrimPrefix(b.URL, "http://"), buffer: 64 << 10, at: []int64{size / 2}}
	go proxy.run()
	t.Cleanup(func() { ln.Close(); proxy.wg.Wait() })
	a := testmember.Start(t, 1, nil)
	a.AddPeer(2, []string{"http://" + ln.Addr().String()})
	proxy.onCut = func() { a.RemovePeer(2) }
	f := fileWith(t, []byte("not of it"), data)
	m := snap.NewMessage(testmember.MsgSnap(2, 1, 7), f, size)
	a.SendSnapshot(m)
	require.False(t, <-m.CloseNotify())
	testmember.Eventually(t, func() bool { return len(b.Status().Receiving) == 0 })

	a.AddPeer(2, []string{"http://" + ln.Addr().String()})
	again, err := os.Open(f.Name())
	require.NoError(t, err)
	_, err = again.Seek(int64(len("not of it")), io.SeekStart)
	require.NoError(t, err)
	m = snap.NewMessage(testmember.MsgSnap(2, 1, 7), again, size)
	a.SendSnapshot(m)
	require.True(t, <-m.CloseNotify(), a.Status().Peers[0].LastError)
	testmember.RequireSaved(t, store, 7, data)
	require.Less(t, a.Status().Peers[0].SentBytes, uint64(size*6/10), "sent twice")
}

// TestSnapshotCutDuringASlowRead: the reader is slow when the connection breaks, and
// waited for; then the transfer is resumed.
func TestSnapshotCutDuringASlowRead(t *testing.T) {
	const size = 4 << 20
	data := testmember.RandomBytes(size)
	for _, slow := range []time.Duration{600 * time.Millisecond, 4 * time.Second} {
		dir := t.TempDir()
		bubble.Test(t, func(t *testing.T) {
			store := testmember.OpenStore(t, dir)
			p := testmember.NewPair(t, nil, testmember.Receives(store))
			time.Sleep(time.Second)
			db := breaking(data, func() {
				time.Sleep(100 * time.Millisecond)
				p.Net.Reset("a", "b")
				time.Sleep(slow)
			}, 1<<20)
			m := snap.NewMessage(testmember.MsgSnap(2, 1, 7), db, size)
			p.A.SendSnapshot(m)
			require.NoError(t, <-p.Sent)
			testmember.RequireSaved(t, store, 7, data)
			require.Equal(t, 2, p.A.Status().Peers[0].LastSnapshot.Attempts)
			require.True(t, <-m.CloseNotify())
			require.EqualValues(t, 1, db.Closes.Load())
		})
	}
}

// TestSnapshotCutDuringAStalledRead: one that stands still is closed, as it would be
// without the cut, and in no time where the transfer is to end.
func TestSnapshotCutDuringAStalledRead(t *testing.T) {
	tests := []struct {
		name  string
		event func(p *testmember.Pair)
		want  error
		max   time.Duration
	}{
		{"cut", func(p *testmember.Pair) { p.Net.Reset("a", "b") }, rafthttp.ErrStalled, 7 * time.Second},
		{"removed", func(p *testmember.Pair) { p.A.RemovePeer(2) }, rafthttp.ErrPeerRemoved, time.Second},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			bubble.Test(t, func(t *testing.T) {
				p := testmember.NewPair(t, nil, testmember.Receives(testmember.OpenStore(t, dir)))
				time.Sleep(time.Second)
				closed := make(chan struct{})
				db := breaking(testmember.RandomBytes(4<<20), func() { tc.event(p); <-closed }, 1<<20)
				db.OnClose = func() { close(closed) }
				m := snap.NewMessage(testmember.MsgSnap(2, 1, 7), db, 4<<20)
				start := time.Now()
				p.A.SendSnapshot(m)
				require.ErrorIs(t, <-p.Sent, tc.want)
				require.Less(t, time.Since(start), tc.max)
				require.False(t, <-m.CloseNotify())
				require.EqualValues(t, 1, db.Closes.Load())
			})
		})
	}
}

// TestSnapshotEndsWhileItsAnswerIsAwaited: there is nothing left to wait for.
func TestSnapshotEndsWhileItsAnswerIsAwaited(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		p := testmember.NewPair(t, nil, testmember.Receives(testmember.SavesAll))
		processing := make(chan struct{})
		p.B.Recorder.OnProcess = func(ctx context.Context, _ *raftpb.Message) error {
			close(processing)
			<-ctx.Done()
			return ctx.Err()
		}
		m := testmember.NewSnapshot(&testmember.Database{Reader: bytes.NewReader(testmember.RandomBytes(1 << 20))}, 1<<20)
		p.A.SendSnapshot(m)
		<-processing
		start := time.Now()
		p.A.RemovePeer(2)
		require.ErrorIs(t, <-p.Sent, rafthttp.ErrPeerRemoved)
		require.Zero(t, time.Since(start))
		p.B.Stop()
	})
}

// oneRequest passes one request of each connection on to a server, and then closes the
// connection.
func oneRequest(t *testing.T, ln net.Listener, target string, say bool) {
	t.Helper()
	var wg sync.WaitGroup
	serve := func(client net.Conn) {
		defer client.Close()
		r, err := http.ReadRequest(bufio.NewReader(client))
		if err != nil {
			return
		}
		r.URL.Scheme, r.URL.Host, r.RequestURI = "http", target, ""
		tr := &http.Transport{DisableKeepAlives: true}
		defer tr.CloseIdleConnections()
		resp, err := tr.RoundTrip(r)
		if err != nil {
			return
		}
		defer resp.Body.Close()
		resp.Close = say
		_ = resp.Write(client)
	}
	go func() {
		for {
			client, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { serve(client) })
		}
	}()
	t.Cleanup(func() { ln.Close(); wg.Wait() })
}

// TestSnapshotWithoutKeepAlive: where a connection takes one request and no second one,
// the plan is the plain one, on a connection of its own.
func TestSnapshotWithoutKeepAlive(t *testing.T) {
	const size = 4 << 20
	data := testmember.RandomBytes(size)
	paths := map[string]func(t *testing.T, b *testmember.Member) (url string){
		"server": func(_ *testing.T, b *testmember.Member) string {
			b.Server.SetKeepAlivesEnabled(false)
			return b.URL
		},
		"proxy": func(t *testing.T, b *testmember.Member) string {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			oneRequest(t, ln, strings.TrimPrefix(b.URL, "http://"), true)
			return "http://" + ln.Addr().String()
		},
		"proxy that does not say so": func(t *testing.T, b *testmember.Member) string {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			oneRequest(t, ln, strings.TrimPrefix(b.URL, "http://"), false)
			return "http://" + ln.Addr().String()
		},
	}
	for name, path := range paths {
		for _, stock := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, stock %t", name, stock), func(t *testing.T) {
				store := testmember.OpenStore(t, t.TempDir())
				b := testmember.Start(t, 2, func(tr *rafthttp.Transport) {
					if tr.Snapshotter = store; stock {
						tr.Snapshotter = testmember.PlainStore{Snapshotter: store}
					}
				})
				ended := make(chan error, 1)
				a := testmember.Start(t, 1, func(tr *rafthttp.Transport) { tr.Observer = sentTo(ended) })
				a.AddPeer(2, []string{path(t, b)})
				a.SendSnapshot(snap.NewMessage(testmember.MsgSnap(2, 1, 7), fileWith(t, nil, data), size))
				require.NoError(t, <-ended)
				testmember.RequireSaved(t, store, 7, data)
				require.Equal(t, 1, a.Status().Peers[0].LastSnapshot.Attempts)
				require.Len(t, b.Recorder.Received(), 1)
			})
		}
	}
}

// TestSnapshotSummingIsWeighed: what the receiver has is summed up where that ends before the
// receiver forgets it, and otherwise sent again, soon.
func TestSnapshotSummingIsWeighed(t *testing.T) {
	const pause = 2 * time.Second // a Read
	for _, size := range []int{32 << 20, 112 << 20, 192 << 20}[:bubble.Runs(3, 1)] {
		data := testmember.RandomBytes(size)
		reads := time.Duration(size / (256 << 10))
		dir := t.TempDir()
		bubble.Test(t, func(t *testing.T) {
			store := testmember.OpenStore(t, dir)
			p := testmember.NewPair(t, nil, testmember.Receives(store))
			leavePart(t, p, data)
			before := p.A.Status().Peers[0].SentBytes
			start := time.Now()
			p.A.SendSnapshot(snap.NewMessage(testmember.MsgSnap(2, 1, 7), slowSeekable(data, pause), int64(size)))
			require.NoError(t, <-p.Sent)
			require.Less(t, time.Since(start), reads*pause+90*time.Second, size)
			testmember.RequireSaved(t, store, 7, data)
			if reads*pause/2 < 8*time.Minute {
				require.Less(t, p.A.Status().Peers[0].SentBytes-before, uint64(size*6/10), "sent twice")
			}
		})
	}
}
