package security_test

import (
	"crypto/tls"
	"io"
	"log"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/memnet"
)

// TestTypesAtTheDoor says of each type of raft's messages what becomes of one that
// comes over the network: of its sender, or of another member.
func TestTypesAtTheDoor(t *testing.T) {
	type fate struct{ own, others, ownVerified, othersVerified bool } // taken, without and with VerifyPeer
	var (
		free     = fate{true, true, true, true}     // passed on for others
		bound    = fate{true, true, true, false}    // held to its sender, if that is known
		local    = fate{true, true, false, false}   // raft itself ignores it
		internal = fate{false, false, false, false} // raft would not ignore it
	)
	fates := map[raftpb.MessageType]fate{
		raftpb.MsgHup: local, raftpb.MsgBeat: local, raftpb.MsgUnreachable: local, raftpb.MsgSnapStatus: local, raftpb.MsgCheckQuorum: local,
		raftpb.MsgStorageAppend: local, raftpb.MsgStorageAppendResp: local, raftpb.MsgStorageApply: local, raftpb.MsgStorageApplyResp: local,
		raftpb.MsgForgetLeader: internal,
		raftpb.MsgProp:         free, raftpb.MsgTransferLeader: free,
		raftpb.MsgApp: bound, raftpb.MsgAppResp: bound, raftpb.MsgVote: bound, raftpb.MsgVoteResp: bound, raftpb.MsgSnap: bound,
		raftpb.MsgHeartbeat: bound, raftpb.MsgHeartbeatResp: bound, raftpb.MsgTimeoutNow: bound, raftpb.MsgReadIndex: bound,
		raftpb.MsgReadIndexResp: bound, raftpb.MsgPreVote: bound, raftpb.MsgPreVoteResp: bound,
		99: bound, // one that we do not know
	}
	for typ := range raftpb.MessageType_name {
		require.Contains(t, fates, raftpb.MessageType(typ), "raft has learned a type: how does it step one from the network?")
	}
	for typ, is := range fates {
		require.Equal(t, is == local, raft.IsLocalMsg(typ), typ)
	}
	require.True(t, forgetsLeader(t), "raft ignores MsgForgetLeader from the network now")

	for _, verified := range []bool{false, true} {
		t.Run(map[bool]string{false: "without VerifyPeer", true: "with VerifyPeer"}[verified], func(t *testing.T) {
			testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
				a := testmember.StartSimulated(t, n, 1, func(tr *rafthttp.Transport) {
					if verified {
						tr.VerifyPeer = func(types.ID, *tls.ConnectionState) error { return nil }
					}
				})
				say := testmember.StartTalker(t, n, 2)
				a.AddPeer(2, []string{testmember.URLOf(2)})
				for typ, is := range fates {
					for from, taken := range map[uint64][2]bool{2: {is.own, is.ownVerified}, 3: {is.others, is.othersVerified}} {
						want, code := 0, 401
						if taken[map[bool]int{false: 0, true: 1}[verified]] {
							want, code = 1, 204
						}
						m := &raftpb.Message{Type: typ.Enum(), To: new(uint64(1)), From: new(from), Term: new(uint64(1))}
						before := len(a.Recorder.Received())
						require.Equal(t, code, testmember.Ask(t, a.Transport, "POST", "/raft", testmember.PeerHeader(nil), testmember.PostBody(t, m)).Code, "%v of %d", typ, from)
						require.Len(t, a.Recorder.Received(), before+want, "%v of %d, posted", typ, from)
						for _, kind := range []string{"message", "msgapp"} {
							before := len(a.Recorder.Received())
							say(kind, m)
							synctest.Wait()
							require.Len(t, a.Recorder.Received(), before+want, "%v of %d by the %s stream", typ, from, kind)
						}
					}
				}
			})
		})
	}
}

// forgetsLeader reports whether raft takes a MsgForgetLeader that another member
// sent for one of its own application.
func forgetsLeader(t *testing.T) bool {
	storage := raft.NewMemoryStorage()
	require.NoError(t, storage.ApplySnapshot(&raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{
		Index: new(uint64(1)), Term: new(uint64(1)), ConfState: &raftpb.ConfState{Voters: []uint64{1, 2}},
	}}))
	node, err := raft.NewRawNode(&raft.Config{ID: 1, ElectionTick: 10, HeartbeatTick: 1, Storage: storage, MaxSizePerMsg: 1, MaxInflightMsgs: 1,
		Logger: &raft.DefaultLogger{Logger: log.New(io.Discard, "", 0)}})
	require.NoError(t, err)
	require.NoError(t, node.Step(testmember.Heartbeat(1, 2, 0)))
	require.EqualValues(t, 2, node.Status().Lead)
	require.NoError(t, node.Step(&raftpb.Message{Type: raftpb.MsgForgetLeader.Enum(), To: new(uint64(1)), From: new(uint64(2))}))
	return node.Status().Lead == 0
}
