// Package latency_test has clusters of real raft nodes in which one follower is slow, for one reason at a time: Status has to
// name the right one, and the part.
package latency_test

import (
	"context"
	"io"
	"log"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/goleak"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/memnet"
	"github.com/seed-4d73690b/rafthttp/memnet/rafttest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	leader, healthy, slow = 1, 2, 3
	members               = 3
)

// cluster is three members, of which the first leads.
type cluster struct {
	*rafttest.Cluster
	nodes [members + 1]*node // by id
	lead  atomic.Uint64      // who leads, as far as elect knows
}

// start starts the cluster with lines of this round trip and disks that need so long for an fsync, and returns once member 1
// leads.
func start(t *testing.T, rtt, fsync time.Duration, tune func(uint64, *rafthttp.Transport), network ...memnet.Option) *cluster {
	t.Helper()
	c := &cluster{}
	if network == nil {
		network = []memnet.Option{memnet.WithSockets(256<<10, 256<<10)}
	}
	c.Cluster = rafttest.New(t, rafttest.Config{Members: members, Network: network, Tune: tune})
	for from := uint64(1); from <= members; from++ {
		for to := uint64(1); to <= members; to++ {
			c.Link(from, to).SetDelay(rtt / 2)
		}
	}
	t.Cleanup(func() {
		for _, n := range c.nodes[1:] {
			n.stop()
		}
	})
	for id := uint64(1); id <= members; id++ {
		storage := raft.NewMemoryStorage()
		require.NoError(t, storage.ApplySnapshot(&raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{
			Index: new(uint64(1)), Term: new(uint64(1)), ConfState: &raftpb.ConfState{Voters: []uint64{1, 2, 3}},
		}}))
		c.run(id, storage, fsync)
	}
	time.Sleep(time.Second) // streams
	c.elect(t, leader)
	return c
}

// elect makes a member the leader.
func (c *cluster) elect(t *testing.T, id uint64) {
	t.Helper()
	for range 100 {
		st := c.nodes[id].raft.Status()
		switch {
		case st.RaftState == raft.StateLeader:
			c.lead.Store(id)
			return
		case st.Lead != 0:
			c.nodes[st.Lead].raft.TransferLeadership(t.Context(), st.Lead, id)
		default:
			_ = c.nodes[id].raft.Campaign(t.Context())
		}
		time.Sleep(200 * time.Millisecond)
	}
	require.FailNow(t, "no leader")
}

// run starts a member with a log.
func (c *cluster) run(id uint64, storage *raft.MemoryStorage, fsync time.Duration) {
	n := &node{id: id, storage: storage, ended: make(chan struct{})}
	n.fsync.Store(int64(fsync))
	n.raft = raft.RestartNode(&raft.Config{
		ID: id, ElectionTick: 10, HeartbeatTick: 1, Storage: storage, MaxSizePerMsg: 1 << 20, MaxInflightMsgs: 512,
		CheckQuorum: true, PreVote: true, Logger: &raft.DefaultLogger{Logger: log.New(io.Discard, "", 0)},
	})
	n.member = c.Start(id, n)
	ctx, cancel := context.WithCancel(context.Background())
	n.cancel = cancel
	c.nodes[id] = n
	go n.loop(ctx)
}

// peer is what a member knows of another.
func (c *cluster) peer(t *testing.T, at, id uint64) rafthttp.PeerStatus {
	t.Helper()
	for _, p := range c.nodes[at].member.Status().Peers {
		if p.ID == types.ID(id) {
			return p
		}
	}
	require.FailNow(t, "no such peer")
	return rafthttp.PeerStatus{}
}

// node is a raft node with a log in memory, a disk that takes its time, and the Raft of its transport.
type node struct {
	id      uint64
	raft    raft.Node
	storage *raft.MemoryStorage
	member  *rafttest.Member
	cancel  context.CancelFunc
	ended   chan struct{}
	once    sync.Once
	fsync   atomic.Int64 // how long a save takes
	process atomic.Int64 // how long Process needs for an append
	stall   atomic.Int64 // how long the Ready loop stands still next
}

func (n *node) stop() {
	n.once.Do(func() {
		n.member.Stop()
		n.cancel()
		<-n.ended
	})
}

// loop is the Ready loop, as that of a server that saves before it sends.
func (n *node) loop(ctx context.Context) {
	defer close(n.ended)
	defer n.raft.Stop()
	ticks := time.NewTicker(100 * time.Millisecond)
	defer ticks.Stop()
	go func() { // ticks do not wait for the disk
		for {
			select {
			case <-ticks.C:
				n.raft.Tick()
			case <-ctx.Done():
				return
			}
		}
	}()
	for {
		select {
		case rd := <-n.raft.Ready():
			time.Sleep(time.Duration(n.stall.Swap(0)))
			leads := rd.SoftState != nil && rd.RaftState == raft.StateLeader || n.raft.Status().RaftState == raft.StateLeader
			if leads { // as raft allows: in parallel with the disk
				n.member.Send(rd.Messages)
			}
			if len(rd.Entries) > 0 {
				time.Sleep(time.Duration(n.fsync.Load()))
			}
			_ = n.storage.Append(rd.Entries)
			if !raft.IsEmptyHardState(rd.HardState) {
				_ = n.storage.SetHardState(rd.HardState)
			}
			if !leads {
				n.member.Send(rd.Messages)
			}
			n.raft.Advance()
		case <-ctx.Done():
			return
		}
	}
}

// Process implements rafthttp.Raft.
func (n *node) Process(ctx context.Context, m *raftpb.Message) error {
	if d := n.process.Load(); d > 0 && m.GetType() == raftpb.MsgApp {
		time.Sleep(time.Duration(d))
	}
	return n.raft.Step(ctx, m)
}

func (n *node) IsIDRemoved(uint64) bool { return false }

func (n *node) ReportUnreachable(id uint64) { n.raft.ReportUnreachable(id) }

func (n *node) ReportSnapshot(id uint64, s raft.SnapshotStatus) { n.raft.ReportSnapshot(id, s) }

// load proposes entries of this size, so many a second, until ctx ends.
func (c *cluster) load(t *testing.T, size, each int) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	t.Cleanup(func() { cancel(); wg.Wait() })
	wg.Go(func() {
		tick := time.NewTicker(time.Second / time.Duration(each))
		defer tick.Stop()
		data := make([]byte, size)
		for {
			select {
			case <-tick.C:
				_ = c.nodes[c.lead.Load()].raft.Propose(ctx, data)
			case <-ctx.Done():
				return
			}
		}
	})
}
