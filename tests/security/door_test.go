package security_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
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
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/internal/testtls"
	"github.com/seed-4d73690b/rafthttp/memnet"
	"github.com/seed-4d73690b/rafthttp/snap"
)

// TestPostForAnother: what was meant for another member, because of a wrong
// address, is not processed, not saved, and no sign of a removal.
func TestPostForAnother(t *testing.T) {
	var saved atomic.Int32
	removed := func(id uint64) bool { return id == 3 }
	a := testmember.Start(t, 1, testmember.Receives(testmember.Saver(func(r io.Reader, _ uint64) (int64, error) {
		saved.Add(1)
		return io.Copy(io.Discard, r)
	})))
	a.Recorder.Removed = removed
	to := func(m *raftpb.Message, id uint64) *raftpb.Message {
		m.To = new(id)
		return m
	}
	for _, id := range []uint64{2, 3, 1 << 63} {
		for _, from := range []types.ID{2, 3} { // 3 was removed, and must not learn it from a stranger
			h := testmember.PeerHeader(map[string]string{"X-Server-From": from.String()})
			post := testmember.Ask(t, a.Transport, "POST", "/raft", h, testmember.PostBody(t, to(testmember.Heartbeat(1, from, 1), id)))
			require.Equal(t, 412, post.Code)
			require.Equal(t, "to field mismatch\n", post.Body.String())
			sent := testmember.Ask(t, a.Transport, "POST", "/raft/snapshot", h, testmember.SnapshotBody(t, to(testmember.MsgSnap(1, from, 7), id), "db"))
			require.Equal(t, 412, sent.Code)
			require.Equal(t, "to field mismatch\n", sent.Body.String())
		}
	}
	require.Empty(t, a.Recorder.Received())
	require.Zero(t, saved.Load())
	for _, id := range []uint64{0, 1} {
		require.Equal(t, 204, testmember.Ask(t, a.Transport, "POST", "/raft", testmember.PeerHeader(nil), testmember.PostBody(t, to(testmember.Heartbeat(1, 2, 1), id))).Code)
		require.Equal(t, 204, testmember.Ask(t, a.Transport, "POST", "/raft/snapshot", testmember.PeerHeader(nil), testmember.SnapshotBody(t, to(testmember.MsgSnap(1, 2, 7), id), "db")).Code)
	}
	require.Len(t, a.Recorder.Received(), 4)
	require.EqualValues(t, 2, saved.Load())
}

// TestStreamMessageForAnother: the same on streams, where the message is dropped
// and counted, and the stream goes on.
func TestStreamMessageForAnother(t *testing.T) {
	for kind, lane := range map[string]string{"message": "control", "msgapp": "append"} {
		t.Run(kind, func(t *testing.T) {
			testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
				logs, lines := testmember.Logged(zap.NewAtomicLevelAt(zap.WarnLevel))
				dropped := make(chan error, 10)
				a := testmember.StartSimulated(t, n, 1, testmember.Tuned(logs, func(tr *rafthttp.Transport) {
					tr.Observer = &rafthttp.Observer{Dropped: func(_ types.ID, name string, n int, cause error) {
						for range n { // told together
							if name == lane {
								dropped <- cause
							}
						}
					}}
				}))
				say := testmember.StartTalker(t, n, 2)
				a.AddPeer(2, []string{testmember.URLOf(2)})
				message := func(to types.ID, index uint64) *raftpb.Message {
					if kind == "msgapp" {
						m := testmember.MsgApp(to, 2, index, nil)
						m.Context = []byte("a whole message")
						return m
					}
					return testmember.Heartbeat(to, 2, index)
				}
				for i, to := range []types.ID{1, 3, 0, 3, 1} {
					say(kind, message(to, uint64(i)))
				}
				synctest.Wait()
				var got []uint64
				for _, m := range a.Recorder.Received() {
					got = append(got, m.GetCommit())
				}
				require.Equal(t, []uint64{0, 2, 4}, got)
				require.EqualValues(t, 2, testmember.LaneOf(a, 2, lane).Drops.Refused)
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
			testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
				removed := make(chan error, 1)
				sender := testmember.StartSimulated(t, n, 2, func(tr *rafthttp.Transport) { tr.ErrorC = removed })
				saved := make(chan uint64, 10)
				right, wrong := testmember.StartSimulated(t, n, 3, testmember.Receives(testmember.SavesAll)), testmember.StartSimulated(t, n, 4, testmember.Receives(testmember.Saver(func(r io.Reader, id uint64) (int64, error) {
					saved <- id
					return io.Copy(io.Discard, r)
				})))
				urls := []string{wrong.URL}
				if alsoRight {
					urls = append(urls, right.URL)
				}
				sender.AddPeer(3, urls)
				wrong.AddPeer(2, []string{sender.URL})
				right.Recorder.OnProcess = func(_ context.Context, m *raftpb.Message) error {
					if m.GetTo() != 3 {
						t.Errorf("%v", m)
					}
					right.Recorder.Keep(m)
					return nil
				}
				for i := range uint64(150) {
					sender.Send([]*raftpb.Message{testmember.Heartbeat(3, 2, i), testmember.Message(raftpb.MsgSnap, 3)})
					time.Sleep(20 * time.Millisecond)
				}
				m := testmember.SnapshotTo(3)
				sender.SendSnapshot(m)
				ok := <-m.CloseNotify()
				time.Sleep(time.Second)
				require.Empty(t, wrong.Recorder.Received())
				require.Empty(t, saved)
				require.Empty(t, removed)
				if alsoRight {
					require.NotEmpty(t, right.Recorder.Received())
				} else {
					require.False(t, ok)
					require.NotContains(t, sender.Recorder.SnapshotReports(), raft.SnapshotFinish)
				}
				require.NotZero(t, sender.Recorder.Unreachables(3))
			})
		})
	}
}

// TestKeptConnectionOfARevokedMember: a connection that is never idle is worth
// nothing after the revocation, though it was made before, whatever is asked on it.
func TestKeptConnectionOfARevokedMember(t *testing.T) {
	post := func(t *testing.T) io.Reader {
		return bytes.NewReader(testmember.Marshal(t, testmember.Heartbeat(1, 2, 1)))
	}
	snapshot := func(t *testing.T) io.Reader { return testmember.SnapshotBody(t, testmember.MsgSnap(1, 2, 7), "db") }
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
				ca := testtls.NewAuthority(t)
				store, err := snap.Open(t.TempDir())
				require.NoError(t, err)
				s, all, certs := testtls.StartAll(t, ca, testmember.Receives(store))
				info := s.Info(2)
				cfg, err := info.ClientConfig()
				require.NoError(t, err)
				tr := &http.Transport{TLSClientConfig: cfg, DialContext: s.Net.Host(testmember.HostOf(2)).DialContext}
				defer tr.CloseIdleConnections()
				ask := func() (code int) {
					req, err := http.NewRequestWithContext(t.Context(), tc.method, all[0].URL+tc.path, tc.body(t))
					require.NoError(t, err)
					req.Header = testmember.PeerHeader(tc.header)
					resp, err := tr.RoundTrip(req)
					if err != nil {
						return 0
					}
					defer resp.Body.Close()
					_, _ = io.Copy(io.Discard, resp.Body)
					return resp.StatusCode
				}
				time.Sleep(time.Second / 2) // not at the instants at which snapshots are cut
				for range 30 {
					time.Sleep(time.Second)
					require.Equal(t, tc.before, ask())
				}
				taken := len(all[0].Recorder.Received())
				s.Revoke(1, ca, certs[1])
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
				require.Len(t, all[0].Recorder.Received(), taken)
				time.Sleep(time.Second)
				require.Zero(t, ask(), "nor is there another connection")
			})
		})
	}
}
