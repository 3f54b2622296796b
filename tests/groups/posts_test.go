package groups_test

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/queue"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/memnet"
)

// held is a body that waits before its end.
type held struct {
	rest io.Reader
	end  <-chan struct{}
}

// Read implements io.Reader.
func (h held) Read(b []byte) (int, error) {
	n, err := h.rest.Read(b)
	if err == io.EOF {
		<-h.end
		return 0, io.ErrUnexpectedEOF
	}
	return n, err
}

// TestMemoryOfPostsOfGroups: POSTs that are read together are limited in memory, and leave nothing behind.
func TestMemoryOfPostsOfGroups(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		m := testmember.StartSimulated(t, n, 1, func(tr *rafthttp.Transport) { tr.MaxQueuedBytes = 16 << 20 })
		_, err := m.Group(1, rafthttp.GroupConfig{Raft: &testmember.Recorder{}})
		require.NoError(t, err)
		body := batch(t, 77, testmember.MsgApp(1, 2, 1, make([]byte, 32<<20)))
		before := testmember.HeapBytes()
		for range 2 { // the first ones leave as much room as there was
			codes, end := make(chan int, 10), make(chan struct{})
			for range 10 {
				go func() {
					codes <- postBody(t, m, held{bytes.NewReader(body[:len(body)-10]), end}, int64(len(body)))
				}()
				synctest.Wait()
			}
			require.Len(t, codes, 9)
			require.Less(t, testmember.HeapBytes()-before, int64(80<<20), "one of them, in a buffer that grows")
			close(end)
			synctest.Wait()
			for range 9 {
				require.Equal(t, http.StatusServiceUnavailable, <-codes)
			}
			require.Equal(t, http.StatusBadRequest, <-codes)
		}
		code, _ := postGroups(t, m, body)
		require.Equal(t, http.StatusOK, code)
	})
}

// TestMemoryOfAPostIsFreed: a message that is in an inbox is not counted with the rest of its POST.
func TestMemoryOfAPostIsFreed(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		m := testmember.StartSimulated(t, n, 1, func(tr *rafthttp.Transport) { tr.MaxQueuedBytes = 16 << 20 })
		_, err := m.Group(1, rafthttp.GroupConfig{Raft: &testmember.Recorder{}})
		require.NoError(t, err)
		body, end := batch(t, 1, testmember.MsgApp(1, 2, 1, make([]byte, 32<<20))), make(chan struct{})
		codes := make(chan int, 1)
		go func() { codes <- postBody(t, m, held{bytes.NewReader(body), end}, int64(len(body)+1)) }()
		synctest.Wait()
		code, _ := postGroups(t, m, body)
		require.Equal(t, http.StatusOK, code)
		close(end)
		require.Equal(t, http.StatusBadRequest, <-codes)
	})
}

// postBody posts a body to /raft/groups as a member that is not a node; length is below 0 if it is not declared.
func postBody(t *testing.T, m *testmember.Member, body io.Reader, length int64) int {
	t.Helper()
	r, w := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/raft/groups", body), httptest.NewRecorder()
	r.Header, r.ContentLength = testmember.PeerHeader(nil), length
	m.Handler().ServeHTTP(w, r)
	return w.Code
}

// drip is a body without an end that gives some bytes at a time.
type drip struct{ some []byte }

// Read implements io.Reader.
func (d drip) Read(b []byte) (int, error) {
	time.Sleep(time.Second / 10)
	return copy(b, d.some), nil
}

// TestPostsEnd: a POST ends in the end, whatever it has.
func TestPostsEnd(t *testing.T) {
	for name, some := range map[string][]byte{
		"link heartbeats": make([]byte, 4000),
		"slots":           bytes.Repeat(numbers(1, 7, 1, 2, 1), 800),
		"refusals":        bytes.Repeat(numbers(7, 7, 1, 2, 1), 800),
	} {
		t.Run(name, func(t *testing.T) {
			testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
				m := startNode(t, n, 1)
				join(t, m, 1, nil)
				codes := make(chan int, 1)
				go func() { codes <- postBody(t, m, drip{some}, -1) }()
				time.Sleep(10 * time.Minute)
				ended := len(codes)
				m.Stop()
				require.Equal(t, 1, ended)
				require.Equal(t, http.StatusBadRequest, <-codes)
			})
		})
	}
}

// TestLongPost: a body that is declared to be longer than any POST is not read.
func TestLongPost(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		m := startNode(t, n, 1)
		join(t, m, 1, nil)
		require.Equal(t, http.StatusBadRequest, postBody(t, m, iotest.ErrReader(http.ErrAbortHandler), 513<<20+2<<20))
		require.Equal(t, http.StatusOK, postBody(t, m, bytes.NewReader(make([]byte, 4096)), 4096))
	})
}

// TestSlowAnswerAboutStrangers: while the application does not say whether a replica was removed, the other groups of the same POST
// get their messages, and Stop of the group waits, up to a second.
func TestSlowAnswerAboutStrangers(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		m := startNode(t, n, 1)
		slow, other := join(t, m, 1, nil), join(t, m, 2, nil)
		release := make(chan struct{})
		slow.raft.Removed = func(uint64) bool { <-release; return true }
		codes := make(chan int, 1)
		body := append(batch(t, 1, testmember.MsgApp(1, 2, 1, nil)), batch(t, 2, testmember.MsgApp(1, 2, 1, nil))...)
		go func() { codes <- postBody(t, m, bytes.NewReader(body), int64(len(body))) }()
		time.Sleep(time.Second)
		got, answered := len(other.raft.Received()), len(codes)
		var stopped atomic.Bool
		go func() { slow.Stop(); stopped.Store(true) }()
		time.Sleep(time.Second / 2)
		early := stopped.Load()
		close(release)
		time.Sleep(time.Second)
		require.Equal(t, 1, got)
		require.Equal(t, 1, answered)
		require.False(t, early)
		require.True(t, stopped.Load())
	})
}

// TestControlMessagesBesidePostsOfAppends: while POSTs with appends or proposals are under way, control messages are posted.
func TestControlMessagesBesidePostsOfAppends(t *testing.T) {
	for _, k := range []queue.Kind{queue.Append, queue.Proposal} {
		t.Run(k.String(), func(t *testing.T) {
			testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
				var posts atomic.Int32
				hold := make(chan struct{})
				answering(t, n, nil, func() {
					if posts.Add(1) <= 4 {
						<-hold
					}
				})
				ma := startNode(t, n, 1)
				a, b := join(t, ma, 1, nil), join(t, ma, 2, nil)
				a.AddPeer(2, []string{testmember.URLOf(2)})
				b.AddPeer(2, []string{testmember.URLOf(2)})
				time.Sleep(time.Second)
				for i := range uint64(4) {
					a.Send([]*raftpb.Message{ofKind(k, i, 1000)})
					time.Sleep(100 * time.Millisecond)
				}
				b.Send([]*raftpb.Message{testmember.Heartbeat(2, 1, 1)})
				time.Sleep(3 * time.Second)
				got := posts.Load()
				close(hold)
				if got != 5 {
					t.Errorf("%d POSTs in three seconds: the heartbeat of another group waits", got)
				}
			})
		})
	}
}
