package rafthttp_test

import (
	"errors"
	"fmt"
	"io"
	"log"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/seed-4d73690b/rafthttp"
)

// toMembers returns a heartbeat to each of them, or to a thread.
func toMembers(ids ...uint64) (ms []*raftpb.Message) {
	for _, id := range ids {
		ms = append(ms, &raftpb.Message{Type: raftpb.MsgHeartbeat.Enum(), To: new(id)})
	}
	return ms
}

func TestSplitMessages(t *testing.T) {
	const app, apply = raft.LocalAppendThread, raft.LocalApplyThread
	for name, to := range map[string][]uint64{
		"nothing":        {},
		"a plain Ready":  {2, 3, 2},
		"as raft has it": {2, 3, 2, app, apply},
		"an append":      {2, app},
		"threads alone":  {app, apply},
		"any order":      {app, 2, apply, apply, 3, app, app, 2},
	} {
		t.Run(name, func(t *testing.T) {
			msgs := toMembers(to...)
			before := slices.Clone(msgs)
			of := func(want func(uint64) bool) (ms []*raftpb.Message) {
				for _, m := range msgs {
					if want(m.GetTo()) {
						ms = append(ms, m)
					}
				}
				return ms
			}
			peers, appends, applies := rafthttp.SplitMessages(msgs)
			require.Equal(t, of(func(id uint64) bool { return id < apply }), slices.Clip(append([]*raftpb.Message(nil), peers...)))
			require.Equal(t, of(func(id uint64) bool { return id == app }), appends)
			require.Equal(t, of(func(id uint64) bool { return id == apply }), applies)
			for _, part := range [][]*raftpb.Message{appends, applies} {
				_ = append(part, nil) // is theirs who have it
			}
			if len(appends)+len(applies) > 0 {
				_ = append(peers, nil)
			}
			require.Equal(t, before, msgs)
		})
	}
	msgs := toMembers(2, 3, app, apply)
	require.Zero(t, testing.AllocsPerRun(100, func() { rafthttp.SplitMessages(msgs) }))
}

// TestSplitMessagesHoldsVotes: they go out with the responses of the write that has the term.
func TestSplitMessagesHoldsVotes(t *testing.T) {
	const app, apply = raft.LocalAppendThread, raft.LocalApplyThread
	msgs := toMembers(2, 2, 3, 3, app, apply)
	msgs[1].Type, msgs[3].Type = raftpb.MsgVote.Enum(), raftpb.MsgVote.Enum()
	own := toMembers(1)[0]
	responses := append(make([]*raftpb.Message, 0, 8), own)
	msgs[4].Responses = responses
	before, write := slices.Clone(msgs), proto.CloneOf(msgs[4])
	peers, appends, applies := rafthttp.SplitMessages(msgs)
	require.Equal(t, []*raftpb.Message{msgs[0], msgs[2]}, peers)
	require.Len(t, appends, 1)
	require.Equal(t, []*raftpb.Message{own, msgs[1], msgs[3]}, appends[0].GetResponses())
	require.Nil(t, responses[:2][1], "the memory is raft's")
	require.Equal(t, msgs[5:], applies)
	require.Equal(t, before, msgs)
	require.True(t, proto.Equal(write, msgs[4]), "what has the responses is a copy")

	plain := msgs[:4] // no AsyncStorageWrites
	peers, _, _ = rafthttp.SplitMessages(plain)
	require.Equal(t, plain, peers)
}

// TestSplitMessagesCopiesTheWrite: apart from its responses, the write that gets votes is the one that raft has made, and those
// before it are raft's own.
func TestSplitMessagesCopiesTheWrite(t *testing.T) {
	write := &raftpb.Message{
		Type: raftpb.MsgStorageAppend.Enum(), To: new(raft.LocalAppendThread), From: new(uint64(1)), Term: new(uint64(2)),
		LogTerm: new(uint64(3)), Index: new(uint64(4)), Entries: []*raftpb.Entry{{Index: new(uint64(5))}}, Commit: new(uint64(6)),
		Vote: new(uint64(7)), Snapshot: &raftpb.Snapshot{Data: []byte("data")}, Reject: new(true), RejectHint: new(uint64(8)),
		Context: []byte("context"), Responses: toMembers(1),
	}
	fields := write.ProtoReflect().Descriptor().Fields()
	for i := range fields.Len() {
		require.True(t, write.ProtoReflect().Has(fields.Get(i)), "the test leaves out %s", fields.Get(i).Name())
	}
	vote := &raftpb.Message{Type: raftpb.MsgVote.Enum(), To: new(uint64(2))}
	first := toMembers(raft.LocalAppendThread)[0]
	msgs := []*raftpb.Message{vote, first, write}
	_, appends, _ := rafthttp.SplitMessages(msgs)
	require.Len(t, appends, 2)
	require.Same(t, first, appends[0])
	require.Same(t, write, msgs[2])
	require.Len(t, write.GetResponses(), 1)
	want := proto.CloneOf(write)
	want.Responses = append(want.Responses, vote)
	require.True(t, proto.Equal(want, appends[1]), "%v", appends[1])
	require.Same(t, write.GetEntries()[0], appends[1].GetEntries()[0], "the entries are not copied")
}

// storageMessage is a message of member 1 to its storage, with responses of these types to these members.
func storageMessage(typ raftpb.MessageType, responses ...any) *raftpb.Message {
	m := &raftpb.Message{Type: typ.Enum(), From: new(uint64(1))}
	for i := 0; i < len(responses); i += 2 {
		m.Responses = append(m.Responses, &raftpb.Message{
			Type: responses[i].(raftpb.MessageType).Enum(), To: new(uint64(responses[i+1].(int))),
		})
	}
	return m
}

func TestDeliverResponses(t *testing.T) {
	m := storageMessage(raftpb.MsgStorageAppend, raftpb.MsgVoteResp, 2, raftpb.MsgAppResp, 3, raftpb.MsgAppResp, 1,
		raftpb.MsgAppResp, 2, raftpb.MsgStorageAppendResp, 1)
	var did []string
	step := func(m *raftpb.Message) error { did = append(did, "step "+m.GetType().String()); return nil }
	send := func(ms []*raftpb.Message) {
		for _, m := range ms {
			did = append(did, fmt.Sprint("send ", m.GetType(), " ", m.GetTo()))
		}
		did = append(did, "sent")
		_ = append(ms, nil) // what it makes of its slice harms no other
	}
	require.NoError(t, rafthttp.DeliverResponses(m, step, send))
	require.Equal(t, []string{
		"send MsgVoteResp 2", "send MsgAppResp 3", "sent", "step MsgAppResp", "send MsgAppResp 2", "sent", "step MsgStorageAppendResp",
	}, did)

	did = nil
	require.NoError(t, rafthttp.DeliverResponses(storageMessage(raftpb.MsgStorageAppend), step, send))
	require.NoError(t, rafthttp.DeliverResponses(nil, step, send))
	require.Empty(t, did)
}

// TestDeliverResponsesErrors: raft gets the rest if it does not know the member, which is itself, and not after other errors.
func TestDeliverResponsesErrors(t *testing.T) {
	m := storageMessage(raftpb.MsgStorageAppend, raftpb.MsgAppResp, 1, raftpb.MsgStorageAppendResp, 1, raftpb.MsgAppResp, 2)
	send := func([]*raftpb.Message) {}
	stepped := 0
	require.NoError(t, rafthttp.DeliverResponses(m, func(*raftpb.Message) error { stepped++; return raft.ErrStepPeerNotFound }, send))
	require.Equal(t, 2, stepped)

	stepped = 0
	sent := func([]*raftpb.Message) { require.Fail(t, "sent after an error") }
	require.ErrorIs(t, rafthttp.DeliverResponses(m, func(*raftpb.Message) error { stepped++; return raft.ErrStopped }, sent), raft.ErrStopped)
	require.Equal(t, 1, stepped)
}

// TestRemovedMemberDeliversResponses: RawNode does not know a member that has applied its own removal, and yet has to hear that
// its entries are durable.
func TestRemovedMemberDeliversResponses(t *testing.T) {
	storage := raft.NewMemoryStorage()
	require.NoError(t, storage.ApplySnapshot(&raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{
		Index: new(uint64(1)), Term: new(uint64(1)), ConfState: &raftpb.ConfState{Voters: []uint64{1}},
	}}))
	node, err := raft.NewRawNode(&raft.Config{
		ID: 1, ElectionTick: 10, HeartbeatTick: 1, Storage: storage, MaxSizePerMsg: 1 << 20, MaxInflightMsgs: 1, AsyncStorageWrites: true,
		Logger: &raft.DefaultLogger{Logger: log.New(io.Discard, "", 0)},
	})
	require.NoError(t, err)
	var stepped, unknown []raftpb.MessageType
	save := func() {
		_, appends, _ := rafthttp.SplitMessages(node.Ready().Messages)
		require.Len(t, appends, 1)
		require.NoError(t, storage.Append(appends[0].GetEntries()))
		require.NoError(t, rafthttp.DeliverResponses(appends[0], func(m *raftpb.Message) error {
			err := node.Step(m)
			stepped = append(stepped, m.GetType())
			if errors.Is(err, raft.ErrStepPeerNotFound) {
				unknown = append(unknown, m.GetType())
			}
			return err
		}, func([]*raftpb.Message) {}))
	}
	require.NoError(t, node.Campaign())
	save()
	require.Empty(t, unknown)
	stepped = nil
	node.ApplyConfChange(&raftpb.ConfChange{Type: raftpb.ConfChangeAddNode.Enum(), NodeId: new(uint64(2))})
	node.ApplyConfChange(&raftpb.ConfChange{Type: raftpb.ConfChangeRemoveNode.Enum(), NodeId: new(uint64(1))})
	save()
	require.Equal(t, []raftpb.MessageType{raftpb.MsgAppResp}, unknown)
	require.Equal(t, []raftpb.MessageType{raftpb.MsgAppResp, raftpb.MsgStorageAppendResp}, stepped)
}
