package promise_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp/chaos/promise"
	"github.com/seed-4d73690b/rafthttp/internal/faultpoint"
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

// TestFaultPointsOfGroups: what is promised of groups holds while fault points strike, and each of those in their code is hit.
func TestFaultPointsOfGroups(t *testing.T) {
	if !faultpoint.Enabled {
		t.Skip("needs -tags faultpoints")
	}
	var all promise.Report
	for seed := range uint64(3) {
		p := groupsOnly()
		p.Seed, p.Points = seed+1, true
		p.Events = append(p.Events,
			promise.Event{At: 3 * time.Second, Do: promise.GroupLeave, A: 2, Group: 2},
			promise.Event{At: 10 * time.Second, Do: promise.GroupGhost, A: 1, B: 2, Group: 1},
			promise.Event{At: 11 * time.Second, Do: promise.GroupRemove, A: 1, B: 2, Group: 1, For: time.Second, How: "busy"},
			promise.Event{At: 12 * time.Second, Do: promise.GroupPost, A: 1, B: 2, Group: 1},
			promise.Event{At: 13 * time.Second, Do: promise.GroupMove, A: 1, B: 2, Group: 2},
			promise.Event{At: 14 * time.Second, Do: promise.HalfOpen, A: 1, B: 2, For: time.Second},
		)
		if seed == 1 { // whose replicas are the last ones on their nodes, and which has no streams in one direction
			p.Groups, p.NoDial = p.Groups[:2], []promise.Way{{From: 1, To: 2}}
			for _, id := range []uint64{1, 2} {
				for _, at := range []time.Duration{15, 16, 17} {
					p.Events = append(p.Events, promise.Event{At: at * time.Second, Do: promise.GroupRemove, A: id, B: 3 - id, Group: uint64(at)%2 + 1, For: 2 * time.Second})
				}
			}
		}
		report, v := run(t, p, promise.Config{})
		if v != nil {
			fails(t, seed, p, v, "")
		}
		all.Add(report)
	}
	for _, p := range faultpoint.Table() {
		if p.Groups {
			require.NotZero(t, all.Count["fault point "+p.Name], p.Name)
		}
	}
}
