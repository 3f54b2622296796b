package promise_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp/chaos/promise"
)

// groupsOnly is a plan of members that have nothing but raft groups.
func groupsOnly() promise.Plan {
	return promise.Plan{
		Seed: 1, Length: 35 * time.Second, Members: make([]promise.Options, 2), NoRaft: true,
		Groups: []promise.Group{
			{Load: promise.Load{Appends: 10, Proposals: 5, Size: 100}}, {Own: true, Load: promise.Load{Appends: 5, Proposals: 5, Size: 100}}, {Own: true, Lacks: 2},
		},
		Events: []promise.Event{
			{At: 2 * time.Second, Do: promise.GroupSnapshot, A: 1, B: 2, Group: 1, N: 100_000, How: "twins"},
			{At: 4 * time.Second, Do: promise.GroupBlock, A: 2, Group: 1, How: "slow", For: 5 * time.Second},
			{At: 8 * time.Second, Do: promise.GroupStop, A: 2, Group: 2, How: "busy", For: time.Second},
			{At: 20 * time.Second, Do: promise.Cut, A: 1, B: 2, For: 12 * time.Second},
		},
	}
}

// TestGroupsOnly: what a small plan of groups must contain happens.
func TestGroupsOnly(t *testing.T) {
	report, v := run(t, groupsOnly(), promise.Config{})
	if v != nil {
		t.Fatal(v)
	}
	for _, name := range []string{"messages processed", "messages reported", "refused", "snapshots processed", "equal snapshots", "joined again"} {
		require.NotZero(t, report.Count["groups: "+name], name)
	}
	require.Zero(t, report.Count["messages processed"])
}

// TestSabotageOfGroupsIsNoticed: each judge that looks at groups in particular notices members that are wrong in it.
func TestSabotageOfGroupsIsNoticed(t *testing.T) {
	for _, judge := range []string{"reported", "order", "once", "invented", "addressee", "snapshot ends", "snapshot bytes", "silence", "isolation"} {
		t.Run(judge, func(t *testing.T) {
			_, v := run(t, groupsOnly(), promise.Config{Judge: judge}.WithSabotage(judge))
			require.NotNil(t, v, "nobody has noticed it")
			require.Equal(t, judge, v.Judge, v.Error())
			require.Contains(t, v.Text, "group")
		})
	}
}
