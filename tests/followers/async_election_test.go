package followers_test

import (
	"fmt"
	"io"
	"log"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
)

// handCluster is three members with AsyncStorageWrites, of which a test moves each message by hand.
type handCluster struct {
	t       *testing.T
	disks   map[uint64]*raft.MemoryStorage
	nodes   map[uint64]*raft.RawNode
	stalled map[uint64]bool // whose disk does not return from fsync
	lost    func(*raftpb.Message) bool
	applied map[uint64][]string
}

func newHandCluster(t *testing.T) *handCluster {
	t.Helper()
	h := &handCluster{
		t: t, disks: map[uint64]*raft.MemoryStorage{}, nodes: map[uint64]*raft.RawNode{},
		stalled: map[uint64]bool{}, lost: func(*raftpb.Message) bool { return false }, applied: map[uint64][]string{},
	}
	for id := uint64(1); id <= 3; id++ {
		h.disks[id] = raft.NewMemoryStorage()
		mustNot(h.disks[id].ApplySnapshot(&raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{
			Index: new(uint64(1)), Term: new(uint64(1)), ConfState: &raftpb.ConfState{Voters: []uint64{1, 2, 3}},
		}}))
		mustNot(h.disks[id].SetHardState(&raftpb.HardState{Term: new(uint64(1)), Vote: new(uint64(0)), Commit: new(uint64(1))}))
		h.start(id)
	}
	return h
}

// start starts a member, or starts it again with what its disk has.
func (h *handCluster) start(id uint64) {
	node, err := raft.NewRawNode(&raft.Config{
		ID: id, ElectionTick: 10, HeartbeatTick: 1, Storage: h.disks[id], MaxSizePerMsg: 1 << 20, MaxInflightMsgs: 16, AsyncStorageWrites: true,
		Logger: &raft.DefaultLogger{Logger: log.New(io.Discard, "", 0)},
	})
	require.NoError(h.t, err)
	h.nodes[id] = node
}

// settle has all members do what they can, and all messages that are not cut off arrive.
func (h *handCluster) settle() {
	for busy := true; busy; {
		busy = false
		for id, node := range h.nodes {
			if node.HasReady() {
				busy = true
				h.do(id, node)
			}
		}
	}
}

func (h *handCluster) do(id uint64, node *raft.RawNode) {
	peers, appends, applies := rafthttp.SplitMessages(node.Ready().Messages)
	h.send(peers)
	for _, m := range appends {
		if h.stalled[id] {
			continue
		}
		mustNot(h.disks[id].Append(m.GetEntries()))
		if m.Term != nil {
			mustNot(h.disks[id].SetHardState(&raftpb.HardState{Term: m.Term, Vote: m.Vote, Commit: m.Commit}))
		}
		mustNot(rafthttp.DeliverResponses(m, node.Step, h.send))
	}
	for _, m := range applies {
		for _, e := range m.GetEntries() {
			if len(e.Data) > 0 {
				h.applied[id] = append(h.applied[id], fmt.Sprintf("%d:%s", e.GetIndex(), e.Data))
			}
		}
		mustNot(rafthttp.DeliverResponses(m, node.Step, h.send))
	}
}

func (h *handCluster) send(ms []*raftpb.Message) {
	for _, m := range ms {
		if !h.lost(m) {
			_ = h.nodes[m.GetTo()].Step(m)
		}
	}
}

// TestVotesWaitForTheDisk: raft itself has a candidate ask for votes at once, and the others can make it the leader before its
// disk knows of the term. After a crash it would be the leader of the same term once more, with other entries of the same
// index and term. SplitMessages has the question wait for the write.
func TestVotesWaitForTheDisk(t *testing.T) {
	h := newHandCluster(t)
	h.stalled[1] = true
	h.lost = func(m *raftpb.Message) bool { return m.GetTo() == 3 && m.GetType() == raftpb.MsgApp }
	require.NoError(t, h.nodes[1].Campaign())
	h.settle()
	_ = h.nodes[1].Propose([]byte("of the first life")) // which it takes only as the leader; then 2 has it
	h.settle()

	h.stalled[1] = false // 1 loses power, 3 is well again, 2 is cut off
	h.lost = func(m *raftpb.Message) bool { return m.GetTo() == 2 }
	h.start(1)
	require.NoError(t, h.nodes[1].Campaign())
	h.settle()
	require.Equal(t, raft.StateLeader, h.nodes[1].BasicStatus().RaftState)
	require.NoError(t, h.nodes[1].Propose([]byte("of the second life")))
	h.settle()
	h.lost = func(*raftpb.Message) bool { return false }
	for range 3 {
		h.nodes[1].Tick()
		h.settle()
	}
	require.NotEmpty(t, h.applied[1])
	require.Equal(t, h.applied[1], h.applied[3])
	require.Equal(t, h.applied[1], h.applied[2], "members have applied other entries at the same index")
}
