package stream

import (
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/internal/conn"
	"github.com/seed-4d73690b/rafthttp/internal/latency"
	"github.com/seed-4d73690b/rafthttp/internal/member"
	"github.com/seed-4d73690b/rafthttp/internal/queue"
)

// BenchmarkSample is what it costs to follow appends (docs/performance.md). The first two are costs of each write, which has one
// message or hundreds; the third is that of each append that is followed, with the questions to the system: there are at most
// 100 in a second. The last is the cost of an answer to an append that is not followed.
func BenchmarkSample(b *testing.B) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(b, err)
	defer ln.Close()
	client, err := net.Dial("tcp", ln.Addr().String())
	require.NoError(b, err)
	server, err := ln.Accept()
	require.NoError(b, err)
	defer server.Close()
	go func() { _, _ = io.Copy(io.Discard, server) }()
	c := NewConn(MsgAppV2, conn.NewHijackedStream(client, PieceBytes, func(f func()) { f() }), nil)
	defer c.Stream.Close()
	_, err = client.Write([]byte("x"))
	require.NoError(b, err)

	m := &member.Member{}
	w := &Writer{member: m, Queue: queue.New(queue.Config{Limits: queue.Limits{Messages: 1, Bytes: 1 << 20, Shared: queue.NewBudget(1 << 20), MessageBytes: 1 << 20}, Workers: 1})}
	a := message(2)
	a.Type, a.Index, a.Entries = raftpb.MsgApp.Enum(), new(uint64(0)), []*raftpb.Entry{{}}
	items := []queue.Item{queue.NewItem(a)}
	out := &m.Latency.Out
	resp := &raftpb.Message{Type: raftpb.MsgAppResp.Enum(), Term: a.Term, Index: new(uint64(0))}
	w.encodeStart = time.Now()
	b.Run("write, none is followed", func(b *testing.B) {
		w.sampleAt = w.encodeStart.Add(latency.Every)
		for b.Loop() {
			w.sample(c, items)
		}
	})
	b.Run("write, one is followed", func(b *testing.B) {
		out.Restart()
		require.True(b, out.Begin(a, 0, c.Stream, w.encodeStart))
		out.Written(c.Stream, w.encodeStart)
		for b.Loop() {
			w.sample(c, items)
		}
	})
	b.Run("followed", func(b *testing.B) {
		out.Restart()
		for b.Loop() {
			*a.Index++
			*resp.Index = *a.Index + 1
			now := time.Now()
			out.Begin(a, 0, c.Stream, now)
			out.Written(c.Stream, now)
			out.Answered(resp)
		}
	})
	b.Run("answer", func(b *testing.B) {
		out.Restart()
		require.True(b, out.Begin(a, 0, c.Stream, w.encodeStart))
		for b.Loop() {
			out.Answered(resp)
		}
	})
}
