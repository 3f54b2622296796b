package operating_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/memnet"
)

// TestMajorityOfVoters: with SetConfState only the members that vote count for a majority. A learner that is being added takes no
// member out of service, and learners that are active do not hide that the voters are down.
func TestMajorityOfVoters(t *testing.T) {
	simulate(t, func(t *testing.T, n *memnet.Network) {
		a := transport(n, 1)
		a.SetConfState(&raftpb.ConfState{Voters: []uint64{1}})
		require.Equal(t, rafthttp.SeverityCritical, a.Health().Severity, "not started")
		all := []*node{a}
		require.NoError(t, a.Start())
		a.server = serve(t, n, host(1), a.Handler())
		t.Cleanup(a.Stop)
		for id := types.ID(2); id <= 6; id++ {
			all = append(all, start(t, n, id, nil))
		}
		kinds := func(m *node) (all []string) {
			time.Sleep(10 * time.Second)
			for _, p := range m.Health().Problems {
				all = append(all, p.Kind)
			}
			return all
		}
		voters := &raftpb.ConfState{Voters: []uint64{1}, Learners: []uint64{4}}
		a.SetConfState(voters)
		a.AddPeer(4, urls(9))
		require.Equal(t, []string{"peer_inactive"}, kinds(a), "a learner that does not run yet")
		a.SetConfState(nil)
		require.Equal(t, []string{"no_majority", "peer_inactive"}, kinds(a), "nobody says that it is one")
		a.SetConfState(voters)
		voters.Voters[0] = 9 // the transport has a copy
		require.Equal(t, []types.ID{1}, a.Status().Voters)
		a.Status().Voters[0] = 9
		require.Equal(t, []string{"peer_inactive"}, kinds(a))
		a.UpdatePeer(4, urls(4))

		meet(all...)
		state := &raftpb.ConfState{Voters: []uint64{1, 2, 3}, Learners: []uint64{4, 5, 6}}
		for _, m := range all {
			m.SetConfState(state)
		}
		require.Empty(t, kinds(a))
		all[1].Stop()
		require.Equal(t, []string{"peer_inactive"}, kinds(a))
		lost := time.Now()
		all[2].Stop()
		require.Equal(t, []string{"no_majority", "peer_inactive", "peer_inactive"}, kinds(a), "of 6 members 4 are active")
		p := a.Health().Problems[0]
		require.Equal(t, "1 of 3 voters active, no majority", p.Cause)
		require.WithinDuration(t, lost, p.Since, time.Second)
		requireHealth(t, a, rafthttp.SeverityCritical, a.Health().Problems...)
		require.Equal(t, "no_majority", kinds(all[4])[0], "by a learner, too")
		require.Equal(t, "1 of 3 voters active, no majority", all[4].Health().Problems[0].Cause)

		a.SetConfState(&raftpb.ConfState{Voters: []uint64{1, 4, 5}, VotersOutgoing: []uint64{1, 2, 3}})
		require.Equal(t, "no_majority", kinds(a)[0], "both majorities are needed")
		a.SetConfState(&raftpb.ConfState{Voters: []uint64{1, 4, 5}})
		require.Equal(t, []string{"peer_inactive", "peer_inactive"}, kinds(a))
		a.SetConfState(&raftpb.ConfState{Voters: []uint64{1, 7, 8}})
		require.Equal(t, "no_majority", kinds(a)[0], "voters that are not peers")
	})
}
