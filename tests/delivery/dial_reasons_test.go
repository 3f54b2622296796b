package delivery_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/memnet"
)

const dialFailedLine = "failed to dial a stream of the peer; retrying"

// TestReasonOfDialsIsLogged: why dials fail is logged once for each stream and URL, again when the reason of a URL changes,
// and again after UpdatePeer. A port that differs is no other reason.
func TestReasonOfDialsIsLogged(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		logs, lines := testmember.Logged(zap.NewAtomicLevelAt(zap.InfoLevel))
		var port atomic.Int64
		var reason atomic.Value
		reason.Store("refused")
		a := testmember.StartSimulated(t, n, 1, testmember.Tuned(logs, func(tr *rafthttp.Transport) {
			tr.DialContext = func(_ context.Context, _, addr string) (net.Conn, error) {
				from := &net.TCPAddr{Port: int(port.Add(1))}
				if strings.HasPrefix(addr, "two") {
					return nil, &net.OpError{Op: "dial", Net: "tcp", Source: from, Err: errors.New("not found")}
				}
				return nil, &net.OpError{Op: "dial", Net: "tcp", Source: from, Err: errors.New(reason.Load().(string))}
			}
		}))
		requireLines := func(want ...string) {
			t.Helper()
			time.Sleep(time.Minute)
			synctest.Wait()
			got := map[string]int{}
			for _, l := range lines.TakeAll() {
				if l.Message != dialFailedLine {
					continue
				}
				_, text, _ := strings.Cut(l.ContextMap()["error"].(string), " at ")
				got[text[:strings.Index(text, ":80")]+text[strings.LastIndex(text, ": "):]]++
			}
			wanted := map[string]int{}
			for _, w := range want {
				wanted[w] = 2 // for each stream
			}
			require.Equal(t, wanted, got)
		}
		urls := []string{"http://one:80", "http://two:80"}
		a.AddPeer(2, urls)
		requireLines("http://one: refused", "http://two: not found")
		requireLines()
		reason.Store("expired")
		requireLines("http://one: expired")
		a.UpdatePeer(2, []string{"http://one:80", "http://three:80"})
		requireLines("http://one: expired", "http://three: expired")
	})
}

// TestSlowDialIsNoSilence: a dial that takes too long says so, and is not taken for a connection that fell silent; a post's is
// the same.
func TestSlowDialIsNoSilence(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		logs, lines := testmember.Logged(zap.NewAtomicLevelAt(zap.InfoLevel))
		a := testmember.StartSimulated(t, n, 1, testmember.Tuned(logs, func(tr *rafthttp.Transport) {
			tr.DialTimeout = time.Second
			tr.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
				<-ctx.Done()
				return nil, ctx.Err()
			}
		}))
		a.AddPeer(2, []string{"http://two:80"})
		a.Send(testmember.Heartbeats(1, 2, 1))
		time.Sleep(20 * time.Second)
		synctest.Wait()
		for _, message := range []string{dialFailedLine, "dropping messages; further ones are only counted for a while"} {
			of := lines.FilterMessage(message)
			require.NotZero(t, of.Len(), message)
			require.Equal(t, of.Len(), of.Filter(func(e observer.LoggedEntry) bool {
				text := e.ContextMap()["error"].(string)
				return strings.Contains(text, "no connection within the dial timeout") && !strings.Contains(text, rafthttp.ErrStalled.Error())
			}).Len(), "%v", of.All())
		}
	})
}
