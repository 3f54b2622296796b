package docs_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/bubble"
	"github.com/seed-4d73690b/rafthttp/memnet/rafttest"
)

// compacting is a cluster of three members that compact their logs.
type compacting struct {
	*rafttest.Cluster
	t           *testing.T
	every, keep uint64
	most        uint64
	disks       map[uint64]*crashDisk
	members     map[uint64]*compacter
	transports  map[uint64]*rafttest.Member
	ends        map[uint64]func()
	loops       sync.WaitGroup
	refuse      time.Time    // until then members can take no snapshots
	refused     atomic.Int32 // snapshots
	snapshots   atomic.Int32 // that were taken
}

func newCompacting(t *testing.T, every, keep, most uint64) *compacting {
	t.Helper()
	c := &compacting{
		Cluster: rafttest.New(t, rafttest.Config{Members: 3}), t: t, every: every, keep: keep, most: most, disks: map[uint64]*crashDisk{},
		members: map[uint64]*compacter{}, transports: map[uint64]*rafttest.Member{}, ends: map[uint64]func(){},
	}
	for id := uint64(1); id <= 3; id++ {
		c.disks[id] = newCrashDisk()
		require.NoError(t, found(c.disks[id], 1, 2, 3))
		c.start(id)
	}
	return c
}

// start starts a member from its disk. Its loop ends when end is called, or when the disk fails.
func (c *compacting) start(id uint64) {
	c.t.Helper()
	s, err := openStore(c.disks[id])
	require.NoError(c.t, err)
	m, err := startCompacter(id, s, c.every, c.keep, c.most)
	require.NoError(c.t, err)
	ctx, end := context.WithCancel(c.t.Context())
	c.members[id], c.transports[id] = m, c.Start(id, snapshotDoor{m, c})
	ended, t := make(chan struct{}), c.transports[id].Transport
	c.loops.Go(func() {
		defer close(ended)
		if err := m.run(ctx, t); err != nil && !errors.Is(err, errCrash) {
			c.t.Error(err)
		}
	})
	c.ends[id] = func() { end(); <-ended }
}

// crash ends a member by a loss of power and starts it again.
func (c *compacting) crash(id uint64, loss string) {
	c.ends[id]()
	c.transports[id].PowerLoss()
	c.disks[id] = c.disks[id].after(loss)
	c.start(id)
}

func (c *compacting) end() {
	for id := range c.ends {
		c.ends[id]()
	}
	c.loops.Wait()
}

// agree waits until all members have these values.
func (c *compacting) agree(want map[string]string) {
	c.t.Helper()
	for range 600 {
		same := 0
		for _, m := range c.members {
			if fmt.Sprint(m.copyOf()) == fmt.Sprint(want) {
				same++
			}
		}
		if same == len(c.members) {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	for id, m := range c.members {
		require.Equal(c.t, want, m.copyOf(), "member %d", id)
	}
}

// TestCompactionThroughCrashes: members lose power at any call to their disks, while others write. No confirmed value is lost, and all
// members end with the same state.
func TestCompactionThroughCrashes(t *testing.T) {
	for seed := range uint64(bubble.Runs(4, 1)) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, random, want := newCompacting(t, 10, 3, 10), rand.New(rand.NewPCG(seed, 0)), map[string]string{}
				kinds := make([]string, 0, len(losses))
				for loss := range losses {
					kinds = append(kinds, loss)
				}
				for i := range 40 {
					id := 1 + random.Uint64N(3)
					c.disks[id].failLater(1 + random.IntN(40))
					for j := range 15 {
						key, value := fmt.Sprint(j), fmt.Sprint(i)
						require.NoError(t, c.members[id%3+1].put(t.Context(), key, value))
						want[key] = value
					}
					c.crash(id, kinds[random.IntN(len(kinds))])
				}
				c.agree(want)
				require.Positive(t, c.snapshots.Load(), "too much is kept to test snapshots")
				c.end()
			})
		})
	}
}

// TestKeptEntriesSpareSnapshots: a follower that was away for 100 entries needs a snapshot only if the others kept fewer.
func TestKeptEntriesSpareSnapshots(t *testing.T) {
	for _, keep := range []uint64{200, 20} {
		t.Run(fmt.Sprint("keep ", keep), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, want := newCompacting(t, 50, keep, keep), map[string]string{}
				require.NoError(t, c.members[1].put(t.Context(), "0", "0"))
				leader := c.members[1].Status().Lead
				away := leader%3 + 1
				c.Partition([]uint64{away}, []uint64{leader, away%3 + 1})
				time.Sleep(10 * time.Second) // the leader knows that it is away
				for i := range 120 {
					want[fmt.Sprint(i)] = "1"
					require.NoError(t, c.members[leader].put(t.Context(), fmt.Sprint(i), "1"))
				}
				c.Heal()
				c.agree(want)
				if keep == 200 {
					require.Zero(t, c.snapshots.Load())
				} else {
					require.Positive(t, c.snapshots.Load())
				}
				c.end()
			})
		})
	}
}

// TestCompactTo: entries are kept for a follower that is behind, up to a limit.
func TestCompactTo(t *testing.T) {
	behind := tracker.Progress{State: tracker.StateReplicate, Match: 700, RecentActive: true}
	away := tracker.Progress{State: tracker.StateProbe, Match: 10}
	receiving := tracker.Progress{State: tracker.StateSnapshot, Match: 10, PendingSnapshot: 600, RecentActive: true}
	st := func(all ...tracker.Progress) raft.Status {
		st := raft.Status{BasicStatus: raft.BasicStatus{ID: 1}, Progress: map[uint64]tracker.Progress{1: {Match: 1}}}
		for i, p := range all {
			st.Progress[uint64(i+2)] = p
		}
		return st
	}
	for _, tt := range []struct {
		st                  raft.Status
		applied, keep, most uint64
		want                uint64
	}{
		{st(), 1000, 100, 500, 900},
		{st(), 50, 100, 500, 0},
		{st(behind), 1000, 100, 500, 700},
		{st(behind, receiving), 1000, 100, 500, 600},
		{st(behind, receiving), 1000, 100, 200, 800},
		{st(away), 1000, 100, 500, 900},
	} {
		require.Equal(t, tt.want, compactTo(tt.st, tt.applied, tt.keep, tt.most))
	}
}

// TestFailedSnapshotsAreReportedLate: a follower that cannot take its snapshot is sent few of them, although raft repeats a failed one at
// the next heartbeat. When it can, it gets one.
func TestFailedSnapshotsAreReportedLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, want := newCompacting(t, 10, 1, 1), map[string]string{"0": "1"}
		require.NoError(t, c.members[1].put(t.Context(), "0", "1"))
		leader := c.members[1].Status().Lead
		sick := leader%3 + 1
		c.Partition([]uint64{sick}, []uint64{leader, sick%3 + 1})
		time.Sleep(10 * time.Second) // what is on its way to it is lost
		for i := range 30 {
			want[fmt.Sprint(i)] = "1"
			require.NoError(t, c.members[leader].put(t.Context(), fmt.Sprint(i), "1"))
		}
		c.refuse = time.Now().Add(time.Minute)
		c.Heal()
		time.Sleep(time.Minute)
		require.InDelta(t, 6, int(c.refused.Load()), 1) // after 0, 1, 3, 7, 15 and 31 s
		for _, peer := range c.transports[leader].Status().Peers {
			if lane := peer.Lanes[2]; uint64(peer.ID) == sick {
				require.Equal(t, "pipeline", lane.Name)
				require.EqualValues(t, c.refused.Load(), lane.Drops.Refused)
			}
		}
		c.agree(want)
		require.EqualValues(t, 1, c.snapshots.Load())
		c.end()
	})
}

// snapshotDoor is the way of messages to a member.
type snapshotDoor struct {
	rafthttp.Raft
	c *compacting
}

func (d snapshotDoor) Process(ctx context.Context, m *raftpb.Message) error {
	if m.GetType() == raftpb.MsgSnap {
		if time.Now().Before(d.c.refuse) {
			d.c.refused.Add(1)
			return fmt.Errorf("no room for snapshot %d", m.GetSnapshot().GetMetadata().GetIndex())
		}
		d.c.snapshots.Add(1)
	}
	return d.Raft.Process(ctx, m)
}
