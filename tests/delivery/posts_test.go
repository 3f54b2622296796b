package delivery_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/memnet"
)

// beginPost connects as a member and sends a request's head and the beginning of
// its body.
func beginPost(t *testing.T, n *memnet.Network, m *testmember.Member, from string, length int, body []byte) net.Conn {
	t.Helper()
	c, err := n.Host("x").DialContext(t.Context(), "tcp", testmember.HostOf(m.ID)+":2380")
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	_, err = io.WriteString(c, testmember.RequestHead("POST", "/raft", testmember.PeerHeader(map[string]string{"X-Server-From": from}), length))
	require.NoError(t, err)
	_, err = c.Write(body)
	require.NoError(t, err)
	return c
}

// TestPostsAreBounded: 16 of one member and 256 in all are under way, 128 of them of members that are no peers, and
// others are told to come again.
func TestPostsAreBounded(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		const each, most, peers = 16, 256, 100
		held := make(chan struct{})
		a := testmember.StartSimulated(t, n, 1, func(tr *rafthttp.Transport) {
			tr.Raft.(*testmember.Recorder).OnProcess = func(ctx context.Context, _ *raftpb.Message) error {
				select {
				case <-held:
				case <-ctx.Done():
				}
				return nil
			}
		})
		body := testmember.Marshal(t, testmember.Heartbeat(1, 2, 1))
		post := func(from int) net.Conn { return beginPost(t, n, a, fmt.Sprintf("%x", from), len(body), body) }
		var all []net.Conn
		fill := func(first, posts int) {
			for i := range posts {
				all = append(all, post(first+i/each))
				synctest.Wait()
				if i == each-1 {
					got := testmember.ReadAnswer(t, post(first))
					require.Equal(t, 503, got.StatusCode)
					require.Equal(t, "1", got.Header.Get("Retry-After"))
				}
			}
		}
		fill(peers+most, most/2) // ids may be made up
		require.Equal(t, 503, testmember.ReadAnswer(t, post(2)).StatusCode)
		for i := range most/2/each + 1 {
			a.AddPeer(types.ID(peers+i), testmember.SilentHost(n, types.ID(peers+i)))
		}
		fill(peers, most/2)
		require.Equal(t, 503, testmember.ReadAnswer(t, post(peers+most/2/each)).StatusCode)
		close(held)
		for _, c := range all {
			require.Equal(t, 204, testmember.ReadAnswer(t, c).StatusCode)
		}
		require.Equal(t, 204, testmember.ReadAnswer(t, post(2)).StatusCode)
	})
}

// TestRefusedWithoutBody: a request that nobody looks at is answered, too, although its
// body does not come.
func TestRefusedWithoutBody(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		a := testmember.StartSimulated(t, n, 1, nil)
		a.Stop()
		c := beginPost(t, n, a, "2", 100, nil)
		require.NoError(t, c.SetReadDeadline(time.Now().Add(6*time.Second)))
		require.Equal(t, 503, testmember.ReadAnswer(t, c).StatusCode)
	})
}

// TestBodiesOfPostsAreBounded: together they have a quarter of MaxQueuedBytes; one
// alone may be larger.
func TestBodiesOfPostsAreBounded(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		const limit = 1 << 20
		a := testmember.StartSimulated(t, n, 1, func(tr *rafthttp.Transport) { tr.MaxQueuedBytes = 4 * limit })
		large := testmember.Marshal(t, testmember.MsgApp(1, 2, 1, make([]byte, 3*limit)))
		alone := beginPost(t, n, a, "2", len(large), large[:2*limit])
		synctest.Wait()
		small := testmember.Marshal(t, testmember.Heartbeat(1, 3, 1))
		require.Equal(t, 204, testmember.ReadAnswer(t, beginPost(t, n, a, "3", len(small), small)).StatusCode, "each has a share")
		second := testmember.Marshal(t, testmember.MsgApp(1, 4, 1, make([]byte, limit/64)))
		refused := testmember.ReadAnswer(t, beginPost(t, n, a, "4", len(second), second))
		require.Equal(t, 503, refused.StatusCode)
		require.True(t, refused.Close)
		_, err := alone.Write(large[2*limit:])
		require.NoError(t, err)
		require.Equal(t, 204, testmember.ReadAnswer(t, alone).StatusCode)
		require.Equal(t, 204, testmember.ReadAnswer(t, beginPost(t, n, a, "3", len(small), small)).StatusCode)
		time.Sleep(time.Second) // the server lingers
	})
}

// TestLargePostBesideSmallOnes: one message may be larger than what posts have together, also while others come whose posts stay
// within the share that each has.
func TestLargePostBesideSmallOnes(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		const limit = 1 << 20
		a := testmember.StartSimulated(t, n, 1, func(tr *rafthttp.Transport) { tr.MaxQueuedBytes = 4 * limit })
		large, small := testmember.Marshal(t, testmember.MsgApp(1, 2, 1, make([]byte, 3*limit))), testmember.Marshal(t, testmember.Heartbeat(1, 3, 1))
		alone := beginPost(t, n, a, "2", len(large), large[:2*limit])
		synctest.Wait()
		other := beginPost(t, n, a, "3", len(small), small[:1])
		synctest.Wait()
		_, err := alone.Write(large[2*limit:])
		require.NoError(t, err)
		require.Equal(t, 204, testmember.ReadAnswer(t, alone).StatusCode)
		_, err = other.Write(small[1:])
		require.NoError(t, err)
		require.Equal(t, 204, testmember.ReadAnswer(t, other).StatusCode)
		time.Sleep(time.Second) // the server lingers
	})
}

// TestVoteBesideProposalsOfAllMembers: proposals that wait for a leader take nothing from
// votes, however many members have posted some.
func TestVoteBesideProposalsOfAllMembers(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		a := testmember.StartSimulated(t, n, 1, nil)
		a.Recorder.OnProcess = func(ctx context.Context, m *raftpb.Message) error {
			if m.GetType() == raftpb.MsgProp {
				<-ctx.Done()
			}
			return nil
		}
		body := testmember.Marshal(t, testmember.Message(raftpb.MsgProp, 1))
		for i := range 256 {
			beginPost(t, n, a, fmt.Sprintf("%x", 100+i/4), len(body), body)
		}
		synctest.Wait()
		require.Equal(t, 503, testmember.ReadAnswer(t, beginPost(t, n, a, "2", len(body), body)).StatusCode, "one more proposal")
		body = testmember.Marshal(t, testmember.Message(raftpb.MsgVote, 1))
		start := time.Now()
		require.Equal(t, 204, testmember.ReadAnswer(t, beginPost(t, n, a, "2", len(body), body)).StatusCode)
		require.Zero(t, time.Since(start))
		time.Sleep(time.Minute)
	})
}

// TestTricklingPost: a body that keeps moving ends when its time is over, which
// grows with what came: a slow link may take as long as it needs.
func TestTricklingPost(t *testing.T) {
	tests := []struct {
		name        string
		each, bytes int
		pause       time.Duration
		code        int
		within      time.Duration
	}{
		{"a byte at a time", 1, 1000, 4 * time.Second, 400, 10*time.Second + time.Millisecond},
		{"half the rate", 8 << 10, 1 << 20, time.Second, 400, 21 * time.Second},
		{"twice the rate", 32 << 10, 1 << 20, time.Second, 204, 34 * time.Second},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
				a := testmember.StartSimulated(t, n, 1, nil)
				body := testmember.Marshal(t, testmember.MsgApp(1, 2, 1, make([]byte, tc.bytes)))
				start := time.Now()
				c := beginPost(t, n, a, "2", len(body), nil)
				wrote := make(chan struct{})
				go func() {
					defer close(wrote)
					for rest := bytes.NewBuffer(body); rest.Len() > 0; time.Sleep(tc.pause) {
						if _, err := c.Write(rest.Next(tc.each)); err != nil {
							return
						}
					}
				}()
				resp, err := http.ReadResponse(bufio.NewReader(c), nil)
				took := time.Since(start)
				c.Close()
				<-wrote
				time.Sleep(time.Second) // a server lingers for a moment
				require.LessOrEqual(t, took, tc.within)
				require.NoError(t, err)
				require.Equal(t, tc.code, resp.StatusCode)
			})
		})
	}
}
