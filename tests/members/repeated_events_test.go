package members_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/memnet"
)

// TestRepeatedEventsAreLimited has events repeat many times a second.
func TestRepeatedEventsAreLimited(t *testing.T) {
	for name, repeat := range map[string]struct {
		message string
		event   func(t *testing.T, n *memnet.Network, a, b *testmember.Member, i int)
	}{
		"Process fails every other time": {
			"failed to process a raft message; further failures are not logged until one succeeds",
			func(_ *testing.T, _ *memnet.Network, a, b *testmember.Member, i int) {
				a.Recorder.OnProcess = func(context.Context, *raftpb.Message) error {
					if i%2 == 0 {
						return errors.New("no")
					}
					return nil
				}
				b.Send(testmember.Heartbeats(2, 1, 1))
			},
		},
		"a peer asks for a stream again and again": {
			"closed a stream for a newer connection",
			func(t *testing.T, n *memnet.Network, a, _ *testmember.Member, _ int) {
				testmember.DialStream(t, n.Host("m2").DialContext, a, "message", 2)
			},
		},
		"a peer gives its streams up": {
			"lost a stream to the peer",
			func(t *testing.T, n *memnet.Network, a, _ *testmember.Member, _ int) {
				testmember.DialStream(t, n.Host("m2").DialContext, a, "message", 2).Close()
			},
		},
		"the URLs change": {
			"updated the URLs of a peer",
			func(_ *testing.T, _ *memnet.Network, a, b *testmember.Member, _ int) {
				a.UpdatePeer(2, []string{b.URL})
			},
		},
		"connections break": {
			"a stream of the peer ended",
			func(_ *testing.T, n *memnet.Network, _, _ *testmember.Member, _ int) { n.Reset("m1", "m2") },
		},
		"requests are refused": {
			"refused a request of a member; further ones like it are not logged for a while",
			func(t *testing.T, _ *memnet.Network, a, _ *testmember.Member, i int) {
				r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, rafthttp.RaftPrefix, strings.NewReader("x"))
				require.NoError(t, err)
				r.Header = testmember.PeerHeader(map[string]string{"X-Server-Version": []string{"1.0.0", "no", "", "3.7.0"}[i%4]})
				a.Server.Handler.ServeHTTP(&testmember.StatusWriter{HeaderMap: http.Header{}}, r)
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
				logs, lines := testmember.Logged(zap.NewAtomicLevelAt(zap.InfoLevel))
				a, b := testmember.StartSimulated(t, n, 1, logs), testmember.StartSimulated(t, n, 2, nil)
				testmember.Connect(t, a, b)
				for i := range 300 {
					repeat.event(t, n, a, b, i)
					time.Sleep(100 * time.Millisecond)
					synctest.Wait()
				}
				require.NotZero(t, lines.FilterMessage(repeat.message).Len())
				requireLimited(t, lines, 30*time.Second)
			})
		})
	}
}

// TestLogIsRightInTheEnd: however often a peer became active and inactive before, what the log says last of it is so.
func TestLogIsRightInTheEnd(t *testing.T) {
	for _, active := range []bool{true, false} {
		t.Run(fmt.Sprint(active), func(t *testing.T) {
			testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
				logs, lines := testmember.Logged(zap.NewAtomicLevelAt(zap.InfoLevel))
				a, post := flappingPeer(t, n, logs)
				for range 100 {
					post(!active)
					post(active)
				}
				changes := lines.FilterMessageSnippet("peer became").Len()
				require.LessOrEqual(t, changes, 10)
				for range 20 {
					time.Sleep(time.Second)
					post(active)
				}
				require.Equal(t, active, a.ActivePeers() == 1)
				all := lines.FilterMessageSnippet("peer became").All()
				require.Equal(t, active, all[len(all)-1].Message == "peer became active")
				require.LessOrEqual(t, len(all), changes+4)
			})
		})
	}
}
