package groups

import (
	"sync"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp/internal/fair"
)

// TestReplicas: each replica is found by its id until it is removed or replaced, whether it is one of the first two or not.
func TestReplicas(t *testing.T) {
	var rs replicas
	all := map[uint64]*replica{}
	check := func() {
		t.Helper()
		for id := range uint64(8) {
			require.Equal(t, all[id], rs.find(id), id)
		}
		require.Len(t, rs.all(), len(all))
		for _, r := range rs.all() {
			require.Same(t, all[r.id], r)
		}
	}
	put := func(id uint64) {
		r := &replica{id: id}
		rs.put(r, all[id])
		all[id] = r
		check()
	}
	remove := func(id uint64) {
		rs.remove(all[id])
		delete(all, id)
		check()
	}
	check()
	for id := uint64(1); id <= 5; id++ {
		put(id)
	}
	for id := uint64(1); id <= 5; id++ {
		put(id) // on another node
	}
	remove(1)
	remove(4)
	put(6) // in the place of the first
	remove(2)
	for id := range all {
		remove(id)
	}
	put(0)
}

// TestReplicasWhileTheyChange: a replica that stays is found at any time, and no other one by its id.
func TestReplicasWhileTheyChange(t *testing.T) {
	var rs replicas
	stays := &replica{id: 1}
	rs.put(stays, nil)
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		for i := range uint64(20000) {
			r := &replica{id: 2 + i%2}
			rs.put(r, nil)
			rs.remove(r)
		}
	})
	for range 20000 {
		require.Same(t, stays, rs.find(1))
		for id := uint64(2); id <= 3; id++ {
			if r := rs.find(id); r != nil {
				require.Equal(t, id, r.id)
			}
		}
	}
}

// TestSizes: there are ten thousand groups, each with two replicas.
func TestSizes(t *testing.T) {
	require.LessOrEqual(t, unsafe.Sizeof(Group{}), uintptr(200)) // with a pointer 208: the allocator has places of this size
	require.LessOrEqual(t, unsafe.Sizeof(replica{}), uintptr(256))
	t.Log(unsafe.Sizeof(Group{}), unsafe.Sizeof(replica{}), unsafe.Sizeof(sender{}), unsafe.Sizeof(fair.Flow{}), unsafe.Sizeof(fair.Inbox{}))
}

// TestCallsOfRemovedReplicasAreForgotten once they have returned, also if the replica does not come back: ids are not used again.
func TestCallsOfRemovedReplicasAreForgotten(t *testing.T) {
	g := new(Group)
	for id := range uint64(100) {
		returned := make(chan struct{})
		g.ends(id, []<-chan struct{}{returned})
		require.Len(t, g.earlierCalls(id), 1)
		close(returned)
	}
	require.LessOrEqual(t, len(g.rare.earlier), 1)
}
