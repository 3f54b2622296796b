package golden_test

import (
	"bytes"
	"cmp"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"path"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/seed-4d73690b/rafthttp/compat/golden"
	"github.com/seed-4d73690b/rafthttp/compat/member"
	"github.com/seed-4d73690b/rafthttp/compat/traffic"
)

// TestEveryMakeReadsTheVectors plays every vector to a member of every make; its raft must be told what the vector's
// description says, message by message.
func TestEveryMakeReadsTheVectors(t *testing.T) {
	for _, version := range golden.Versions {
		vectors, err := golden.Read("../../internal/wire/testdata/golden/captured/" + version.Dir)
		require.NoError(t, err)
		require.NotEmpty(t, vectors)
		for _, kind := range []member.Kind{member.Stock37, member.Stock36, member.Ours} {
			for _, v := range vectors {
				t.Run(version.Dir+"/"+string(kind)+"/"+v.Name, func(t *testing.T) {
					t.Parallel()
					replay(t, kind, v)
				})
			}
		}
	}
}

func replay(t *testing.T, kind member.Kind, v *golden.Vector) {
	recorder := new(member.Recorder)
	m, err := member.Start(kind, member.Config{ID: golden.To, Cluster: golden.Cluster, Dir: t.TempDir(), Raft: recorder})
	require.NoError(t, err)
	t.Cleanup(m.Stop)
	want := messages(t, v)
	switch v.Kind {
	case golden.MessageStream, golden.AppendStream:
		serveStream(t, m, v)
	case golden.Posts:
		for i, r := range v.Records {
			status := http.StatusNoContent
			if kind == member.Ours && len(traffic.TakenByOurs(want[i:i+1])) == 0 {
				status = http.StatusUnauthorized
			}
			post(t, m.URL()+"/raft", v.Bytes[r.Offset:r.Offset+r.Size], status)
		}
	case golden.SnapshotPost:
		post(t, m.URL()+"/raft/snapshot", v.Bytes, http.StatusNoContent)
	}
	if kind == member.Ours {
		want = traffic.TakenByOurs(want)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	require.NoError(t, recorder.Wait(ctx, func(s *member.Seen) bool { return len(s.Messages) >= len(want) }))
	m.Stop()
	recorder.Look(func(s *member.Seen) { requireSame(t, kind, want, s.Messages) })
}

// requireSame compares what was told with what was written, in order within every lane. Etcd 3.6 cannot tell a zero from a
// field not set.
func requireSame(t *testing.T, kind member.Kind, want, got []*raftpb.Message) {
	t.Helper()
	require.Len(t, got, len(want))
	for _, all := range [][]*raftpb.Message{want, got} {
		slices.SortStableFunc(all, func(a, b *raftpb.Message) int { return cmp.Compare(traffic.Lane(a), traffic.Lane(b)) })
	}
	for i, w := range want {
		g := got[i]
		if kind == member.Stock36 {
			w, g = traffic.Normal(w), traffic.Normal(g)
		}
		require.Truef(t, proto.Equal(w, g), "message %d: want %v\ngot %v", i, w, g)
	}
}

// messages returns what raft is told of v: all but the link heartbeats.
func messages(t *testing.T, v *golden.Vector) []*raftpb.Message {
	t.Helper()
	var all []*raftpb.Message
	for _, r := range v.Records {
		if !r.LinkHeartbeat {
			m, err := r.Decoded()
			require.NoError(t, err)
			all = append(all, m)
		}
	}
	return all
}

// serveStream makes the vector the stream that m reads: of its kind once, and none else.
func serveStream(t *testing.T, m member.Member, v *golden.Vector) {
	t.Helper()
	name := map[golden.Kind]string{golden.MessageStream: "message", golden.AppendStream: "msgapp"}[v.Kind]
	served := make(chan struct{}, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Etcd-Cluster-ID", types.ID(golden.Cluster).String())
		w.Header().Set("X-Server-Version", "3.7.0")
		select {
		case served <- struct{}{}:
		default:
			http.NotFound(w, r)
			return
		}
		if path.Base(path.Dir(r.URL.Path)) != name {
			<-served
			http.NotFound(w, r)
			return
		}
		w.WriteHeader(http.StatusOK)
		_, _ = w.Write(v.Bytes)
		w.(http.Flusher).Flush()
		<-r.Context().Done() // the reader stops
	}))
	t.Cleanup(server.Close)
	t.Cleanup(m.Stop)
	m.AddPeer(golden.From, server.URL)
}

func post(t *testing.T, url string, body []byte, status int) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, bytes.NewReader(body))
	require.NoError(t, err)
	r.Header.Set("X-Server-From", types.ID(golden.From).String())
	r.Header.Set("X-Server-Version", "3.7.0")
	r.Header.Set("X-Min-Cluster-Version", "3.0.0")
	r.Header.Set("X-Etcd-Cluster-ID", types.ID(golden.Cluster).String())
	resp, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, status, resp.StatusCode, strconv.Quote(string(answer)))
}
