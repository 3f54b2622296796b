package delivery_test

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/internal/testtls"
	"github.com/seed-4d73690b/rafthttp/memnet"
)

// gatheringWriter is a ResponseWriter that writes all there is at once, in one chunk, as that of a stock member, and for as long
// as it takes.
type gatheringWriter struct {
	testmember.DeadlineWriter
	all []byte
}

func (g *gatheringWriter) Write(p []byte) (int, error) {
	g.all = append(g.all, p...)
	return len(p), nil
}

func (g *gatheringWriter) Flush() {
	_, _ = g.DeadlineWriter.Write(g.all)
	g.all = nil
	g.DeadlineWriter.Flush()
}

func (g *gatheringWriter) SetWriteDeadline(time.Time) error { return nil }

// TestSlowStreamIsNotCut: a stream lives as long as its connection moves, whichever way
// it is written: on a line of 50 KiB/s, and on one that takes longer for a record of TLS
// than the write timeout, behind a buffer.
func TestSlowStreamIsNotCut(t *testing.T) {
	t.Run("http", func(t *testing.T) { slowStreamIsNotCut(t, "http", 50<<10, 1<<20) })
	t.Run("https", func(t *testing.T) { slowStreamIsNotCut(t, "https", 50<<10, 1<<20) })
	t.Run("https, slower", func(t *testing.T) { slowStreamIsNotCut(t, "https", 8<<10, 512<<10) })
}

func slowStreamIsNotCut(t *testing.T, scheme string, rate, size int) {
	t.Helper()
	slow := func(tr *rafthttp.Transport) { tr.WriteTimeout = time.Second }
	for _, way := range []string{"hijacked", "with deadlines", "in one chunk"} {
		t.Run(way, func(t *testing.T) {
			wrapper := testmember.Writers[way]
			if wrapper == nil {
				wrapper = func(w http.ResponseWriter) http.ResponseWriter {
					return &gatheringWriter{DeadlineWriter: testmember.NewDeadlineWriter(w)}
				}
			}
			simulateBoth(t, func(t *testing.T, n *memnet.Network) {
				var a, b *testmember.Member
				if scheme == "http" {
					a, b = testmember.StartSimulated(t, n, 1, slow), testmember.StartSimulated(t, n, 2, nil)
				} else {
					ca := testtls.NewAuthority(t)
					s := testtls.NewNetwork(t, n, ca.Dir)
					for id := types.ID(1); id <= 2; id++ {
						s.Issue(ca, id, time.Hour)
						s.Trust(id, ca)
						s.Revoke(id, ca)
					}
					a, b = s.Start(1, slow), s.Start(2, nil)
				}
				testmember.WrapWriters(a, wrapper)
				testmember.Connect(t, a, b)
				n.Link("m1", "m2").SetBandwidth(rate)
				a.Send([]*raftpb.Message{testmember.MsgApp(2, 1, 0, make([]byte, size))})
				testmember.Within(t, 2*time.Minute, func() bool { return len(b.Recorder.Received()) == 1 })
				require.Zero(t, a.Recorder.Unreachables(2))
			})
		})
	}
}

// TestSlowSocketIsNotCut is the same for writev, which only sockets have: what goes out at
// once takes longer than the write timeout.
func TestSlowSocketIsNotCut(t *testing.T) {
	t.Parallel()
	a := testmember.Start(t, 1, func(tr *rafthttp.Transport) { tr.WriteTimeout = 2 * time.Second })
	a.AddPeer(2, []string{testmember.RefusingURL})
	c := testmember.DialStream(t, testmember.DialLoopback, a, "msgapp", 2)
	require.NoError(t, c.Conn.(*net.TCPConn).SetReadBuffer(4<<10))
	testmember.Eventually(t, func() bool { return testmember.LaneOf(a, 2, "msgapp").Up })
	const entries, size = 24, 64 << 10
	for i := range uint64(entries) {
		a.Send([]*raftpb.Message{testmember.MsgApp(2, 1, i, make([]byte, size))})
	}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for buf := make([]byte, 16<<10); testmember.LaneOf(a, 2, "msgapp").Messages < entries; <-tick.C {
		_, err := c.Body.Read(buf)
		require.NoError(t, err)
	}
	require.Zero(t, a.Recorder.Unreachables(2))
}

// brokenHijacker is a ResponseWriter that has Hijack and says that it does not work.
type brokenHijacker struct{ testmember.DeadlineWriter }

func (brokenHijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return nil, nil, errors.New("not here")
}

// mute is a ResponseWriter that cannot flush.
type mute struct{ w http.ResponseWriter }

func (m mute) Header() http.Header         { return m.w.Header() }
func (m mute) Write(p []byte) (int, error) { return m.w.Write(p) }
func (m mute) WriteHeader(code int)        { m.w.WriteHeader(code) }
func (m mute) SetWriteDeadline(t time.Time) error {
	return http.NewResponseController(m.w).SetWriteDeadline(t)
}

// boundless is a ResponseWriter whose Hijack hands out connections that know no deadlines.
type boundless struct{ testmember.DeadlineWriter }

func (b boundless) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	c, rw, err := http.NewResponseController(b.W).Hijack()
	return noDeadlines{c}, rw, err
}

type noDeadlines struct{ net.Conn }

func (noDeadlines) SetDeadline(time.Time) error      { return os.ErrNoDeadline }
func (noDeadlines) SetWriteDeadline(time.Time) error { return os.ErrNoDeadline }

// TestHijackedConnWithoutDeadlines: it carries no stream, the log says why, and everything goes by posts.
func TestHijackedConnWithoutDeadlines(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		core, logs := observer.New(zap.WarnLevel)
		a := testmember.StartSimulated(t, n, 1, func(tr *rafthttp.Transport) { tr.Logger = zap.New(core) })
		b := testmember.StartSimulated(t, n, 2, nil)
		running := testmember.WrapWriters(a, func(w http.ResponseWriter) http.ResponseWriter {
			return boundless{testmember.NewDeadlineWriter(w)}
		})
		a.AddPeer(2, []string{b.URL})
		b.AddPeer(1, []string{a.URL})
		time.Sleep(10 * time.Second)
		a.Send([]*raftpb.Message{testmember.MsgApp(2, 1, 0, nil)})
		testmember.Within(t, time.Second, func() bool { return len(b.Recorder.Received()) == 1 })
		synctest.Wait()
		require.Zero(t, running.Load())
		require.EqualValues(t, 1, testmember.LaneOf(a, 2, "pipeline").Messages)
		require.Equal(t, 1, logs.Len())
		require.Contains(t, logs.All()[0].ContextMap()["error"], "cannot set deadlines")
	})
}

// failingFlusher is a ResponseWriter whose Flush fails, from the nth call on.
type failingFlusher struct {
	testmember.DeadlineWriter
	n atomic.Int32
}

// FlushError is what http.ResponseController calls.
func (f *failingFlusher) FlushError() error {
	if f.n.Add(-1) < 0 {
		return errors.New("no flush here")
	}
	f.Flush()
	return nil
}

func flushes(n int32) func(http.ResponseWriter) http.ResponseWriter {
	return func(w http.ResponseWriter) http.ResponseWriter {
		f := &failingFlusher{DeadlineWriter: testmember.NewDeadlineWriter(w)}
		f.n.Store(n)
		return f
	}
}

// TestStreamEndsWithAFlushThatFails: what a response took and did not flush is reported, and the stream is not taken for one.
func TestStreamEndsWithAFlushThatFails(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		a, b := testmember.StartSimulated(t, n, 1, nil), testmember.StartSimulated(t, n, 2, nil)
		running := testmember.WrapWriters(a, flushes(2)) // the head, and the first heartbeat
		a.AddPeer(2, []string{b.URL})
		b.AddPeer(1, []string{a.URL})
		testmember.Within(t, time.Second, func() bool { return testmember.LaneOf(a, 2, "msgapp").Up })
		synctest.Wait()
		before := a.Recorder.Unreachables(2)
		a.Send([]*raftpb.Message{testmember.MsgApp(2, 1, 0, nil)})
		synctest.Wait()
		require.False(t, testmember.LaneOf(a, 2, "msgapp").Up)
		require.Greater(t, a.Recorder.Unreachables(2), before)
		require.EqualValues(t, 1, running.Load(), "the handler of the stream that has not failed yet")
	})
}

// TestResponsesThatCannotCarryAStream are refused, which both ends say, and everything
// goes by posts. One whose Hijack fails is written as a response.
func TestResponsesThatCannotCarryAStream(t *testing.T) {
	for name, tt := range map[string]struct {
		wrap func(http.ResponseWriter) http.ResponseWriter
		why  string // "": it can
	}{
		"no write deadlines": {func(w http.ResponseWriter) http.ResponseWriter { return testmember.BasicWriter{W: w} }, "cannot set write deadlines"},
		"no flush":           {func(w http.ResponseWriter) http.ResponseWriter { return mute{w} }, "cannot flush"},
		"broken flush":       {flushes(0), "cannot flush: no flush here"},
		"broken hijack": {func(w http.ResponseWriter) http.ResponseWriter {
			return brokenHijacker{testmember.NewDeadlineWriter(w)}
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
				core, logs := observer.New(zap.WarnLevel)
				a := testmember.StartSimulated(t, n, 1, func(tr *rafthttp.Transport) { tr.Logger = zap.New(core) })
				b := testmember.StartSimulated(t, n, 2, nil)
				running := testmember.WrapWriters(a, tt.wrap)
				a.AddPeer(2, []string{b.URL})
				b.AddPeer(1, []string{a.URL})
				time.Sleep(10 * time.Second)
				a.Send([]*raftpb.Message{testmember.MsgApp(2, 1, 0, nil)})
				testmember.Within(t, time.Second, func() bool { return len(b.Recorder.Received()) == 1 })
				logged := logs.Filter(func(e observer.LoggedEntry) bool { // one of the two may dial before the other has it as a peer
					return !strings.Contains(fmt.Sprint(e.ContextMap()["error"]), "member not found")
				}).All()
				if tt.why == "" {
					require.EqualValues(t, 2, running.Load())
					require.EqualValues(t, 1, testmember.LaneOf(a, 2, "msgapp").Messages)
					require.Empty(t, logged)
					return
				}
				testmember.Within(t, time.Second, func() bool { return running.Load() == 0 }) // of the last attempt
				require.EqualValues(t, 1, testmember.LaneOf(a, 2, "pipeline").Messages)
				require.Len(t, logged, 1, "once, however often it is dialled")
				require.Contains(t, logged[0].ContextMap()["error"], tt.why)
				require.Contains(t, b.Status().Peers[0].LastError, tt.why)
			})
		})
	}
}
