package rafthttp_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/bubble"
	"github.com/seed-4d73690b/rafthttp/memnet"
	"github.com/seed-4d73690b/rafthttp/snap"
)

// ask has a member serve one request, without a server.
func ask(t *testing.T, m *rafthttp.Transport, method, path string, h http.Header, body io.Reader) *httptest.ResponseRecorder {
	t.Helper()
	r, w := httptest.NewRequestWithContext(t.Context(), method, path, body), httptest.NewRecorder()
	r.Header = h
	m.Handler().ServeHTTP(w, r)
	return w
}

// postOf is the body of a post of a message.
func postOf(t *testing.T, m *raftpb.Message) io.Reader { return bytes.NewReader(marshal(t, m)) }

// startTalker runs a member whose streams a test writes by hand: what is said goes
// to whoever reads the stream.
func startTalker(t *testing.T, n *memnet.Network, id types.ID) (say func(kind string, m *raftpb.Message)) {
	t.Helper()
	ln, err := n.Host(hostOf(id)).Listen("2380")
	require.NoError(t, err)
	said := map[string]chan string{"message": make(chan string), "msgapp": make(chan string)}
	ended := make(chan struct{})
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		frames := said[endpointOf(r.URL.Path)]
		if frames == nil {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("X-Server-Version", "3.7.0")
		w.WriteHeader(http.StatusOK)
		for {
			_ = http.NewResponseController(w).Flush()
			select {
			case f := <-frames:
				_, _ = io.WriteString(w, f)
			case <-ended:
				return
			case <-r.Context().Done():
				return
			}
		}
	})}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(ln)
	}()
	t.Cleanup(func() {
		close(ended)
		_ = server.Close()
		<-served
	})
	return func(kind string, m *raftpb.Message) {
		frame := framed(encoded(m))
		if kind == "msgapp" {
			frame = "\x02" + frame
		}
		said[kind] <- frame
	}
}

// TestPostForAnother: what was meant for another member, because of a wrong
// address, is not processed, not saved, and no sign of a removal.
func TestPostForAnother(t *testing.T) {
	var saved atomic.Int32
	removed := func(id uint64) bool { return id == 3 }
	a := startMember(t, 1, receives(saver(func(r io.Reader, _ uint64) (int64, error) {
		saved.Add(1)
		return io.Copy(io.Discard, r)
	})))
	a.raft.removed = removed
	to := func(m *raftpb.Message, id uint64) *raftpb.Message {
		m.To = new(id)
		return m
	}
	for _, id := range []uint64{2, 3, 1 << 63} {
		for _, from := range []types.ID{2, 3} { // 3 was removed, and must not learn it from a stranger
			h := peerHeader(map[string]string{"X-Server-From": from.String()})
			post := ask(t, a.Transport, "POST", "/raft", h, postOf(t, to(heartbeat(1, from, 1), id)))
			require.Equal(t, 412, post.Code)
			require.Equal(t, "to field mismatch\n", post.Body.String())
			sent := ask(t, a.Transport, "POST", "/raft/snapshot", h, snapshotBody(t, to(msgSnap(1, from, 7), id), "db"))
			require.Equal(t, 412, sent.Code)
			require.Equal(t, "to field mismatch\n", sent.Body.String())
		}
	}
	require.Empty(t, a.raft.received())
	require.Zero(t, saved.Load())
	for _, id := range []uint64{0, 1} {
		require.Equal(t, 204, ask(t, a.Transport, "POST", "/raft", peerHeader(nil), postOf(t, to(heartbeat(1, 2, 1), id))).Code)
		require.Equal(t, 204, ask(t, a.Transport, "POST", "/raft/snapshot", peerHeader(nil), snapshotBody(t, to(msgSnap(1, 2, 7), id), "db")).Code)
	}
	require.Len(t, a.raft.received(), 4)
	require.EqualValues(t, 2, saved.Load())
}

// TestStreamMessageForAnother: the same on streams, where the message is dropped
// and counted, and the stream goes on.
func TestStreamMessageForAnother(t *testing.T) {
	for kind, lane := range map[string]string{"message": "control", "msgapp": "append"} {
		t.Run(kind, func(t *testing.T) {
			simulate(t, func(t *testing.T, n *memnet.Network) {
				logs, lines := logged(zap.NewAtomicLevelAt(zap.WarnLevel))
				dropped := make(chan error, 10)
				a := startSimulated(t, n, 1, tuned(logs, func(tr *rafthttp.Transport) {
					tr.Observer = &rafthttp.Observer{Dropped: func(_ types.ID, name string, n int, cause error) {
						for range n { // told together
							if name == lane {
								dropped <- cause
							}
						}
					}}
				}))
				say := startTalker(t, n, 2)
				a.AddPeer(2, []string{urlOf(2)})
				message := func(to types.ID, index uint64) *raftpb.Message {
					if kind == "msgapp" {
						m := msgApp(to, 2, index, nil)
						m.Context = []byte("a whole message")
						return m
					}
					return heartbeat(to, 2, index)
				}
				for i, to := range []types.ID{1, 3, 0, 3, 1} {
					say(kind, message(to, uint64(i)))
				}
				synctest.Wait()
				var got []uint64
				for _, m := range a.raft.received() {
					got = append(got, m.GetCommit())
				}
				require.Equal(t, []uint64{0, 2, 4}, got)
				require.EqualValues(t, 2, laneOf(a, 2, lane).Drops.Refused)
				require.ErrorIs(t, <-dropped, rafthttp.ErrToMismatch)
				require.Equal(t, 1, lines.FilterMessageSnippet("refused a message").Len())
				require.Zero(t, a.Status().Refused, "nobody claimed to be another")
			})
		})
	}
}

// TestWrongAddress: member 2 has the address of member 4 for member 3, beside the
// right one or instead of it. 4 is not harmed, and 3 is reached as soon as its own
// address is tried.
func TestWrongAddress(t *testing.T) {
	for _, alsoRight := range []bool{false, true} {
		t.Run(map[bool]string{false: "instead of the right one", true: "beside the right one"}[alsoRight], func(t *testing.T) {
			simulate(t, func(t *testing.T, n *memnet.Network) {
				removed := make(chan error, 1)
				sender := startSimulated(t, n, 2, func(tr *rafthttp.Transport) { tr.ErrorC = removed })
				saved := make(chan uint64, 10)
				right, wrong := startSimulated(t, n, 3, receives(savesAll)), startSimulated(t, n, 4, receives(saver(func(r io.Reader, id uint64) (int64, error) {
					saved <- id
					return io.Copy(io.Discard, r)
				})))
				urls := []string{wrong.url}
				if alsoRight {
					urls = append(urls, right.url)
				}
				sender.AddPeer(3, urls)
				wrong.AddPeer(2, []string{sender.url})
				right.raft.process = func(_ context.Context, m *raftpb.Message) error {
					if m.GetTo() != 3 {
						t.Errorf("%v", m)
					}
					right.raft.keep(m)
					return nil
				}
				for i := range uint64(150) {
					sender.Send([]*raftpb.Message{heartbeat(3, 2, i), message(raftpb.MsgSnap, 3)})
					time.Sleep(20 * time.Millisecond)
				}
				m := snapshotTo(3)
				sender.SendSnapshot(m)
				ok := <-m.CloseNotify()
				time.Sleep(time.Second)
				require.Empty(t, wrong.raft.received())
				require.Empty(t, saved)
				require.Empty(t, removed)
				if alsoRight {
					require.NotEmpty(t, right.raft.received())
				} else {
					require.False(t, ok)
					require.NotContains(t, sender.raft.snapshotReports(), raft.SnapshotFinish)
				}
				require.NotZero(t, sender.raft.unreachables(3))
			})
		})
	}
}

// TestKeptConnectionOfARevokedMember: a connection that is never idle is worth
// nothing after the revocation, though it was made before, whatever is asked on it.
func TestKeptConnectionOfARevokedMember(t *testing.T) {
	post := func(t *testing.T) io.Reader { return bytes.NewReader(marshal(t, heartbeat(1, 2, 1))) }
	snapshot := func(t *testing.T) io.Reader { return snapshotBody(t, msgSnap(1, 2, 7), "db") }
	nothing := func(*testing.T) io.Reader { return nil }
	question := map[string]string{"X-Raft-Snapshot-Term": "1", "X-Raft-Snapshot-Index": "7", "X-Raft-Snapshot-Size": "2"}
	other := map[string]string{"X-Raft-To": "9"} // so that the connection is kept
	tests := []struct {
		method, path    string
		header          map[string]string
		body            func(*testing.T) io.Reader
		before, revoked int
	}{
		{"POST", "/raft", nil, post, 204, 401},
		{"POST", "/raft/snapshot", nil, snapshot, 204, 401},
		{"GET", "/raft/snapshot/offset", question, nothing, 204, 401},
		{"GET", messagePath, other, nothing, 412, 403},
		{"GET", msgappPath, other, nothing, 412, 403},
		{"GET", "/raft/probing", nil, nothing, 200, 401},
	}
	for _, tc := range tests {
		t.Run(strings.ReplaceAll(tc.path[1:], "/", " "), func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				ca := newAuthority(t)
				store, err := snap.Open(t.TempDir())
				require.NoError(t, err)
				s, all, certs := startAll(t, ca, receives(store))
				info := s.info(2)
				cfg, err := info.ClientConfig()
				require.NoError(t, err)
				tr := &http.Transport{TLSClientConfig: cfg, DialContext: s.net.Host(hostOf(2)).DialContext}
				defer tr.CloseIdleConnections()
				ask := func() (code int) {
					req, err := http.NewRequestWithContext(t.Context(), tc.method, all[0].url+tc.path, tc.body(t))
					require.NoError(t, err)
					req.Header = peerHeader(tc.header)
					resp, err := tr.RoundTrip(req)
					if err != nil {
						return 0
					}
					defer resp.Body.Close()
					_, _ = io.Copy(io.Discard, resp.Body)
					return resp.StatusCode
				}
				for range 30 {
					time.Sleep(time.Second)
					require.Equal(t, tc.before, ask())
				}
				taken := len(all[0].raft.received())
				s.revoke(1, ca, certs[1])
				var code int
				for start := time.Now(); time.Since(start) < recheck+time.Second; time.Sleep(time.Second) {
					if code = ask(); code != tc.before {
						break
					}
					if tc.method == "POST" {
						taken++
					}
				}
				require.Equal(t, tc.revoked, code)
				require.Len(t, all[0].raft.received(), taken)
				time.Sleep(time.Second)
				require.Zero(t, ask(), "nor is there another connection")
			})
		})
	}
}
