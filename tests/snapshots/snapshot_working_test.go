package snapshots_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/bubble"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/snap"
)

// hanging is a store whose disk hangs once, when a number of bytes have come.
type hanging struct {
	*snap.Store
	at   int64
	hang func()
}

func (h *hanging) SaveDBFrom(r io.Reader, id uint64) (int64, error) {
	return h.Store.SaveDBFrom(h.reader(r), id)
}

func (h *hanging) ResumeDBFrom(r io.Reader, t snap.Transfer, offset int64, sum func() (uint32, error)) (int64, error) {
	return h.Store.ResumeDBFrom(h.reader(r), t, offset, sum)
}

func (h *hanging) reader(r io.Reader) io.Reader {
	return testmember.ReaderFunc(func(p []byte) (int, error) {
		n, err := r.Read(p)
		if h.at -= int64(n); h.at <= 0 && h.hang != nil {
			hang := h.hang
			h.hang = nil
			hang()
		}
		return n, err
	})
}

// unhijackable serves as a middleware does whose ResponseWriter hides that of the server.
func unhijackable(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.ServeHTTP(struct{ http.ResponseWriter }{w}, r)
	})
}

// TestSnapshotWhileTheDiskHangs: a receiver that does not read, since its disk hangs, says
// so where it can, and is waited for. A sender that cannot be told asks how far it is.
func TestSnapshotWhileTheDiskHangs(t *testing.T) {
	const size = 1 << 20
	data := testmember.RandomBytes(size)
	tests := []struct {
		name      string
		stock     bool // as to the extension snapshot-1
		wrapped   bool
		hang      time.Duration
		attempts  int
		succeeded bool
	}{
		{name: "resumable", hang: 20 * time.Second, attempts: 1, succeeded: true},
		{name: "plain", stock: true, hang: 20 * time.Second, attempts: 1, succeeded: true},
		{name: "for long", hang: 3 * time.Minute, attempts: 1, succeeded: true},
		{name: "for ever", hang: 40 * time.Minute, attempts: 2},
		{name: "resumable, behind a middleware", wrapped: true, hang: 20 * time.Second, attempts: 2, succeeded: true},
		{name: "resumable, behind a middleware, for long", wrapped: true, hang: 3 * time.Minute, attempts: 2, succeeded: true},
		{name: "plain, behind a middleware", stock: true, wrapped: true, hang: 7 * time.Second, attempts: 1},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			bubble.Test(t, func(t *testing.T) {
				store := testmember.OpenStore(t, dir)
				p := testmember.NewPair(t, nil, nil)
				given := make(chan struct{}) // up
				var s rafthttp.Snapshotter = &hanging{store, size / 2, func() {
					select {
					case <-time.After(tc.hang):
					case <-given:
					}
				}}
				if tc.stock {
					s = testmember.PlainStore{Snapshotter: s}
				}
				c := p.Start(t, "c", 3, testmember.Receives(s))
				if tc.wrapped {
					c.Server.Handler = unhijackable(c.Server.Handler)
				}
				p.A.AddPeer(3, []string{c.URL})
				start := time.Now()
				m := snap.NewMessage(testmember.MsgSnap(3, 1, 7), &testmember.Seekable{Reader: bytes.NewReader(data)}, size)
				p.A.SendSnapshot(m)
				err := <-p.Sent
				require.Equal(t, tc.succeeded, <-m.CloseNotify(), err)
				for _, st := range p.A.Status().Peers {
					if st.ID == 3 {
						require.Equal(t, tc.attempts, st.LastSnapshot.Attempts)
					}
				}
				if tc.succeeded {
					require.Less(t, time.Since(start), tc.hang+5*time.Second)
					testmember.RequireSaved(t, store, 7, data)
					time.Sleep(time.Second)
					require.Equal(t, []raft.SnapshotStatus{raft.SnapshotFinish}, p.A.Recorder.SnapshotReports())
				} else {
					require.Less(t, time.Since(start), time.Hour)
					close(given)
					time.Sleep(time.Second)
				}
			})
		})
	}
}

// TestSnapshotIsInstalledForMinutes: the receiver says that it works on after the last byte
// as well, for as long as its own bound lets it.
func TestSnapshotIsInstalledForMinutes(t *testing.T) {
	for _, stock := range []bool{false, true} {
		for _, size := range []int{0, 10, 300_000} {
			for _, deadlines := range []bool{false, true} {
				t.Run(fmt.Sprintf("stock %t, %d bytes, deadlines %t", stock, size, deadlines), func(t *testing.T) {
					data := testmember.RandomBytes(size)
					dir := t.TempDir()
					bubble.Test(t, func(t *testing.T) {
						store := testmember.OpenStore(t, dir)
						var s rafthttp.Snapshotter = store
						if stock {
							s = testmember.PlainStore{Snapshotter: s}
						}
						p := testmember.NewPair(t, nil, nil)
						p.Deadlines = deadlines
						c := p.Start(t, "c", 3, func(tr *rafthttp.Transport) {
							tr.Snapshotter, tr.SnapshotAnswerTimeout = s, time.Hour
						})
						c.Recorder.OnProcess = func(ctx context.Context, _ *raftpb.Message) error {
							time.Sleep(3 * time.Minute)
							return ctx.Err()
						}
						p.A.AddPeer(3, []string{c.URL})
						p.A.SendSnapshot(snap.NewMessage(testmember.MsgSnap(3, 1, 7), &testmember.Seekable{Reader: bytes.NewReader(data)}, int64(size)))
						require.NoError(t, <-p.Sent)
						testmember.RequireSaved(t, store, 7, data)
					})
				})
			}
		}
	}
}

// watcher counts what a receiver says of its work, on its way to the sender.
type watcher struct {
	net.Conn
	working chan struct{}
}

func (w *watcher) Write(p []byte) (int, error) {
	for range bytes.Count(p, []byte("HTTP/1.1 102 ")) {
		select {
		case w.working <- struct{}{}:
		default:
		}
	}
	return w.Conn.Write(p)
}

type watchingListener struct {
	net.Listener
	working chan struct{}
}

func (l watchingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &watcher{c, l.working}, nil
}

// TestSnapshotOfAFileWhileTheDiskHangs: over sockets neither end's kernel gives the
// connection up meanwhile.
func TestSnapshotOfAFileWhileTheDiskHangs(t *testing.T) {
	const (
		size    = 16 << 20
		timeout = time.Second // also of the kernel's connections
	)
	data := testmember.RandomBytes(size)
	for _, stock := range []bool{false, true} {
		store := testmember.OpenStore(t, t.TempDir())
		working := make(chan struct{}, 100)
		var s rafthttp.Snapshotter = &hanging{store, size / 4, func() {
			for range 12 { // three seconds
				select {
				case <-working:
				case <-time.After(10 * time.Second): // the connection is lost
					return
				}
			}
		}}
		if stock {
			s = testmember.PlainStore{Snapshotter: s}
		}
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		b := testmember.StartOn(t, watchingListener{ln, working}, 2, func(tr *rafthttp.Transport) {
			tr.Snapshotter = s
		})
		ended := make(chan error, 1)
		a := testmember.Start(t, 1, func(tr *rafthttp.Transport) {
			tr.Observer, tr.ReadTimeout, tr.WriteTimeout = sentTo(ended), timeout, timeout
		})
		a.AddPeer(2, []string{b.URL})
		a.SendSnapshot(snap.NewMessage(testmember.MsgSnap(2, 1, 7), fileWith(t, nil, data), size))
		require.NoError(t, <-ended)
		require.Equal(t, 1, a.Status().Peers[0].LastSnapshot.Attempts)
		testmember.RequireSaved(t, store, 7, data)
	}
}

// TestSnapshotWorkIsToldToWhomItConcerns: a sender that has not asked for it gets the
// answer alone.
func TestSnapshotWorkIsToldToWhomItConcerns(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		p := testmember.NewPair(t, nil, testmember.Receives(testmember.SavesAll))
		p.B.Recorder.OnProcess = func(context.Context, *raftpb.Message) error {
			time.Sleep(30 * time.Second)
			return nil
		}
		body := testmember.ReadString(t, testmember.SnapshotBody(t, testmember.MsgSnap(2, 1, 7), strings.Repeat("x", 1<<20)))
		for _, asks := range []bool{false, true} {
			c, err := p.Net.Host("c").DialContext(t.Context(), "tcp", "b:80")
			require.NoError(t, err)
			h := map[string]string{"Connection": "close"}
			if asks {
				h["X-Raft-Extensions"] = "snapshot-working-1"
			}
			_, err = io.WriteString(c, testmember.RequestHead("POST", "/raft/snapshot", testmember.PeerHeader(h), len(body))+body)
			require.NoError(t, err)
			answer, err := io.ReadAll(c)
			require.NoError(t, err)
			require.Equal(t, asks, strings.HasPrefix(string(answer), "HTTP/1.1 102 Processing\r\n\r\n"))
			require.Equal(t, 1, strings.Count(string(answer), "HTTP/1.1 204 No Content\r\n"))
			if asks {
				require.InDelta(t, 30/0.25, strings.Count(string(answer), "HTTP/1.1 102 "), 2)
			}
			c.Close()
		}
	})
}

// TestSnapshotWorkIsNotToldOverHTTP10: it has no interim responses, and there are proxies that pass the header on.
func TestSnapshotWorkIsNotToldOverHTTP10(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		p := testmember.NewPair(t, nil, testmember.Receives(testmember.SavesAll))
		p.B.Recorder.OnProcess = func(context.Context, *raftpb.Message) error {
			time.Sleep(30 * time.Second)
			return nil
		}
		body := testmember.ReadString(t, testmember.SnapshotBody(t, testmember.MsgSnap(2, 1, 7), strings.Repeat("x", 1<<20)))
		c, err := p.Net.Host("c").DialContext(t.Context(), "tcp", "b:80")
		require.NoError(t, err)
		defer c.Close()
		h := map[string]string{"Connection": "close", "X-Raft-Extensions": "snapshot-working-1"}
		head := testmember.RequestHead("POST", "/raft/snapshot", testmember.PeerHeader(h), len(body))
		_, err = io.WriteString(c, strings.Replace(head, "HTTP/1.1", "HTTP/1.0", 1)+body)
		require.NoError(t, err)
		answer := testmember.ReadString(t, c)
		require.True(t, strings.HasPrefix(answer, "HTTP/1.0 204 No Content\r\n"), answer)
	})
}

// TestSnapshotsGoOnWhileOneIsInstalled: what is sent and only waits for its answer takes
// no other transfer's turn.
func TestSnapshotsGoOnWhileOneIsInstalled(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		p := testmember.NewPair(t, func(tr *rafthttp.Transport) { tr.MaxSnapshots = 1 }, testmember.Receives(testmember.SavesAll))
		c := p.Start(t, "c", 3, func(tr *rafthttp.Transport) {
			tr.Snapshotter, tr.SnapshotAnswerTimeout = testmember.SavesAll, time.Hour
		})
		c.Recorder.OnProcess = func(context.Context, *raftpb.Message) error {
			time.Sleep(3 * time.Minute)
			return nil
		}
		p.A.AddPeer(3, []string{c.URL})
		start := time.Now()
		for _, to := range []types.ID{3, 2, 2} {
			db := &testmember.Database{Reader: bytes.NewReader(testmember.RandomBytes(1 << 20))}
			p.A.SendSnapshot(snap.NewMessage(testmember.MsgSnap(to, 1, 7), db, 1<<20))
			time.Sleep(time.Second)
		}
		require.NoError(t, <-p.Sent)
		require.NoError(t, <-p.Sent)
		require.Less(t, time.Since(start), 10*time.Second)
		require.NoError(t, <-p.Sent)
		require.GreaterOrEqual(t, time.Since(start), 3*time.Minute)
	})
}
