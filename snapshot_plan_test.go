package rafthttp_test

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
	"github.com/seed-4d73690b/rafthttp/snap"
)

// TestSnapshotPeerBecomesPlain: the peer resumes snapshots when a transfer begins and
// does not, or seems not to, when its connection breaks. What arrives is the whole
// database, from its first byte.
func TestSnapshotPeerBecomesPlain(t *testing.T) {
	const size = 8 << 20
	data := randomBytes(size)
	events := map[string]func(t *testing.T, p *pair, store *snap.Store){
		"restarted with another Snapshotter": func(t *testing.T, p *pair, store *snap.Store) {
			p.net.Host("b").Crash()
			b := p.start(t, "b", 2, receives(plain{store}))
			b.AddPeer(1, []string{p.a.url})
		},
		"a stream request in its name": func(t *testing.T, p *pair, _ *snap.Store) {
			dialStream(t, p.net.Host("c").DialContext, p.a, "message", 2).Close()
			p.net.Reset("a", "b")
		},
	}
	for name, event := range events {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			bubble.Test(t, func(t *testing.T) {
				store := openIn(t, dir)
				p := newPair(t, nil, receives(store))
				p.net.Link("a", "b").SetBandwidth(4 << 20)
				time.Sleep(time.Second)
				m := snap.NewMessage(msgSnap(2, 1, 7), breaking(data, func() { event(t, p, store) }, size/2), size)
				p.a.SendSnapshot(m)
				require.NoError(t, <-p.sent)
				require.True(t, <-m.CloseNotify())
				requireSaved(t, store, 7, data)
				time.Sleep(time.Second)
				require.Equal(t, []raft.SnapshotStatus{raft.SnapshotFinish}, p.a.raft.snapshotReports())
			})
		})
	}
}

// TestSnapshotOfAFilePeerBecomesPlain is the same over sockets, by sendfile.
func TestSnapshotOfAFilePeerBecomesPlain(t *testing.T) {
	const size = 8 << 20
	data := randomBytes(size)
	store := openIn(t, t.TempDir())
	first := startMember(t, 2, receives(store))
	second := startMember(t, 2, receives(plain{store}))
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	proxy := &cutter{Listener: ln, target: strings.TrimPrefix(first.url, "http://"), buffer: 64 << 10, at: []int64{size / 2}}
	proxy.onCut = func() { proxy.target = strings.TrimPrefix(second.url, "http://") }
	go proxy.run()
	t.Cleanup(func() { ln.Close(); proxy.wg.Wait() })

	ended := make(chan error, 1)
	a := startMember(t, 1, func(tr *rafthttp.Transport) { tr.Observer = sentTo(ended) })
	a.AddPeer(2, []string{"http://" + ln.Addr().String()})
	m := snap.NewMessage(msgSnap(2, 1, 7), fileWith(t, []byte("not of it"), data), size)
	a.SendSnapshot(m)
	require.NoError(t, <-ended)
	require.True(t, <-m.CloseNotify())
	requireSaved(t, store, 7, data)
	require.Len(t, second.raft.received(), 1)
	require.Empty(t, first.raft.received())
	a.Stop()
	require.Equal(t, []raft.SnapshotStatus{raft.SnapshotFinish}, a.raft.snapshotReports())
}

// slowSeekable is a database that can go back, each Read of which takes a while.
func slowSeekable(data []byte, pause time.Duration) *seekable {
	return &seekable{Reader: bytes.NewReader(data), onRead: func(int64) { time.Sleep(pause) }}
}

// leavePart has b keep the first half of a database of a, as after a failure.
func leavePart(t *testing.T, p *pair, data []byte) {
	t.Helper()
	p.net.Link("a", "b").SetBandwidth(4 << 20)
	time.Sleep(time.Second)
	m := snap.NewMessage(msgSnap(2, 1, 7), breaking(data, func() { p.a.RemovePeer(2) }, int64(len(data)/2)), int64(len(data)))
	p.a.SendSnapshot(m)
	require.False(t, <-m.CloseNotify())
	require.Error(t, <-p.sent)
	p.a.AddPeer(2, []string{p.b.url})
	time.Sleep(time.Second)
}

// TestSnapshotFromASlowReader: what the receiver has is compared with what the reader
// brings, which takes longer than any connection may be idle. It is resumed all the
// same, and takes no longer than a whole transfer.
func TestSnapshotFromASlowReader(t *testing.T) {
	const size, pause = 8 << 20, 600 * time.Millisecond // a Read
	data := randomBytes(size)
	whole := size / (256 << 10) * pause
	for _, part := range []bool{false, true} {
		dir := t.TempDir()
		bubble.Test(t, func(t *testing.T) {
			store := openIn(t, dir)
			p := newPair(t, nil, nil)
			p.deadlines = true
			p.b.Stop()
			p.net.Host("b").Crash()
			p.b = p.start(t, "b", 2, receives(store))
			p.b.AddPeer(1, []string{p.a.url})
			if part {
				leavePart(t, p, data)
			}
			before := p.a.Status().Peers[0].SentBytes
			m := snap.NewMessage(msgSnap(2, 1, 7), slowSeekable(data, pause), size)
			start := time.Now()
			p.a.SendSnapshot(m)
			require.NoError(t, <-p.sent)
			require.Less(t, time.Since(start), whole+5*time.Second)
			requireSaved(t, store, 7, data)
			if part {
				require.Less(t, p.a.Status().Peers[0].SentBytes-before, uint64(size*6/10), "sent twice")
			}
		})
	}
}

// TestSnapshotOfAFileResumedByTheNext: a later transfer of the same file goes on where
// the first one was.
func TestSnapshotOfAFileResumedByTheNext(t *testing.T) {
	const size = 16 << 20
	data := randomBytes(size)
	store := openIn(t, t.TempDir())
	b := startMember(t, 2, receives(store))
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	proxy := &cutter{Listener: ln, target: strings.TrimPrefix(b.url, "http://"), buffer: 64 << 10, at: []int64{size / 2}}
	go proxy.run()
	t.Cleanup(func() { ln.Close(); proxy.wg.Wait() })
	a := startMember(t, 1, nil)
	a.AddPeer(2, []string{"http://" + ln.Addr().String()})
	proxy.onCut = func() { a.RemovePeer(2) }
	f := fileWith(t, []byte("not of it"), data)
	m := snap.NewMessage(msgSnap(2, 1, 7), f, size)
	a.SendSnapshot(m)
	require.False(t, <-m.CloseNotify())
	eventually(t, func() bool { return len(b.Status().Receiving) == 0 })

	a.AddPeer(2, []string{"http://" + ln.Addr().String()})
	again, err := os.Open(f.Name())
	require.NoError(t, err)
	_, err = again.Seek(int64(len("not of it")), io.SeekStart)
	require.NoError(t, err)
	m = snap.NewMessage(msgSnap(2, 1, 7), again, size)
	a.SendSnapshot(m)
	require.True(t, <-m.CloseNotify(), a.Status().Peers[0].LastError)
	requireSaved(t, store, 7, data)
	require.Less(t, a.Status().Peers[0].SentBytes, uint64(size*6/10), "sent twice")
}

// TestSnapshotCutDuringASlowRead: the reader is slow when the connection breaks, and
// waited for; then the transfer is resumed.
func TestSnapshotCutDuringASlowRead(t *testing.T) {
	const size = 4 << 20
	data := randomBytes(size)
	for _, slow := range []time.Duration{600 * time.Millisecond, 4 * time.Second} {
		dir := t.TempDir()
		bubble.Test(t, func(t *testing.T) {
			store := openIn(t, dir)
			p := newPair(t, nil, receives(store))
			time.Sleep(time.Second)
			db := breaking(data, func() {
				time.Sleep(100 * time.Millisecond)
				p.net.Reset("a", "b")
				time.Sleep(slow)
			}, 1<<20)
			m := snap.NewMessage(msgSnap(2, 1, 7), db, size)
			p.a.SendSnapshot(m)
			require.NoError(t, <-p.sent)
			requireSaved(t, store, 7, data)
			require.Equal(t, 2, p.a.Status().Peers[0].LastSnapshot.Attempts)
			require.True(t, <-m.CloseNotify())
			require.EqualValues(t, 1, db.closes.Load())
		})
	}
}

// TestSnapshotCutDuringAStalledRead: one that stands still is closed, as it would be
// without the cut, and in no time where the transfer is to end.
func TestSnapshotCutDuringAStalledRead(t *testing.T) {
	tests := []struct {
		name  string
		event func(p *pair)
		want  error
		max   time.Duration
	}{
		{"cut", func(p *pair) { p.net.Reset("a", "b") }, rafthttp.ErrStalled, 7 * time.Second},
		{"removed", func(p *pair) { p.a.RemovePeer(2) }, rafthttp.ErrPeerRemoved, time.Second},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			bubble.Test(t, func(t *testing.T) {
				p := newPair(t, nil, receives(openIn(t, dir)))
				time.Sleep(time.Second)
				closed := make(chan struct{})
				db := breaking(randomBytes(4<<20), func() { tc.event(p); <-closed }, 1<<20)
				db.onClose = func() { close(closed) }
				m := snap.NewMessage(msgSnap(2, 1, 7), db, 4<<20)
				start := time.Now()
				p.a.SendSnapshot(m)
				require.ErrorIs(t, <-p.sent, tc.want)
				require.Less(t, time.Since(start), tc.max)
				require.False(t, <-m.CloseNotify())
				require.EqualValues(t, 1, db.closes.Load())
			})
		})
	}
}

// TestSnapshotEndsWhileItsAnswerIsAwaited: there is nothing left to wait for.
func TestSnapshotEndsWhileItsAnswerIsAwaited(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		p := newPair(t, nil, receives(savesAll))
		processing := make(chan struct{})
		p.b.raft.process = func(ctx context.Context, _ *raftpb.Message) error {
			close(processing)
			<-ctx.Done()
			return ctx.Err()
		}
		m := newSnapshot(&database{Reader: bytes.NewReader(randomBytes(1 << 20))}, 1<<20)
		p.a.SendSnapshot(m)
		<-processing
		start := time.Now()
		p.a.RemovePeer(2)
		require.ErrorIs(t, <-p.sent, rafthttp.ErrPeerRemoved)
		require.Zero(t, time.Since(start))
		p.b.Stop()
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
	data := randomBytes(size)
	paths := map[string]func(t *testing.T, b *member) (url string){
		"server": func(_ *testing.T, b *member) string {
			b.server.SetKeepAlivesEnabled(false)
			return b.url
		},
		"proxy": func(t *testing.T, b *member) string {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			oneRequest(t, ln, strings.TrimPrefix(b.url, "http://"), true)
			return "http://" + ln.Addr().String()
		},
		"proxy that does not say so": func(t *testing.T, b *member) string {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			oneRequest(t, ln, strings.TrimPrefix(b.url, "http://"), false)
			return "http://" + ln.Addr().String()
		},
	}
	for name, path := range paths {
		for _, stock := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, stock %t", name, stock), func(t *testing.T) {
				store := openIn(t, t.TempDir())
				b := startMember(t, 2, func(tr *rafthttp.Transport) {
					if tr.Snapshotter = store; stock {
						tr.Snapshotter = plain{store}
					}
				})
				ended := make(chan error, 1)
				a := startMember(t, 1, func(tr *rafthttp.Transport) { tr.Observer = sentTo(ended) })
				a.AddPeer(2, []string{path(t, b)})
				a.SendSnapshot(snap.NewMessage(msgSnap(2, 1, 7), fileWith(t, nil, data), size))
				require.NoError(t, <-ended)
				requireSaved(t, store, 7, data)
				require.Equal(t, 1, a.Status().Peers[0].LastSnapshot.Attempts)
				require.Len(t, b.raft.received(), 1)
			})
		}
	}
}

// TestSnapshotSummingIsWeighed: what the receiver has is summed up where that ends before the
// receiver forgets it, and otherwise sent again, soon.
func TestSnapshotSummingIsWeighed(t *testing.T) {
	const pause = 2 * time.Second // a Read
	for _, size := range []int{32 << 20, 112 << 20, 192 << 20} {
		data := randomBytes(size)
		reads := time.Duration(size / (256 << 10))
		dir := t.TempDir()
		bubble.Test(t, func(t *testing.T) {
			store := openIn(t, dir)
			p := newPair(t, nil, receives(store))
			leavePart(t, p, data)
			before := p.a.Status().Peers[0].SentBytes
			start := time.Now()
			p.a.SendSnapshot(snap.NewMessage(msgSnap(2, 1, 7), slowSeekable(data, pause), int64(size)))
			require.NoError(t, <-p.sent)
			require.Less(t, time.Since(start), reads*pause+90*time.Second, size)
			requireSaved(t, store, 7, data)
			if reads*pause/2 < 8*time.Minute {
				require.Less(t, p.a.Status().Peers[0].SentBytes-before, uint64(size*6/10), "sent twice")
			}
		})
	}
}
