package delivery_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/memnet"
)

// serveStatus answers one endpoint with a status and a header, and the others as
// a peer with the extension does that does not know who asks.
func serveStatus(t *testing.T, n *memnet.Network, id types.ID, endpoint string, status int, header http.Header) (asked <-chan struct{}) {
	t.Helper()
	ln, err := n.Host(testmember.HostOf(id)).Listen("2380")
	require.NoError(t, err)
	seen := make(chan struct{}, 1)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		switch is := testmember.EndpointOf(r.URL.Path); {
		case is == endpoint:
			select {
			case seen <- struct{}{}:
			default:
			}
			for name, values := range header {
				w.Header()[name] = values
			}
			w.WriteHeader(status)
		case is == "probing":
			w.Header().Set("X-Raft-Extensions", "snapshot-1")
		case is == "offset":
			w.Header().Set("X-Raft-Snapshot-Offset", "0")
			w.Header().Set("X-Raft-Snapshot-Checksum", "0")
			w.WriteHeader(http.StatusNoContent)
		case r.Method == http.MethodPost:
			w.WriteHeader(http.StatusNoContent)
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	})}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(ln)
	}()
	t.Cleanup(func() {
		_ = server.Close()
		<-served
	})
	return seen
}

// TestRemovalIsBelieved: a member takes itself for removed by the answers that the
// protocol gives this meaning, if they state our cluster. Whatever else a proxy, a
// wrong server or a member answers ends no server.
func TestRemovalIsBelieved(t *testing.T) {
	proof := http.Header{"X-Etcd-Cluster-Id": {testmember.ClusterID.String()}, "X-Server-Version": {"3.7.0"}}
	without := func(name, value string) http.Header {
		h := proof.Clone()
		if h.Del(name); value != "" {
			h.Set(name, value)
		}
		return h
	}
	headers := map[string]http.Header{
		"of our cluster":     proof,
		"of no cluster":      without("X-Etcd-Cluster-Id", ""),
		"of another cluster": without("X-Etcd-Cluster-Id", "bad"),
		"without a version":  without("X-Server-Version", ""),
		"of any web server":  {},
	}
	believed := map[string]map[string]int{ // by header and endpoint: the status that says it
		"of our cluster":    {"message": 410, "msgapp": 410, "post": 403, "snapshot": 403},
		"without a version": {"post": 403, "snapshot": 403},
	}
	for _, endpoint := range []string{"message", "msgapp", "post", "snapshot", "offset", "probing"} {
		for _, status := range []int{401, 403, 404, 410} {
			for name, header := range headers {
				t.Run(strings.Join([]string{endpoint, http.StatusText(status), name}, "/"), func(t *testing.T) {
					testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
						removed := make(chan error, 100)
						a := testmember.StartSimulated(t, n, 1, func(tr *rafthttp.Transport) { tr.ErrorC = removed })
						asked := serveStatus(t, n, 2, endpoint, status, header)
						a.AddPeer(2, []string{testmember.URLOf(2)})
						a.Send([]*raftpb.Message{testmember.Heartbeat(2, 1, 1)})
						m := testmember.NewSnapshot(&testmember.Database{Reader: http.NoBody}, 0)
						a.SendSnapshot(m)
						<-m.CloseNotify()
						time.Sleep(15 * time.Second)
						require.NotEmpty(t, asked)
						if want := believed[name][endpoint]; want == status {
							require.ErrorIs(t, <-removed, rafthttp.ErrMemberRemoved)
						} else {
							require.Empty(t, removed)
						}
					})
				})
			}
		}
	}
}
