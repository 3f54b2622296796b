package latency_test

import (
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/internal/conn"
	"github.com/seed-4d73690b/rafthttp/internal/latency"
)

// TestDelayedAcknowledgementIsNotTheWire: what the peer has read, and its system has not acknowledged yet, as it does on
// streams, is not on the wire, whether the connection is looked at before the answer or not. The instants are made up, so that
// it does not matter how busy the machine is.
func TestDelayedAcknowledgementIsNotTheWire(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	client, err := net.Dial("tcp", ln.Addr().String())
	require.NoError(t, err)
	defer client.Close()
	server, err := ln.Accept()
	require.NoError(t, err)
	defer server.Close()
	delay, g := conn.DelayAcks(server), conn.NewSendGauge(client)

	const saving = 30 * time.Millisecond
	var a latency.Appends
	late := 0
	for index := uint64(0); late < 10; index++ {
		require.Less(t, index, uint64(10_000), "the system delays no acknowledgement")
		delay()
		m := &raftpb.Message{Type: raftpb.MsgApp.Enum(), Term: new(uint64(2)), Index: new(index), Entries: []*raftpb.Entry{{}}}
		before, _ := a.Read(time.Now())
		begin := time.Now().Add(-saving)
		require.True(t, a.Begin(m, 0, g, begin))
		_, err := client.Write([]byte("append"))
		require.NoError(t, err)
		a.Written(g, begin.Add(time.Microsecond))
		_, err = io.ReadFull(server, make([]byte, 6))
		require.NoError(t, err)
		if index%2 == 0 {
			a.Sent(&raftpb.Message{Type: raftpb.MsgHeartbeat.Enum(), Term: new(uint64(2))}, begin.Add(saving))
		}
		a.Answered(&raftpb.Message{Type: raftpb.MsgAppResp.Enum(), Term: new(uint64(2)), Index: new(index + 1)})
		if s, ok := g.SendState(); !ok || s.Unacked == 0 {
			continue // not delayed, or no more
		}
		late++
		after, _ := a.Read(time.Now())
		require.Less(t, after.Wire.Sum-before.Wire.Sum, saving/2, "%d", index)
		require.Greater(t, after.Follower.Sum-before.Follower.Sum, saving/2)
	}
}
