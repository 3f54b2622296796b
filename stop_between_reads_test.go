package rafthttp_test

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/internal/bubble"
	"github.com/seed-4d73690b/rafthttp/memnet"
	"github.com/seed-4d73690b/rafthttp/snap"
)

// twoParts is a body of two parts; between is called before the first Read returns.
type twoParts struct {
	parts   [][]byte
	between func()
}

func (b *twoParts) Read(p []byte) (int, error) {
	if len(b.parts) == 0 {
		return 0, io.EOF
	}
	n := copy(p, b.parts[0])
	if b.parts[0] = b.parts[0][n:]; len(b.parts[0]) == 0 {
		b.parts = b.parts[1:]
		if b.between != nil {
			b.between()
			b.between = nil
		}
	}
	return n, nil
}

// withDeadlines is a response whose reads can be bounded, as that of a server.
type withDeadlines struct{ *httptest.ResponseRecorder }

func (withDeadlines) SetReadDeadline(time.Time) error { return nil }

// TestStopBetweenTwoReads: a request whose body is being read when the transport is stopped is told that (503), also if Stop comes
// between two reads. 400 says that the message was bad: the sender of a snapshot does not try again after it.
func TestStopBetweenTwoReads(t *testing.T) {
	frame := func(m *raftpb.Message) []byte {
		head := marshal(t, m)
		return append(lengthPrefix(uint64(len(head))), head...)
	}
	snapshot := msgSnap(1, 2, 7)
	snapshot.Snapshot.Data = make([]byte, 64<<10)
	for path, body := range map[string][]byte{
		"/raft":          marshal(t, msgApp(1, 2, 1, make([]byte, 64<<10))),
		"/raft/snapshot": append(frame(snapshot), "database"...),
	} {
		t.Run(path, func(t *testing.T) {
			simulate(t, func(t *testing.T, n *memnet.Network) {
				a := startSimulated(t, n, 1, receives(savesAll))
				a.AddPeer(2, silentHost(n, 2))
				stopped := make(chan struct{})
				half := len(body) / 2
				r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, path, &twoParts{
					parts: [][]byte{bytes.Clone(body[:half]), bytes.Clone(body[half:])},
					between: func() {
						go func() { defer close(stopped); a.Stop() }()
						time.Sleep(time.Millisecond)
					},
				})
				r.Header, r.ContentLength = peerHeader(nil), int64(len(body))
				w := withDeadlines{httptest.NewRecorder()}
				a.Handler().ServeHTTP(w, r)
				<-stopped
				require.Equal(t, http.StatusServiceUnavailable, w.Code, w.Body.String())
				for _, st := range a.Status().Peers {
					require.Zero(t, st.ReceiveFailures)
				}
			})
		})
	}
}

// TestSnapshotCutBetweenTwoReads: the same goes for an attempt that is ended by the question before the next one. Its answer says
// that the connection was cut.
func TestSnapshotCutBetweenTwoReads(t *testing.T) {
	simulate(t, func(t *testing.T, n *memnet.Network) {
		a := startSimulated(t, n, 1, receives(heldSaves{}))
		a.AddPeer(2, silentHost(n, 2))
		head := marshal(t, msgSnap(1, 2, 7))
		h := peerHeader(map[string]string{
			"X-Server-From": "2", "X-Raft-Snapshot-Term": "1", "X-Raft-Snapshot-Index": "7", "X-Raft-Snapshot-Size": "2",
			"X-Raft-Snapshot-Offset": "0", "X-Raft-Snapshot-Transfer": "a",
		})
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/raft/snapshot", &twoParts{
			parts: [][]byte{lengthPrefix(uint64(len(head))), head},
			between: func() {
				go ask(t, a.Transport, "GET", "/raft/snapshot/offset", h, nil)
				time.Sleep(time.Millisecond)
			},
		})
		r.Header, r.ContentLength = h, int64(8+len(head)+2+4)
		w := withDeadlines{httptest.NewRecorder()}
		a.Handler().ServeHTTP(w, r)
		require.Equal(t, http.StatusInternalServerError, w.Code)
		require.Contains(t, w.Body.String(), "failed to save database snapshot (connection cut): ")
	})
}

// afterFirst calls f once, when the first bytes have been read.
type afterFirst struct {
	io.ReadCloser
	f func()
}

func (b *afterFirst) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if n > 0 && b.f != nil {
		b.f()
		b.f = nil
	}
	return n, err
}

// TestSnapshotOfAReceiverRestartedInTheHead: a transfer outlives a restart of its receiver whenever that comes, also while the
// message at the head is read.
func TestSnapshotOfAReceiverRestartedInTheHead(t *testing.T) {
	const size = 1 << 20
	data := randomBytes(size)
	dir := t.TempDir()
	bubble.Test(t, func(t *testing.T) {
		store := openIn(t, dir)
		p := newPair(t, nil, nil)
		c := p.start(t, "c", 3, receives(store))
		inner := c.server.Handler
		var once sync.Once
		stopped := make(chan struct{})
		c.server.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/raft/snapshot" {
				once.Do(func() {
					r.Body = &afterFirst{r.Body, func() {
						go func() { defer close(stopped); c.Stop() }()
						time.Sleep(time.Millisecond)
					}}
				})
			}
			inner.ServeHTTP(w, r)
		})
		p.a.AddPeer(3, []string{c.url})
		time.Sleep(time.Second)
		m := msgSnap(3, 1, 7)
		m.Snapshot.Data = make([]byte, 1<<20)
		p.a.SendSnapshot(snap.NewMessage(m, &seekable{Reader: bytes.NewReader(data)}, size))
		<-stopped
		time.Sleep(100 * time.Millisecond) // it was answered
		_ = c.server.Close()
		p.net.Host("c").Crash()
		p.start(t, "c", 3, receives(store))
		require.NoError(t, <-p.sent)
		requireSaved(t, store, 7, data)
	})
}
