package server_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp/examples/kv/internal/client"
	"github.com/seed-4d73690b/rafthttp/examples/kv/internal/crashdisk"
	"github.com/seed-4d73690b/rafthttp/examples/kv/internal/server"
	"github.com/seed-4d73690b/rafthttp/examples/kv/internal/storage"
)

// life is a cluster of members that are started again when they crash.
type life struct {
	*cluster
	disks map[uint64]*crashdisk.Disk
	alive map[uint64]*lifetime
	acked []string
}

// lifetime is a member from when it is to run until it is not any more.
type lifetime struct {
	stop  context.CancelFunc
	ended chan struct{}

	mu      sync.Mutex
	server  *server.Server // nil: it starts
	removed bool
}

func (lt *lifetime) set(s *server.Server) {
	lt.mu.Lock()
	defer lt.mu.Unlock()
	lt.server = s
}

// role is how the member sees itself; empty: it does not run.
func (lt *lifetime) role() string {
	lt.mu.Lock()
	defer lt.mu.Unlock()
	if lt.server == nil {
		return ""
	}
	return lt.server.Status().Role
}

// begin has a member run, whatever happens to it, until end or its removal.
func (l *life) begin(id uint64) {
	ctx, stop := context.WithCancel(l.t.Context())
	lt := &lifetime{stop: stop, ended: make(chan struct{})}
	l.alive[id] = lt
	cfg, disk := l.configs[id], l.disks[id]
	cfg.Storage = storage.Options{Disk: disk, MmapBytes: 1 << 16} // files are small, too
	go func() {
		defer close(lt.ended)
		for ctx.Err() == nil {
			err := lt.once(ctx, cfg)
			if disk.Crashed() {
				err = disk.Restart()
			} else if errors.Is(err, server.ErrRemoved) {
				lt.removed = true
				return
			}
			if !assert.NoError(l.t, err, "member %d", id) {
				return
			}
		}
	}()
}

// once runs the member until it ends.
func (lt *lifetime) once(ctx context.Context, cfg server.Config) error {
	s, err := server.Start(context.Background(), cfg)
	if err != nil {
		return err
	}
	lt.set(s)
	defer lt.set(nil)
	select {
	case <-s.Done():
	case <-ctx.Done():
		s.Kill()
	}
	return s.Err()
}

func (l *life) end(id uint64) {
	l.alive[id].stop()
	<-l.alive[id].ended
}

// write writes keys through some members, and notes those that were acknowledged.
func (l *life) write(n int, through ...uint64) {
	var urls []string
	for _, id := range through {
		urls = append(urls, l.configs[id].ClientURL)
	}
	cl, err := client.New(urls...)
	require.NoError(l.t, err)
	defer cl.Close()
	for range n {
		key := fmt.Sprint(len(l.acked))
		put(l.t, cl, key, "value of "+key)
		l.acked = append(l.acked, key)
	}
}

func (l *life) awaitVoter(id uint64) {
	l.t.Helper()
	l.await(fmt.Sprintf("member %d to vote", id), func() bool {
		return slices.Contains([]string{"follower", "leader"}, l.alive[id].role())
	})
}

// newLife has no members yet. 1 and 3 will found the cluster, and 2 will join it.
// The victim has this loop, and of the others one has each.
func newLife(t *testing.T, victim uint64, async bool) *life {
	l := &life{
		cluster: &cluster{t: t, configs: make(map[uint64]server.Config), running: make(map[uint64]*server.Server)},
		disks:   make(map[uint64]*crashdisk.Disk),
		alive:   make(map[uint64]*lifetime),
	}
	for id := uint64(1); id <= 3; id++ {
		cfg := l.config(id)
		cfg.Logger = nil // crashes are loud
		cfg.CompactEntries, cfg.KeepEntries = 10, 3
		if cfg.AsyncStorageWrites = async; id != victim {
			cfg.AsyncStorageWrites = (id+victim)%3 == 0
		}
		l.configs[id], l.disks[id] = cfg, &crashdisk.Disk{}
	}
	founders := map[uint64]string{1: l.configs[1].PeerURL, 3: l.configs[3].PeerURL}
	for id, cfg := range l.configs {
		if cfg.Join = l.configs[3].ClientURL; founders[id] != "" {
			cfg.Bootstrap, cfg.Join = founders, ""
		}
		l.configs[id] = cfg
	}
	return l
}

// live is the script: found, write, compact, join by snapshot, install another over what is there, start again, leave, and
// die all at once.
func (l *life) live() {
	l.begin(1)
	l.begin(3)
	l.write(20, 1, 3)
	l.begin(2)
	l.awaitVoter(2)
	l.write(5, 2, 1, 3)
	l.end(2)
	l.write(30, 1, 3)
	l.begin(2)
	l.write(3, 2)
	l.end(1)
	l.begin(1)
	l.write(5, 1)
	cl, err := client.New(l.configs[3].ClientURL, l.configs[1].ClientURL)
	require.NoError(l.t, err)
	defer cl.Close()
	_, err = cl.RemoveMember(l.t.Context(), 2)
	require.NoError(l.t, err)
	<-l.alive[2].ended
	require.True(l.t, l.alive[2].removed)
	l.write(5, 1, 3)
	l.end(1)
	l.end(3)
	l.begin(1)
	l.begin(3)
	l.write(5, 1, 3)
}

// check looks at what is left: everything that was acknowledged, the same data at all members, and no other files.
func (l *life) check() {
	for _, id := range []uint64{1, 3} {
		cl, err := client.New(l.configs[id].ClientURL)
		require.NoError(l.t, err)
		defer cl.Close()
		for _, key := range l.acked {
			requireValue(l.t, cl, key, "value of "+key)
		}
	}
	one, three := l.client(1), l.client(3)
	l.await("the same data", func() bool {
		a, err := one.Digest(l.t.Context())
		require.NoError(l.t, err)
		b, err := three.Digest(l.t.Context())
		require.NoError(l.t, err)
		require.False(l.t, a.Applied == b.Applied && a.Hash != b.Hash, "after entry %d", a.Applied)
		return a.Applied == b.Applied
	})
	for id := range l.alive {
		l.end(id)
		for _, pattern := range []string{"sending/*", "snap/*.db", "*.new"} {
			left, err := filepath.Glob(filepath.Join(l.configs[id].DataDir, pattern))
			require.NoError(l.t, err)
			require.Empty(l.t, left, "member %d", id)
		}
	}
}

// crashPoint is the n-th call of a kind.
type crashPoint struct {
	what string
	n    int
}

// kindOf returns the kind of a call to the disk: all databases of snapshots are the same.
func kindOf(what string) string {
	if op, file, _ := strings.Cut(what, " "); strings.HasSuffix(file, ".snap.db") {
		return op + " snap.db"
	}
	return what
}

// crashPoints picks the last call of each kind, and for writes of every other victim one in the middle of a life. TestCrash of
// the storage has all.
func crashPoints(victim uint64, counts map[string]int) (points []crashPoint) {
	for _, what := range slices.Sorted(maps.Keys(counts)) {
		switch n := counts[what]; {
		case n <= 10:
			points = append(points, crashPoint{what, n})
		case victim%2 == 0:
			points = append(points, crashPoint{what, n / 2})
		default:
			points = append(points, crashPoint{what, n - 3})
		}
	}
	return points
}

// TestMembersCrash: a member dies in a call to the disk, and again soon after its restart, and the machine goes on, or
// loses what was not synced. The cluster gets through the rest of its life, and loses nothing that it acknowledged. With the
// race detector, every ninth of these lives is lived; tools/test has all of them without it.
func TestMembersCrash(t *testing.T) {
	counts := map[uint64]map[string]int{}
	clean := newLife(t, 1, true)
	for id, disk := range clean.disks {
		count := map[string]int{}
		counts[id] = count
		disk.Crashes = func(_ int, what string) *crashdisk.Crash {
			count[kindOf(what)]++
			return nil
		}
	}
	clean.live()
	clean.check()
	trials := make(chan func())
	var tries, crashes atomic.Int64
	var workers sync.WaitGroup
	for range 6 { // most of their time, members wait for each other
		workers.Go(func() {
			for try := range trials {
				try()
			}
		})
	}
	ways := slices.Sorted(maps.Keys(crashdisk.Crashes))
	for _, victim := range []uint64{1, 2} {
		for i, point := range crashPoints(victim, counts[victim]) {
			if server.RaceEnabled && (i+int(victim))%9 != 0 {
				continue
			}
			way := ways[(i+int(victim))%len(ways)]
			async := i%2 == 0
			name := fmt.Sprintf("member %d/%s %d/%s/async %t", victim, point.what, point.n, way, async)
			trials <- func() {
				t.Run(name, func(t *testing.T) {
					tries.Add(1)
					if crashAt(t, victim, async, point, crashdisk.Crashes[way], 1+(i*7)%25) {
						crashes.Add(1)
					}
				})
			}
		}
	}
	close(trials)
	workers.Wait()
	// No life is quite like the other, but most have the call that the first one had.
	require.Greater(t, crashes.Load(), tries.Load()*3/4)
}

// crashAt has a member die at a point of its life, and again some calls later. It says whether there was such a point.
func crashAt(t *testing.T, victim uint64, async bool, point crashPoint, crash crashdisk.Crash, later int) (crashed bool) {
	l := newLife(t, victim, async)
	var seen, again int
	l.disks[victim].Crashes = func(call int, what string) *crashdisk.Crash {
		if kindOf(what) == point.what {
			seen++
		}
		if again == 0 && kindOf(what) == point.what && seen == point.n {
			again = call + later
			return &crash
		}
		if call == again {
			return &crash
		}
		return nil
	}
	l.live()
	l.check()
	return again > 0
}
