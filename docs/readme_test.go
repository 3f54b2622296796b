package docs_test

import (
	"context"
	"net"
	"net/http/httptest"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
)

// member adds to a raft.Node what the transport calls beside it.
type member struct{ raft.Node }

func (m member) Process(ctx context.Context, msg *raftpb.Message) error { return m.Step(ctx, msg) }
func (m member) IsIDRemoved(id uint64) bool                             { return false }

func run(node raft.Node, listener net.Listener, peers map[types.ID][]string, tick <-chan time.Time) error {
	t := &rafthttp.Transport{ID: 1, ClusterID: 0x1000, Raft: member{node}, ErrorC: make(chan error, 1)}
	if err := t.Start(); err != nil {
		return err
	}
	defer t.Stop()
	for id, urls := range peers { // such as 2: {"http://10.0.0.2:2380"}
		t.AddPeer(id, urls)
	}
	go rafthttp.NewServer(t.Handler()).Serve(listener) //nolint:errcheck // as short as can be
	for {
		select {
		case <-tick:
			node.Tick()
		case rd := <-node.Ready():
			save(rd.HardState, rd.Entries, rd.Snapshot) // durable before the messages go out
			t.Send(rd.Messages)
			apply(rd.CommittedEntries)
			node.Advance()
		case err := <-t.ErrorC: // another member says that this one was removed
			return err
		}
	}
}

// What the README leaves to the reader. The snippet has no log: this one is in memory.
var (
	memory  = raft.NewMemoryStorage()
	applied = make(chan string, 1)
)

func save(_ *raftpb.HardState, entries []*raftpb.Entry, _ *raftpb.Snapshot) {
	_ = memory.Append(entries)
}

func apply(entries []*raftpb.Entry) {
	for _, e := range entries {
		if e.GetType() == raftpb.EntryNormal && len(e.Data) > 0 {
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

// TestReadme runs the README's snippet as a cluster of one, until another member tells it that it was removed.
func TestReadme(t *testing.T) {
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

	other := &remover{}
	two := &rafthttp.Transport{ID: 2, ClusterID: 0x1000, Raft: other}
	require.NoError(t, two.Start())
	defer two.Stop()
	srv := httptest.NewServer(two.Handler())
	defer srv.Close()

	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	ended := make(chan error)
	go func() {
		ended <- run(node, own, map[types.ID][]string{2: {srv.URL}}, tick.C)
	}()
	require.NoError(t, node.Propose(t.Context(), []byte("hello")))
	require.Equal(t, "hello", <-applied)
	other.removed.Store(true)
	require.ErrorIs(t, <-ended, rafthttp.ErrMemberRemoved)
}
