package delivery_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/memnet"
)

// TestSlowChunkedBody: a body of unknown length lives as long as it moves, though net/http goes on to read chunks for as long
// as there is room for them: a line of 30 KiB/s. Members of etcd send snapshots like that.
func TestSlowChunkedBody(t *testing.T) {
	data := testmember.RandomBytes(1 << 20)
	simulateBoth(t, func(t *testing.T, n *memnet.Network) {
		store := testmember.OpenStore(t, t.TempDir())
		b := testmember.StartSimulated(t, n, 1, testmember.Receives(testmember.PlainStore{Snapshotter: store}))
		n.Link("m2", "m1").SetBandwidth(30 << 10)
		tr := &http.Transport{DialContext: n.Host("m2").DialContext}
		defer tr.CloseIdleConnections()
		body := io.MultiReader(testmember.SnapshotBody(t, testmember.MsgSnap(1, 2, 7), ""), bytes.NewReader(data))
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, b.URL+"/raft/snapshot", body)
		require.NoError(t, err)
		req.Header = testmember.PeerHeader(nil)
		resp, err := tr.RoundTrip(req)
		require.NoError(t, err)
		defer resp.Body.Close()
		require.Equal(t, http.StatusNoContent, resp.StatusCode)
		testmember.RequireSaved(t, store, 7, data)
	})
}

// TestChunkedStreamBringsWhatHasCome: a message of a stream in chunks, as members of etcd write them, does not wait for what follows
// it and comes slowly, in the same chunk or in the next.
func TestChunkedStreamBringsWhatHasCome(t *testing.T) {
	proposal := testmember.OfEachKind()["proposal"]
	proposal.Entries = []*raftpb.Entry{{Data: make([]byte, 3000)}}
	first, second := testmember.Frame(testmember.Encode(testmember.Heartbeat(1, 2, 5))), testmember.Frame(testmember.Encode(proposal))
	for name, tc := range map[string]struct{ head, now, later string }{
		"plain": {"", first + second[:100], second[100:]},
		"in chunks": {
			"Transfer-Encoding: chunked\r\n",
			fmt.Sprintf("%x\r\n%s\r\n%x\r\n%s", len(first), first, len(second), second[:100]), second[100:] + "\r\n",
		},
		"before the head of a chunk": {
			"Transfer-Encoding: chunked\r\n",
			fmt.Sprintf("%x\r\n%s\r\n%x", len(first), first, len(second)), "\r\n" + second + "\r\n",
		},
		"in one chunk": {
			"Transfer-Encoding: chunked\r\n",
			fmt.Sprintf("%x\r\n%s%s", len(first)+len(second), first, second[:100]), second[100:] + "\r\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
				ln, err := n.Host("m2").Listen("2380")
				require.NoError(t, err)
				ended, served := make(chan struct{}), make(chan struct{})
				server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					c, _, err := http.NewResponseController(w).Hijack()
					if err != nil {
						return
					}
					defer c.Close()
					if testmember.EndpointOf(r.URL.Path) != "message" {
						return
					}
					_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nX-Server-Version: 3.7.0\r\n"+tc.head+"\r\n"+tc.now)
					time.Sleep(testmember.ReadTimeout / 2)
					_, _ = io.WriteString(c, tc.later)
					<-ended
				})}
				go func() {
					defer close(served)
					_ = server.Serve(ln)
				}()
				a := testmember.StartSimulated(t, n, 1, nil)
				a.AddPeer(2, []string{testmember.URLOf(2)})
				time.Sleep(testmember.ReadTimeout / 4)
				got := len(a.Recorder.Received())
				time.Sleep(testmember.ReadTimeout / 2)
				all := len(a.Recorder.Received())
				close(ended)
				_ = server.Close()
				<-served
				require.Equal(t, 1, got, "what has come")
				require.Equal(t, 2, all, "and what came later")
			})
		})
	}
}
