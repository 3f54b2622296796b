package rafthttp_test

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/seed-4d73690b/rafthttp/internal/testmember"
)

func TestMessagesArriveWholeAndInOrder(t *testing.T) {
	a, b := testmember.Start(t, 1, nil), testmember.Start(t, 2, nil)
	testmember.Connect(t, a, b)

	const n = 2000
	var apps, beats []*raftpb.Message
	for i := range uint64(n) {
		apps = append(apps, testmember.MsgApp(2, 1, i, bytes.Repeat([]byte{byte(i)}, int(i%3000))))
		beats = append(beats, testmember.Heartbeat(2, 1, i))
	}
	for i := range n {
		a.Send([]*raftpb.Message{apps[i], beats[i]})
	}
	testmember.Eventually(t, func() bool { return len(b.Recorder.Received()) == 2*n })

	got := map[raftpb.MessageType][]*raftpb.Message{}
	for _, m := range b.Recorder.Received() {
		got[m.GetType()] = append(got[m.GetType()], m)
	}
	for i := range n {
		require.True(t, proto.Equal(apps[i], got[raftpb.MsgApp][i]), "append %d: %v", i, got[raftpb.MsgApp][i])
		require.True(t, proto.Equal(beats[i], got[raftpb.MsgHeartbeat][i]), "heartbeat %d", i)
	}
	require.Equal(t, 1, a.ActivePeers())
	require.Zero(t, testmember.LaneOf(a, 2, "pipeline").Messages, "streams were up")
	require.EqualValues(t, n, testmember.LaneOf(a, 2, "msgapp").Messages)
	require.EqualValues(t, n, testmember.LaneOf(a, 2, "message").Messages)
}
