package operating_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/memnet"
)

const (
	dialFailed  = "failed to dial a stream of the peer"
	dropping    = "dropping messages"
	probeFailed = "failed to probe the peer"
)

// requireEach requires that there are n lines, and that each has the text.
func requireEach(t *testing.T, n int, text string, lines []string) {
	t.Helper()
	require.Len(t, lines, n)
	for _, l := range lines {
		require.Contains(t, l, text)
	}
}

// TestClassOfDialErrorsIsLogged: there is a line for each stream when the class of the error changes, and none while only its
// text does, such as the page of a proxy with a number of the request. PeerStatus.LastError is the present cause.
func TestClassOfDialErrorsIsLogged(t *testing.T) {
	simulate(t, func(t *testing.T, n *memnet.Network) {
		var status, requests atomic.Int64
		status.Store(http.StatusBadGateway)
		serve(t, n, host(2), http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, fmt.Sprintf("request %c of a proxy", 'a'+requests.Add(1)%26), int(status.Load()))
		}))
		m := start(t, n, 1, nil)
		m.AddPeer(2, urls(2))
		for _, tt := range []struct {
			status int64
			says   string
		}{
			{http.StatusBadGateway, "unexpected http status 502"},
			{http.StatusServiceUnavailable, "unexpected http status 503"},
			{http.StatusNotFound, "member not found: request"},
		} {
			status.Store(tt.status)
			time.Sleep(3 * time.Minute)
			synctest.Wait()
			requireEach(t, 2, tt.says, m.lines(dialFailed))
			require.Contains(t, m.peer(t, 2).LastError, tt.says)
		}
	})
}

// TestLimitOfLinesKeepsNoReasonBack: a reason that lasts is logged, also if others that alternated before have used up the limit.
func TestLimitOfLinesKeepsNoReasonBack(t *testing.T) {
	simulate(t, func(t *testing.T, n *memnet.Network) {
		var status, requests atomic.Int64
		serve(t, n, host(2), http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if s := status.Load(); s != 0 {
				http.Error(w, "down", int(s))
			} else {
				http.Error(w, "down", int(500+requests.Add(1)%100))
			}
		}))
		m := start(t, n, 1, nil)
		m.AddPeer(2, urls(2))
		time.Sleep(10 * time.Minute)
		require.LessOrEqual(t, len(m.lines(dialFailed)), 2*(5+10*5))
		status.Store(http.StatusTeapot)
		time.Sleep(30 * time.Second)
		synctest.Wait()
		lines := m.lines(dialFailed)
		last := lines[len(lines)-2:]
		requireEach(t, 2, "unexpected http status 418", last)
	})
}

// TestUpdatePeerForgetsTheLastError: it is not the cause at the new URL.
func TestUpdatePeerForgetsTheLastError(t *testing.T) {
	simulate(t, func(t *testing.T, n *memnet.Network) {
		m := start(t, n, 1, func(tr *rafthttp.Transport) {
			dial := tr.DialContext
			tr.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
				if strings.HasPrefix(addr, host(3)) {
					<-ctx.Done()
					return nil, ctx.Err()
				}
				return dial(ctx, network, addr)
			}
		})
		m.AddPeer(2, urls(2))
		time.Sleep(10 * time.Second)
		require.Contains(t, m.peer(t, 2).LastError, "no such host")
		m.lines("")
		m.UpdatePeer(2, urls(3))
		time.Sleep(time.Second)
		require.Empty(t, m.peer(t, 2).LastError)
		require.Zero(t, m.peer(t, 2).LastErrorAt)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		require.Contains(t, m.peer(t, 2).LastError, "no connection within the dial timeout")
		requireEach(t, 2, "no connection within the dial timeout", m.lines(dialFailed))
	})
}

// TestReasonOfDropsIsLogged: each reason for which messages are dropped has a line at once, not a minute after the last.
func TestReasonOfDropsIsLogged(t *testing.T) {
	simulate(t, func(t *testing.T, n *memnet.Network) {
		m := start(t, n, 1, nil)
		m.AddPeer(2, urls(2))
		send := func() {
			m.Send([]*raftpb.Message{heartbeat(1, 2)})
			time.Sleep(time.Second)
			synctest.Wait()
		}
		send()
		requireEach(t, 1, "no such host", m.lines(dropping))
		serve(t, n, host(2), http.NotFoundHandler())
		send()
		requireEach(t, 1, "unexpected http status 404", m.lines(dropping))
		send()
		require.Empty(t, m.lines(dropping))
	})
}

// TestFailedProbesAreLogged: why probes of a peer that is active fail is in the log, once for each class of errors, and in its
// status until one succeeds. While the peer is inactive, its dials say so.
func TestFailedProbesAreLogged(t *testing.T) {
	simulate(t, func(t *testing.T, n *memnet.Network) {
		var status, requests atomic.Int64
		m, other := start(t, n, 1, nil), start(t, n, 2, nil, func(h http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if s := status.Load(); s != 0 && r.URL.Path == rafthttp.ProbingPrefix {
					http.Error(w, fmt.Sprintf("request %c", 'a'+requests.Add(1)%26), int(s))
					return
				}
				h.ServeHTTP(w, r)
			})
		})
		meet(m, other)
		time.Sleep(time.Minute)
		require.Empty(t, m.lines(probeFailed))
		require.Empty(t, m.peer(t, 2).ProbeError)
		for _, code := range []int64{404, 502} {
			status.Store(code)
			time.Sleep(2 * time.Minute)
			synctest.Wait()
			requireEach(t, 1, fmt.Sprintf("unexpected http status %d", code), m.lines(probeFailed))
			require.Contains(t, m.peer(t, 2).ProbeError, fmt.Sprintf("unexpected http status %d", code))
		}
		status.Store(0)
		time.Sleep(time.Minute)
		require.Empty(t, m.peer(t, 2).ProbeError)
		status.Store(502)
		time.Sleep(time.Minute)
		requireEach(t, 1, "unexpected http status 502", m.lines(probeFailed))

		other.Stop()
		time.Sleep(5 * time.Minute)
		require.Empty(t, m.lines(probeFailed))
	})
}
