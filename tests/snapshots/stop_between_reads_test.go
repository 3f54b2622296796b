package snapshots_test

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
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
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
		head := testmember.Marshal(t, m)
		return append(testmember.LengthPrefixBytes(uint64(len(head))), head...)
	}
	snapshot := testmember.MsgSnap(1, 2, 7)
	snapshot.Snapshot.Data = make([]byte, 64<<10)
	for path, body := range map[string][]byte{
		"/raft":          testmember.Marshal(t, testmember.MsgApp(1, 2, 1, make([]byte, 64<<10))),
		"/raft/snapshot": append(frame(snapshot), "database"...),
	} {
		t.Run(path, func(t *testing.T) {
			testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
				a := testmember.StartSimulated(t, n, 1, testmember.Receives(testmember.SavesAll))
				a.AddPeer(2, testmember.SilentHost(n, 2))
				stopped := make(chan struct{})
				half := len(body) / 2
				r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, path, &twoParts{
					parts: [][]byte{bytes.Clone(body[:half]), bytes.Clone(body[half:])},
					between: func() {
						go func() { defer close(stopped); a.Stop() }()
						time.Sleep(time.Millisecond)
					},
				})
				r.Header, r.ContentLength = testmember.PeerHeader(nil), int64(len(body))
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
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		a := testmember.StartSimulated(t, n, 1, testmember.Receives(heldSaves{}))
		a.AddPeer(2, testmember.SilentHost(n, 2))
		head := testmember.Marshal(t, testmember.MsgSnap(1, 2, 7))
		h := testmember.PeerHeader(map[string]string{
			"X-Server-From": "2", "X-Raft-Snapshot-Term": "1", "X-Raft-Snapshot-Index": "7", "X-Raft-Snapshot-Size": "2",
			"X-Raft-Snapshot-Offset": "0", "X-Raft-Snapshot-Transfer": "a",
		})
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/raft/snapshot", &twoParts{
			parts: [][]byte{testmember.LengthPrefixBytes(uint64(len(head))), head},
			between: func() {
				go testmember.Ask(t, a.Transport, "GET", "/raft/snapshot/offset", h, nil)
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
	data := testmember.RandomBytes(size)
	dir := t.TempDir()
	bubble.Test(t, func(t *testing.T) {
		store := testmember.OpenStore(t, dir)
		p := testmember.NewPair(t, nil, nil)
		c := p.Start(t, "c", 3, testmember.Receives(store))
		inner := c.Server.Handler
		var once sync.Once
		stopped := make(chan struct{})
		c.Server.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
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
		p.A.AddPeer(3, []string{c.URL})
		time.Sleep(time.Second)
		m := testmember.MsgSnap(3, 1, 7)
		m.Snapshot.Data = make([]byte, 1<<20)
		p.A.SendSnapshot(snap.NewMessage(m, &testmember.Seekable{Reader: bytes.NewReader(data)}, size))
		<-stopped
		time.Sleep(100 * time.Millisecond) // it was answered
		_ = c.Server.Close()
		p.Net.Host("c").Crash()
		p.Start(t, "c", 3, testmember.Receives(store))
		require.NoError(t, <-p.Sent)
		testmember.RequireSaved(t, store, 7, data)
	})
}
