package snapshots_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/bubble"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/snap"
)

// TestSilentSenderBehindAMiddleware: where a middleware hides the server's ResponseWriter, and with it the deadlines, a
// sender whose body does not come is answered as elsewhere, and when Stop is called. So ends the Read that was left behind.
func TestSilentSenderBehindAMiddleware(t *testing.T) {
	snapshot := testmember.ReadString(t, testmember.SnapshotBody(t, testmember.MsgSnap(2, 1, 7), strings.Repeat("x", 1<<20)))
	post := string(testmember.Marshal(t, testmember.MsgApp(2, 1, 1, make([]byte, 1<<10))))
	tests := []struct {
		name, path, body string
		sent             int
		code             int
	}{
		{"no head", "/raft/snapshot", snapshot, 0, 500},
		{"head", "/raft/snapshot", snapshot, 10, 500},
		{"database", "/raft/snapshot", snapshot, len(snapshot) / 2, 500},
		{"last byte", "/raft/snapshot", snapshot, len(snapshot) - 1, 500},
		{"post", "/raft", post, len(post) / 2, 400},
	}
	for _, tc := range tests {
		for i := range 4 {
			stops, closes := i&1 != 0, i&2 != 0
			t.Run(fmt.Sprintf("%s, stop %t, close %t", tc.name, stops, closes), func(t *testing.T) {
				bubble.Test(t, func(t *testing.T) {
					p := testmember.NewPair(t, nil, testmember.Receives(testmember.SavesAll))
					p.B.Server.Handler = unhijackable(p.B.Server.Handler)
					c, err := p.Net.Host("c").DialContext(t.Context(), "tcp", "b:80")
					require.NoError(t, err)
					defer time.AfterFunc(10*time.Second, func() { c.Close() }).Stop() // which would end it
					defer c.Close()
					h := map[string]string{"X-Server-From": "1"}
					if closes {
						h["Connection"] = "close"
					}
					_, err = io.WriteString(c, testmember.RequestHead("POST", tc.path, testmember.PeerHeader(h), len(tc.body))+tc.body[:tc.sent])
					require.NoError(t, err)
					time.Sleep(time.Second)
					start, code := time.Now(), tc.code
					if stops {
						p.B.Stop()
						require.Less(t, time.Since(start), time.Second)
						code = 503
					}
					got := testmember.ReadAnswer(t, c)
					require.Equal(t, code, got.StatusCode, got.Body)
					require.Less(t, time.Since(start), 6*time.Second)
					if closes { // otherwise the server reads on
						_, err = c.Read(make([]byte, 1))
						require.ErrorIs(t, err, io.EOF)
					}
					require.Empty(t, p.B.Status().Receiving)
					require.Empty(t, p.B.Recorder.Received())
					c.Close()
					time.Sleep(time.Second) // for the server to see it
				})
			})
		}
	}
}

// TestSnapshotCutBehindAMiddleware: an attempt that was given up is ended there at once as well, so that the next one can
// go on.
func TestSnapshotCutBehindAMiddleware(t *testing.T) {
	const size = 1 << 20
	data := testmember.RandomBytes(size)
	dir := t.TempDir()
	bubble.Test(t, func(t *testing.T) {
		store := testmember.OpenStore(t, dir)
		p := testmember.NewPair(t, nil, func(tr *rafthttp.Transport) { tr.Snapshotter, tr.ReadTimeout = store, time.Minute })
		p.B.Server.Handler = unhijackable(p.B.Server.Handler)
		var conns [2]net.Conn
		for i := range conns {
			c, err := p.Net.Host("c").DialContext(t.Context(), "tcp", "b:80")
			require.NoError(t, err)
			defer c.Close()
			conns[i] = c
		}
		h := map[string]string{
			"X-Server-From": "1", "X-Raft-To": "2", "X-Raft-Snapshot-Transfer": "a", "X-Raft-Snapshot-Offset": "0",
			"X-Raft-Snapshot-Term": "1", "X-Raft-Snapshot-Index": "7", "X-Raft-Snapshot-Size": fmt.Sprint(size),
		}
		body := testmember.ReadString(t, testmember.SnapshotBody(t, testmember.MsgSnap(2, 1, 7), string(data)+checksumOf(data)))
		_, err := io.WriteString(conns[0], testmember.RequestHead("POST", "/raft/snapshot", testmember.PeerHeader(h), len(body))+body[:len(body)/2])
		require.NoError(t, err)
		time.Sleep(time.Second)
		_, err = io.WriteString(conns[1], testmember.RequestHead("GET", "/raft/snapshot/offset", testmember.PeerHeader(h), 0))
		require.NoError(t, err)
		got := testmember.ReadAnswer(t, conns[1])
		require.Equal(t, 204, got.StatusCode, got.Body)
		require.NotEqual(t, "0", got.Header.Get("X-Raft-Snapshot-Offset"))
		for _, c := range conns {
			c.Close()
		}
		time.Sleep(time.Second)
	})
}

// hijackable is a middleware's ResponseWriter that knows of Hijack and of no deadlines.
type hijackable struct {
	http.ResponseWriter
	http.Hijacker
}

// TestSnapshotBehindAMiddlewareThatHijacks: nothing gets lost between what was read with no deadlines, and what comes from
// the connection.
func TestSnapshotBehindAMiddlewareThatHijacks(t *testing.T) {
	const size = 4 << 20
	data := testmember.RandomBytes(size)
	dir := t.TempDir()
	bubble.Test(t, func(t *testing.T) {
		store := testmember.OpenStore(t, dir)
		p := testmember.NewPair(t, nil, nil)
		c := p.Start(t, "c", 3, testmember.Receives(store))
		h := c.Server.Handler
		c.Server.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			h.ServeHTTP(hijackable{w, w.(http.Hijacker)}, r)
		})
		p.A.AddPeer(3, []string{c.URL})
		p.A.SendSnapshot(snap.NewMessage(testmember.MsgSnap(3, 1, 7), &testmember.Seekable{Reader: bytes.NewReader(data)}, size))
		require.NoError(t, <-p.Sent)
		testmember.RequireSaved(t, store, 7, data)
	})
}
