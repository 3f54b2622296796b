package docs_test

import (
	"context"
	"net"
	"net/http/httptest"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/seed-4d73690b/rafthttp"
)

// member is a raft.Node with the two methods that the transport needs beside those of raft.Node.
type member struct {
	raft.Node
	removed sync.Map // ids of removed members; keep them with the state, for the next start
}

// Process has nothing to check: messages for another member, or from a removed one, never reach it. If the log is compacted
// and membership changes, the loop calls Step with a MsgSnap instead: docs/snapshots-and-members.md.
func (m *member) Process(ctx context.Context, msg *raftpb.Message) error { return m.Step(ctx, msg) }
func (m *member) IsIDRemoved(id uint64) bool                             { _, gone := m.removed.Load(id); return gone }

func run(m *member, cluster types.ID, peers map[types.ID][]string, listener net.Listener, tick <-chan time.Time) error {
	t := &rafthttp.Transport{ID: 1, ClusterID: cluster, Raft: m, ErrorC: make(chan error, 1)}
	if err := t.Start(); err != nil {
		return err
	}
	defer t.Stop()
	for id, urls := range peers { // 2: {"http://10.0.0.2:2380"}, …
		t.AddPeer(id, urls)
	}
	go rafthttp.NewServer(t.Handler()).Serve(listener) //nolint:errcheck // as short as can be
	for {
		select {
		case <-tick:
			m.Tick()
		case rd := <-m.Ready():
			save(rd.HardState, rd.Entries, rd.Snapshot) // durable before the messages are sent
			t.Send(rd.Messages)
			apply(rd.CommittedEntries, m, t) // a removed member: m.removed.Store and t.RemovePeer
			m.Advance()
		case err := <-t.ErrorC: // this member was removed from the cluster
			return err
		}
	}
}

// readmeCluster is the number of the README's cluster.
const readmeCluster types.ID = 0x4c1d80f7a2936be5

// What the README leaves to the reader. The snippet has no log: this one is in memory.
var (
	memory  = raft.NewMemoryStorage()
	applied = make(chan string, 1)
)

func save(_ *raftpb.HardState, entries []*raftpb.Entry, _ *raftpb.Snapshot) {
	_ = memory.Append(entries)
}

func apply(entries []*raftpb.Entry, m *member, t *rafthttp.Transport) {
	for _, e := range entries {
		if e.GetType() == raftpb.EntryConfChange {
			var change raftpb.ConfChange
			if err := proto.Unmarshal(e.Data, &change); err != nil {
				panic(err)
			}
			m.ApplyConfChange(&change)
			if id := change.GetNodeId(); change.GetType() == raftpb.ConfChangeRemoveNode {
				m.removed.Store(id, true)
				t.RemovePeer(types.ID(id))
			}
		} else if len(e.Data) > 0 {
			applied <- string(e.Data)
		}
	}
}

// remover is a member that takes the others for removed, from some time on.
type remover struct {
	deaf
	removed atomic.Bool
}

func (r *remover) IsIDRemoved(uint64) bool { return r.removed.Load() }

// TestReadme runs the README's snippet as a cluster of one, beside another member. That one is removed, and told so when it
// posts; then it tells the snippet's member that this one was removed.
func TestReadme(t *testing.T) {
	memory = raft.NewMemoryStorage()
	conf := &raftpb.ConfState{Voters: []uint64{1}}
	require.NoError(t, memory.ApplySnapshot(&raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{
		Index: new(uint64(1)), Term: new(uint64(1)), ConfState: conf,
	}}))
	config := &raft.Config{ID: 1, ElectionTick: 10, HeartbeatTick: 1, Storage: memory, MaxSizePerMsg: 1 << 20, MaxInflightMsgs: 256}
	new(rafthttp.Transport).LimitInflight(config)
	node := raft.RestartNode(config)
	defer node.Stop()
	own, err := rafthttp.NewListener(url.URL{Scheme: "http", Host: "127.0.0.1:0"}, nil)
	require.NoError(t, err)
	defer own.Close()

	gone := startOther(t, 3)
	other := startOther(t, 2)
	gone.AddRemote(1, []string{"http://" + own.Addr().String()})
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	ended := make(chan error)
	go func() {
		ended <- run(&member{Node: node}, readmeCluster, map[types.ID][]string{2: {other.url}, 3: {gone.url}}, own, tick.C)
	}()
	require.NoError(t, node.Propose(t.Context(), []byte("hello")))
	require.Equal(t, "hello", <-applied)

	require.NoError(t, node.ProposeConfChange(t.Context(), &raftpb.ConfChange{Type: raftpb.ConfChangeRemoveNode.Enum(), NodeId: new(uint64(3))}))
	require.NoError(t, node.Propose(t.Context(), []byte("it is removed")))
	require.Equal(t, "it is removed", <-applied)
	gone.Send([]*raftpb.Message{{Type: raftpb.MsgHeartbeatResp.Enum(), From: new(uint64(3)), To: new(uint64(1)), Term: new(uint64(1))}})
	require.ErrorIs(t, <-gone.ErrorC, rafthttp.ErrMemberRemoved)

	other.removed.Store(true)
	require.ErrorIs(t, <-ended, rafthttp.ErrMemberRemoved)
}

// startedOther is another member, whose raft is deaf.
type startedOther struct {
	*rafthttp.Transport
	*remover
	url string
}

func startOther(t *testing.T, id types.ID) startedOther {
	t.Helper()
	o := startedOther{remover: &remover{}}
	o.Transport = &rafthttp.Transport{ID: id, ClusterID: readmeCluster, Raft: o.remover, ErrorC: make(chan error, 1)}
	require.NoError(t, o.Start())
	t.Cleanup(o.Stop)
	srv := httptest.NewServer(o.Handler())
	t.Cleanup(srv.Close)
	o.url = srv.URL
	return o
}
