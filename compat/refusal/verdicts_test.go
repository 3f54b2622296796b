package refusal_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/compat/member"
	"github.com/seed-4d73690b/rafthttp/compat/v36/drive"
)

// script is what a peer answers on one lane; on the others it answers as a peer does that has just started.
type script struct {
	status  int // 0: the connection is closed without an answer
	body    string
	version string // X-Server-Version
	cluster string // X-Etcd-Cluster-ID
}

func (s script) String() string {
	return fmt.Sprintf("%d %q from version %q in cluster %q", s.status, s.body, s.version, s.cluster)
}

const good = "3.7.0"

// scripts are the answers that a stock member gives, and others that any HTTP server might.
func scripts() []script {
	all := []script{{0, "", "", ""}}
	for _, status := range []int{200, 204, 301, 400, 401, 403, 404, 405, 410, 412, 413, 429, 500, 501, 502, 503} {
		all = append(all, script{status, "", good, "1000"}, script{status, "some text\n", good, "1000"})
	}
	for _, body := range []string{"incompatible version", "incompatible version\n", "cluster ID mismatch", "cluster ID mismatch\n", "to field mismatch\n"} {
		all = append(all, script{412, body, good, "1000"}, script{412, body, good, "2000"}, script{412, body, "", "1000"})
	}
	for _, status := range []int{200, 404, 410, 412} {
		for _, version := range []string{"", "2.0.0", "2.1.0", "3.0.0", "3.8.0", "4.0.0"} {
			all = append(all, script{status, "", version, "1000"})
		}
		all = append(all, script{status, "", good, ""}, script{status, "", good, "2000"})
	}
	return append(all, script{403, "Forbidden\n", "", ""})
}

// verdict is what a member makes of a script.
type verdict struct {
	Errors      []string // out of ErrorC, each once
	Again       bool     // the stream is dialled again
	Active      bool     // the peer counts as active
	Unreachable bool     // the peer was reported so
	Snapshot    string   // what was reported of the snapshot
	Closed      string   // what CloseNotify got
}

// scripted is a peer that follows a script.
type scripted struct {
	*httptest.Server
	mu    sync.Mutex
	asked int // requests on the lane
	stop  chan struct{}
}

func follow(t *testing.T, lane string, s script) *scripted {
	t.Helper()
	p := &scripted{stop: make(chan struct{})}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		isStream := strings.HasPrefix(r.URL.Path, "/raft/stream")
		isLane := map[string]bool{"stream": isStream, "pipeline": r.URL.Path == "/raft", "snapshot": r.URL.Path == "/raft/snapshot"}[lane]
		if !isLane {
			w.Header().Set("X-Server-Version", good)
			w.WriteHeader(map[bool]int{true: 404, false: 204}[isStream])
			return
		}
		p.mu.Lock()
		p.asked++
		p.mu.Unlock()
		p.answer(w, r, s, isStream)
	}))
	t.Cleanup(func() { close(p.stop); p.Close() })
	return p
}

func (p *scripted) answer(w http.ResponseWriter, r *http.Request, s script, isStream bool) {
	if s.status == 0 {
		panic(http.ErrAbortHandler)
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if s.version != "" {
		w.Header().Set("X-Server-Version", s.version)
	}
	if s.cluster != "" {
		w.Header().Set("X-Etcd-Cluster-ID", s.cluster)
	}
	if s.status == 301 {
		w.Header().Set("Location", "/elsewhere")
	}
	w.WriteHeader(s.status)
	if s.status == 200 && isStream {
		_, _ = io.WriteString(w, linkHeartbeat(r.URL.Path)) // ours takes nobody for active who says nothing
		w.(http.Flusher).Flush()
		select {
		case <-r.Context().Done():
		case <-p.stop:
		}
		return
	}
	_, _ = io.WriteString(w, s.body)
}

// linkHeartbeat is the first frame of a stream.
func linkHeartbeat(path string) string {
	if strings.Contains(path, "/msgapp/") {
		return "\x00\x00\x00\x00\x00\x00\x00\x00"
	}
	return "\x00\x00\x00\x00\x00\x00\x00\x02\x08\x08" // a MsgHeartbeat with neither From nor To
}

func (p *scripted) times() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.asked
}

// judge lets a member of the kind meet the script and returns what it makes of it.
func judge(t *testing.T, kind member.Kind, lane string, s script) (v verdict) {
	t.Helper()
	recorder := new(member.Recorder)
	m, err := member.Start(kind, member.Config{ID: 1, Cluster: cluster, Dir: t.TempDir(), Raft: recorder, Failed: recorder.Fail})
	require.NoError(t, err)
	t.Cleanup(m.Stop)
	peer := follow(t, lane, s)
	m.AddPeer(2, peer.URL)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	switch lane {
	case "stream":
		// Two streams, and each again; a stream that is up is not dialled again.
		v.Again = assert.Eventually(new(assert.CollectT), func() bool {
			return peer.times() > 4 || !m.Look(2).ActiveSince.IsZero()
		}, 12*time.Second, 5*time.Millisecond) && m.Look(2).ActiveSince.IsZero()
	case "pipeline":
		m.Send(toPeer(heartbeat()))
		require.Eventually(t, func() bool { return peer.times() > 0 }, 20*time.Second, 5*time.Millisecond)
		if s.status != http.StatusNoContent {
			require.NoError(t, recorder.Wait(ctx, func(s *member.Seen) bool { return s.Unreachable[2] > 0 }))
		}
	case "snapshot":
		closed := m.SendSnapshot(toPeer(snap()), member.Source{Generated: drive.Database{Size: 100}})
		v.Closed = fmt.Sprint(<-closed)
		require.NoError(t, recorder.Wait(ctx, func(s *member.Seen) bool { return len(s.Snapshots) > 0 }))
	}
	// What else comes of it comes soon after.
	settle, stop := context.WithTimeout(ctx, 300*time.Millisecond)
	defer stop()
	_ = recorder.Wait(settle, func(*member.Seen) bool { return false })
	v.Active = !m.Look(2).ActiveSince.IsZero()
	recorder.Look(func(s *member.Seen) {
		for _, err := range s.Errors {
			v.Errors = append(v.Errors, err.Error())
		}
		v.Unreachable = s.Unreachable[2] > 0
		if len(s.Snapshots) > 0 {
			v.Snapshot = map[raft.SnapshotStatus]string{raft.SnapshotFinish: "finish", raft.SnapshotFailure: "failure"}[s.Snapshots[0].Status]
		}
	})
	v.Errors = slices.Compact(v.Errors)
	return v
}

// toPeer turns a message of member 2 to member 1 round.
func toPeer(m *raftpb.Message) *raftpb.Message {
	m.From, m.To = m.To, m.From
	return m
}

// verdictDeviations are where ours makes something else of an answer on purpose, in the form of the table in README.md.
var verdictDeviations = []struct {
	what, why string
	names     string
	alter     func(v *verdict) // makes ours of upstream's
}{
	{
		what:  "a stream in a version that is not spoken is closed, and dialled again",
		why:   "upstream reads it to its end first, so that one which does not end is never dialled again",
		names: `^stream/200 .* from version "(|2\.0\.0)"`,
		alter: func(v *verdict) { v.Again = true },
	},
	{
		what:  "a peer that took a post counts as active for the read timeout, although it refuses streams",
		why:   "upstream's verdict flips with every post and every dial; what has just been delivered counts",
		names: `^(pipeline|snapshot)/204 `,
		alter: func(v *verdict) { v.Active = true },
	},
	{
		what:  "an answer that states no cluster, or another one, says of nobody that he was removed",
		why:   "a proxy's 403 must not stop a healthy member; every member states its cluster",
		names: `^(stream/410|pipeline/403|snapshot/403) .* in cluster "(|2000)"$`,
		alter: func(v *verdict) { v.Errors = nil },
	},
}

// TestVerdicts: of the same answers ours and upstream make the same, except for the deviations.
func TestVerdicts(t *testing.T) {
	for _, lane := range []string{"stream", "pipeline", "snapshot"} {
		for _, s := range scripts() {
			name := lane + "/" + s.String()
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				want, got := judge(t, member.Stock37, lane, s), judge(t, member.Ours, lane, s)
				for _, d := range verdictDeviations {
					if regexp.MustCompile(d.names).MatchString(name) {
						d.alter(&want)
					}
				}
				require.Equal(t, want, got)
			})
		}
	}
}
