package followers_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/bubble"
	"github.com/seed-4d73690b/rafthttp/memnet/rafttest"
)

// asyncDisk is what a member has after a crash: its log, and a state that is durable by itself, as that of a database is.
type asyncDisk struct {
	*raft.MemoryStorage

	mu      sync.Mutex // so that a snapshot is not installed while an entry is applied
	applied uint64
	state   []string
}

// asyncMember is a server around a RawNode with AsyncStorageWrites, built as docs/async-storage-writes.md says.
type asyncMember struct {
	mu   sync.Mutex // guards node
	node *raft.RawNode
	disk *asyncDisk
	net  *rafttest.Member

	ctx              context.Context
	cancel           context.CancelFunc
	wake             chan struct{}
	appends, applies chan *raftpb.Message
	running          sync.WaitGroup
	installed        int // snapshots
}

// newAsyncDisk is that of a member of a new cluster of three.
func newAsyncDisk() *asyncDisk {
	d := &asyncDisk{MemoryStorage: raft.NewMemoryStorage(), applied: 1}
	mustNot(d.ApplySnapshot(&raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{
		Index: new(uint64(1)), Term: new(uint64(1)), ConfState: &raftpb.ConfState{Voters: []uint64{1, 2, 3}},
	}}))
	return d
}

// propose does so where a member runs; raft may lose it.
func (m *asyncMember) propose(t *testing.T, command string) {
	t.Helper()
	if m == nil {
		return
	}
	err := m.with(func(n *raft.RawNode) error { return n.Propose([]byte(command)) })
	require.True(t, err == nil || errors.Is(err, raft.ErrProposalDropped), "%v", err)
}

func startAsyncMember(t *testing.T, c *rafttest.Cluster, id uint64, disk *asyncDisk) *asyncMember {
	t.Helper()
	m := &asyncMember{disk: disk, wake: make(chan struct{}, 1), appends: make(chan *raftpb.Message, 64), applies: make(chan *raftpb.Message, 64)}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	hs, _, err := disk.InitialState()
	require.NoError(t, err)
	if hs.GetCommit() < disk.applied { // the threads do not wait for each other
		hs = &raftpb.HardState{Term: new(hs.GetTerm()), Vote: new(hs.GetVote()), Commit: new(disk.applied)}
		require.NoError(t, disk.SetHardState(hs))
	}
	m.node, err = raft.NewRawNode(&raft.Config{
		ID: id, ElectionTick: 10, HeartbeatTick: 1, Storage: disk, Applied: disk.applied, MaxSizePerMsg: 1 << 10, MaxInflightMsgs: 16,
		CheckQuorum: true, PreVote: true, AsyncStorageWrites: true, Logger: &raft.DefaultLogger{Logger: log.New(io.Discard, "", 0)},
	})
	require.NoError(t, err)
	m.net = c.Start(id, m)
	m.running.Go(m.loop)
	m.running.Go(m.appendThread)
	m.running.Go(m.applyThread)
	return m
}

// crash ends the member in the middle of what it does.
func (m *asyncMember) crash(end func(*rafttest.Member)) {
	m.cancel()
	end(m.net)
	m.running.Wait()
}

// with calls f under the lock of the node, and has the loop look what came of it.
func (m *asyncMember) with(f func(*raft.RawNode) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	err := f(m.node)
	select {
	case m.wake <- struct{}{}:
	default:
	}
	return err
}

func (m *asyncMember) step(msg *raftpb.Message) error {
	return m.with(func(n *raft.RawNode) error { return n.Step(msg) })
}

func (m *asyncMember) Process(_ context.Context, msg *raftpb.Message) error { return m.step(msg) }
func (m *asyncMember) IsIDRemoved(uint64) bool                              { return false } // the members never change
func (m *asyncMember) ReportUnreachable(id uint64) {
	_ = m.with(func(n *raft.RawNode) error { n.ReportUnreachable(id); return nil })
}

func (m *asyncMember) ReportSnapshot(id uint64, st raft.SnapshotStatus) {
	_ = m.with(func(n *raft.RawNode) error { n.ReportSnapshot(id, st); return nil })
}

// handTo gives a message to a thread.
func (m *asyncMember) handTo(thread chan<- *raftpb.Message, msg *raftpb.Message) {
	select {
	case thread <- msg:
	case <-m.ctx.Done():
	}
}

func (m *asyncMember) loop() {
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			_ = m.with(func(n *raft.RawNode) error { n.Tick(); return nil })
		case <-m.wake:
			for msgs := m.ready(); msgs != nil; msgs = m.ready() {
				peers, appends, applies := rafthttp.SplitMessages(msgs)
				m.net.Send(peers)
				for _, a := range appends {
					m.handTo(m.appends, a)
				}
				for _, a := range applies {
					m.handTo(m.applies, a)
				}
			}
		case <-m.ctx.Done():
			return
		}
	}
}

func (m *asyncMember) ready() []*raftpb.Message {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ctx.Err() != nil || !m.node.HasReady() {
		return nil
	}
	return append([]*raftpb.Message{}, m.node.Ready().Messages...)
}

// appendThread writes all that waits at once, and syncs once.
func (m *asyncMember) appendThread() {
	for {
		var batch []*raftpb.Message
		select {
		case a := <-m.appends:
			batch = append(batch, a)
		case <-m.ctx.Done():
			return
		}
		for len(m.appends) > 0 {
			batch = append(batch, <-m.appends)
		}
		select {
		case <-time.After(time.Duration(rand.IntN(20)) * time.Millisecond):
		case <-m.ctx.Done():
			return // it crashed before the end of fsync: all is lost
		}
		for _, a := range batch {
			m.write(a)
		}
		for _, a := range batch {
			mustNot(rafthttp.DeliverResponses(a, m.step, m.net.Send))
		}
	}
}

func mustNot(err error) {
	if err != nil {
		panic(err)
	}
}

func (m *asyncMember) write(a *raftpb.Message) {
	d := m.disk
	d.mu.Lock()
	defer d.mu.Unlock()
	if s := a.GetSnapshot(); !raft.IsEmptySnap(s) {
		mustNot(d.ApplySnapshot(s))
		d.applied = s.GetMetadata().GetIndex()
		mustNot(json.Unmarshal(s.GetData(), &d.state))
		m.installed++
	}
	mustNot(d.Append(a.GetEntries()))
	if hs := (&raftpb.HardState{Term: a.Term, Vote: a.Vote, Commit: a.Commit}); !raft.IsEmptyHardState(hs) {
		mustNot(d.SetHardState(hs))
	}
}

func (m *asyncMember) applyThread() {
	for {
		select {
		case a := <-m.applies:
			m.apply(a)
			mustNot(rafthttp.DeliverResponses(a, m.step, m.net.Send))
			m.compact()
		case <-m.ctx.Done():
			return
		}
	}
}

func (m *asyncMember) apply(a *raftpb.Message) {
	d := m.disk
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, e := range a.GetEntries() {
		if e.GetIndex() <= d.applied {
			continue // a snapshot was installed meanwhile
		}
		d.applied = e.GetIndex()
		if len(e.Data) > 0 {
			d.state = append(d.state, string(e.Data))
		}
	}
}

// compact makes a snapshot now and then. raft has heard that its entries are applied: until then it may read them again.
func (m *asyncMember) compact() {
	d := m.disk
	d.mu.Lock()
	defer d.mu.Unlock()
	if s, err := d.Snapshot(); err == nil && d.applied >= s.GetMetadata().GetIndex()+20 {
		data, err := json.Marshal(d.state)
		mustNot(err)
		_, err = d.CreateSnapshot(d.applied, nil, data)
		mustNot(err)
		mustNot(d.Compact(d.applied))
	}
}

func (d *asyncDisk) has(command string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Contains(d.state, command)
}

// TestAsyncClusterRestarts: members with AsyncStorageWrites crash in the middle of what they write, one and all, come back, and
// fall behind by a snapshot. Nothing that was applied is lost, and all end with the same.
func TestAsyncClusterRestarts(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := rafttest.New(t, rafttest.Config{Members: 3})
		disks, members := map[uint64]*asyncDisk{}, map[uint64]*asyncMember{}
		installed := 0
		stop := func(id uint64, end func(*rafttest.Member)) {
			if m := members[id]; m != nil {
				require.Zero(t, m.net.Status().Drops)
				m.crash(end)
				installed += m.installed
				delete(members, id)
			}
		}
		t.Cleanup(func() {
			for id := range disks {
				stop(id, (*rafttest.Member).Stop)
			}
		})
		for id := uint64(1); id <= 3; id++ {
			disks[id] = newAsyncDisk()
			members[id] = startAsyncMember(t, c, id, disks[id])
		}
		draw := rand.New(rand.NewPCG(1, 2))
		var acknowledged []string
		for round := range 40 {
			for i := range 20 {
				command := fmt.Sprintf("%d/%d", round, i)
				members[draw.Uint64N(3)+1].propose(t, command)
				time.Sleep(time.Duration(draw.IntN(200)) * time.Millisecond)
				for _, d := range disks {
					if d.has(command) {
						acknowledged = append(acknowledged, command)
						break
					}
				}
			}
			for id := range uint64(3) {
				switch {
				case members[id+1] == nil && draw.IntN(4) > 0:
					members[id+1] = startAsyncMember(t, c, id+1, disks[id+1])
				case round%10 == 9 || draw.IntN(6) == 0: // all, now and then
					stop(id+1, []func(*rafttest.Member){(*rafttest.Member).Crash, (*rafttest.Member).PowerLoss, (*rafttest.Member).Stop}[draw.IntN(3)])
				}
			}
		}
		for id, d := range disks {
			if members[id] == nil {
				members[id] = startAsyncMember(t, c, id, d)
			}
		}
		time.Sleep(time.Minute)
		for id := range disks {
			stop(id, (*rafttest.Member).Stop)
		}
		require.NotEmpty(t, acknowledged)
		for id, d := range disks {
			require.Equal(t, disks[1].state, d.state, "member %d", id)
			require.Equal(t, disks[1].applied, d.applied, "member %d", id)
			require.Subset(t, d.state, acknowledged)
		}
		require.NotZero(t, installed, "a snapshot")
		t.Logf("%d commands applied, %d known so at once, %d snapshots installed", len(disks[1].state), len(acknowledged), installed)
	})
}
