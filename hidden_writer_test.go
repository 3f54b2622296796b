package rafthttp_test

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
	"github.com/seed-4d73690b/rafthttp/snap"
)

// TestSilentSenderBehindAMiddleware: where a middleware hides the server's ResponseWriter, and with it the deadlines, a
// sender whose body does not come is answered as elsewhere, and when Stop is called. So ends the Read that was left behind.
func TestSilentSenderBehindAMiddleware(t *testing.T) {
	snapshot := read(t, snapshotBody(t, msgSnap(2, 1, 7), strings.Repeat("x", 1<<20)))
	post := string(marshal(t, msgApp(2, 1, 1, make([]byte, 1<<10))))
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
					p := newPair(t, nil, receives(savesAll))
					p.b.server.Handler = unhijackable(p.b.server.Handler)
					c, err := p.net.Host("c").DialContext(t.Context(), "tcp", "b:80")
					require.NoError(t, err)
					defer time.AfterFunc(10*time.Second, func() { c.Close() }).Stop() // which would end it
					defer c.Close()
					h := map[string]string{"X-Server-From": "1"}
					if closes {
						h["Connection"] = "close"
					}
					_, err = io.WriteString(c, requestHead("POST", tc.path, peerHeader(h), len(tc.body))+tc.body[:tc.sent])
					require.NoError(t, err)
					time.Sleep(time.Second)
					start, code := time.Now(), tc.code
					if stops {
						p.b.Stop()
						require.Less(t, time.Since(start), time.Second)
						code = 503
					}
					got := readAnswer(t, c)
					require.Equal(t, code, got.StatusCode, got.body)
					require.Less(t, time.Since(start), 6*time.Second)
					if closes { // otherwise the server reads on
						_, err = c.Read(make([]byte, 1))
						require.ErrorIs(t, err, io.EOF)
					}
					require.Empty(t, p.b.Status().Receiving)
					require.Empty(t, p.b.raft.received())
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
	data := randomBytes(size)
	dir := t.TempDir()
	bubble.Test(t, func(t *testing.T) {
		store := openIn(t, dir)
		p := newPair(t, nil, func(tr *rafthttp.Transport) { tr.Snapshotter, tr.ReadTimeout = store, time.Minute })
		p.b.server.Handler = unhijackable(p.b.server.Handler)
		var conns [2]net.Conn
		for i := range conns {
			c, err := p.net.Host("c").DialContext(t.Context(), "tcp", "b:80")
			require.NoError(t, err)
			defer c.Close()
			conns[i] = c
		}
		h := map[string]string{
			"X-Server-From": "1", "X-Raft-To": "2", "X-Raft-Snapshot-Transfer": "a", "X-Raft-Snapshot-Offset": "0",
			"X-Raft-Snapshot-Term": "1", "X-Raft-Snapshot-Index": "7", "X-Raft-Snapshot-Size": fmt.Sprint(size),
		}
		body := read(t, snapshotBody(t, msgSnap(2, 1, 7), string(data)+checksumOf(data)))
		_, err := io.WriteString(conns[0], requestHead("POST", "/raft/snapshot", peerHeader(h), len(body))+body[:len(body)/2])
		require.NoError(t, err)
		time.Sleep(time.Second)
		_, err = io.WriteString(conns[1], requestHead("GET", "/raft/snapshot/offset", peerHeader(h), 0))
		require.NoError(t, err)
		got := readAnswer(t, conns[1])
		require.Equal(t, 204, got.StatusCode, got.body)
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
	data := randomBytes(size)
	dir := t.TempDir()
	bubble.Test(t, func(t *testing.T) {
		store := openIn(t, dir)
		p := newPair(t, nil, nil)
		c := p.start(t, "c", 3, receives(store))
		h := c.server.Handler
		c.server.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			h.ServeHTTP(hijackable{w, w.(http.Hijacker)}, r)
		})
		p.a.AddPeer(3, []string{c.url})
		p.a.SendSnapshot(snap.NewMessage(msgSnap(3, 1, 7), &seekable{Reader: bytes.NewReader(data)}, size))
		require.NoError(t, <-p.sent)
		requireSaved(t, store, 7, data)
	})
}
