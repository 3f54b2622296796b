package server_test

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp/examples/kv/internal/api"
	"github.com/seed-4d73690b/rafthttp/examples/kv/internal/server"
	"github.com/seed-4d73690b/rafthttp/examples/kv/internal/storage"
)

func TestJoinBySnapshotAndRemove(t *testing.T) {
	small := func(cfg *server.Config) { cfg.CompactEntries, cfg.KeepEntries = 50, 10 }
	c := newCluster(t, 3, small)
	cl := c.client()
	for i := range 200 {
		put(t, cl, fmt.Sprint(i), "v")
	}
	cfg := c.config(4)
	small(&cfg)
	cfg.Join = c.configs[c.follower()].ClientURL
	c.configs[4] = cfg
	joined := c.start(4)
	c.await("the new member to become a voter", func() bool {
		for _, m := range joined.Status().Members {
			if m.ID == 4 {
				return !m.Learner && joined.Status().Role == "follower"
			}
		}
		return false
	})
	require.Equal(t, uint64(1), joined.Status().Snapshots.Received)
	requireValue(t, c.client(4), "7", "v")
	c.requireSameData()

	// It restarts from what it has, without joining again.
	c.kill(4)
	put(t, cl, "while away", "v")
	joined = c.start(4)
	requireValue(t, c.client(4), "while away", "v")
	require.Zero(t, joined.Status().Snapshots.Received)

	// Removed, it stops by itself, and stays so.
	_, err := cl.RemoveMember(t.Context(), 4)
	require.NoError(t, err)
	select {
	case <-joined.Done():
	case <-time.After(patience):
		t.Fatal("a removed member goes on")
	}
	require.ErrorIs(t, joined.Err(), server.ErrRemoved)
	delete(c.running, 4)
	_, err = cl.RemoveMember(t.Context(), 4) // once more does no harm
	require.NoError(t, err)
	restarted, err := server.Start(t.Context(), c.configs[4])
	if err == nil { // it did not live to see its removal, and is told
		<-restarted.Done()
		err = restarted.Err()
	}
	require.ErrorIs(t, err, server.ErrRemoved)

	// Its id is used up.
	cfg = c.config(4)
	cfg.Join = c.configs[c.awaitLeader()].ClientURL
	_, err = server.Start(t.Context(), cfg)
	require.ErrorIs(t, err, api.ErrMemberRemoved)
	c.requireSameData()
}

// TestUnusedSnapshotsGo: a database that was saved and not installed does not stay, neither after a crash nor when raft did
// not want it.
func TestUnusedSnapshotsGo(t *testing.T) {
	c := newCluster(t, 1)
	cl := c.client()
	put(t, cl, "a", "1")
	applied := c.running[1].Status().Applied
	databases := func() (indexes []uint64) {
		files, err := filepath.Glob(filepath.Join(c.configs[1].DataDir, "snap", "*.snap.db"))
		require.NoError(t, err)
		for _, f := range files {
			index, err := strconv.ParseUint(strings.TrimSuffix(filepath.Base(f), ".snap.db"), 16, 64)
			require.NoError(t, err)
			indexes = append(indexes, index)
		}
		return indexes
	}
	for _, index := range []uint64{1, applied + 5, applied + 1000} {
		require.NoError(t, c.running[1].SaveSnapshot(index, "data"))
	}
	require.Contains(t, databases(), applied+5)
	for i := range 6 {
		put(t, cl, fmt.Sprint(i), "v")
	}
	c.await("the entries to make it superfluous", func() bool { return slices.Equal(databases(), []uint64{applied + 1000}) })
	c.kill(1)
	require.Equal(t, []uint64{applied + 1000}, databases())
	c.start(1)
	require.Empty(t, databases())
	requireValue(t, c.client(), "a", "1")
}

func TestRemoveLeader(t *testing.T) {
	c := newCluster(t, 3)
	leader := c.awaitLeader()
	cluster, err := c.client().RemoveMember(t.Context(), leader)
	require.NoError(t, err)
	require.Len(t, cluster.Members, 2)
	select {
	case <-c.running[leader].Done():
	case <-time.After(patience):
		t.Fatal("a removed leader goes on")
	}
	require.ErrorIs(t, c.running[leader].Err(), server.ErrRemoved)
	delete(c.running, leader)
	put(t, c.client(), "k", "v")
	c.requireSameData()
}

func TestMembershipRefusals(t *testing.T) {
	c := newCluster(t, 1)
	cl := c.client()
	_, err := cl.RemoveMember(t.Context(), 1)
	require.ErrorIs(t, err, api.ErrLastVoter)
	_, err = cl.RemoveMember(t.Context(), 9)
	require.ErrorIs(t, err, api.ErrMemberNotFound)

	for name, tc := range map[string]struct {
		m    storage.Member
		want error
	}{
		"no id":                 {storage.Member{PeerURL: "http://h:1", ClientURL: "http://h:2"}, api.ErrBadRequest},
		"no client URL":         {storage.Member{ID: 2, PeerURL: "http://h:1"}, api.ErrBadRequest},
		"bad peer URL":          {storage.Member{ID: 2, PeerURL: "h:1", ClientURL: "http://h:2"}, api.ErrBadRequest},
		"peer URL of another":   {storage.Member{ID: 2, PeerURL: c.configs[1].PeerURL, ClientURL: "http://h:2"}, api.ErrMemberExists},
		"id of another, voting": {storage.Member{ID: 1, PeerURL: "http://h:1", ClientURL: "http://h:2"}, api.ErrMemberExists},
	} {
		_, err := cl.AddMember(t.Context(), tc.m)
		require.ErrorIs(t, err, tc.want, name)
	}
	put(t, cl, "k", "v") // it is still a group of one
}

func TestMovedMember(t *testing.T) {
	c := newCluster(t, 3)
	id := c.follower()
	c.kill(id)
	cfg := c.configs[id]
	cfg.PeerURL, cfg.ClientURL, cfg.Bootstrap = "http://"+freeAddress(t), "http://"+freeAddress(t), nil
	c.configs[id] = cfg
	c.start(id)
	c.await("the new address everywhere", func() bool {
		for _, s := range c.running {
			for _, m := range s.Status().Members {
				if m.ID == id && (m.PeerURL != cfg.PeerURL || m.ClientURL != cfg.ClientURL) {
					return false
				}
			}
		}
		return true
	})
	put(t, c.client(id), "k", "v")
	c.requireSameData()
}
