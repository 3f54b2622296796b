package main

// groupMutants are defects of raft groups that share a Transport, for the simulation of many groups.
var groupMutants = []mutant{
	{
		name: "group-of-another", wrong: "the messages of one read go to the group of the first", breaks: "a message reaches its group only", in: manyGroups,
		edits: []edit{{"internal/groups/receive.go", "found[i] = gs.all[items[i].Group]", "found[i] = gs.all[items[0].Group]"}},
	},
	{
		name: "group-former-replica", wrong: "a message for a former replica reaches the new one", breaks: "a message reaches its replica only", in: manyGroups,
		edits: []edit{{"internal/groups/receive.go", "gs.node.AuthorizeReplica(it.Msg, g.self, g.mayBeFrom(from", "gs.node.AuthorizeReplica(it.Msg, it.Msg.GetTo(), g.mayBeFrom(from"}},
	},
	{
		name: "group-message-twice", wrong: "a received proposal is processed twice", breaks: "each message at most once", in: manyGroups,
		edits: []edit{{"internal/groups/receive.go", "\terr = g.app.Raft.Process(ctx, m)\n", "\terr = g.app.Raft.Process(ctx, m)\n\tif k == queue.Proposal {\n\t\terr = g.app.Raft.Process(ctx, m)\n\t}\n"}},
	},
	{
		name: "group-snapshot-unreported", wrong: "a snapshot that fails is not reported", breaks: "one ReportSnapshot for each snapshot", in: manyGroups,
		edits: []edit{{"internal/groups/snapshots.go", "\ts.replica.group().snapshotEnded(s.replica.id, err)\n", "\tif err == nil {\n\t\ts.replica.group().snapshotEnded(s.replica.id, err)\n\t}\n"}},
	},
	{
		name: "group-snapshot-reported-twice", wrong: "a snapshot is reported twice", breaks: "one ReportSnapshot for each snapshot", in: manyGroups,
		edits: []edit{{"internal/groups/snapshots.go", "\ts.replica.group().snapshotEnded(s.replica.id, err)\n", "\ts.replica.group().snapshotEnded(s.replica.id, err)\n\ts.replica.group().snapshotEnded(s.replica.id, err)\n"}},
	},
	{
		name: "group-removed-untold", wrong: "a removed replica is not told", breaks: "ErrorC gets ErrMemberRemoved", in: manyGroups,
		edits: []edit{{"internal/groups/refusals.go", "\tcase wire.WasRemoved:\n\t\tg.tellRemoved()\n", "\tcase wire.WasRemoved:\n"}},
	},
	{
		name: "group-refused-is-removed", wrong: "a replica whose message is refused is told that it was removed", breaks: "ErrorC names removed replicas only", in: manyGroups,
		edits: []edit{{"internal/groups/refusals.go", "\t\tg.drops().refused.Add(1)\n", "\t\tg.drops().refused.Add(1)\n\t\tg.tellRemoved()\n"}},
	},
	{
		name: "group-blocks-others", wrong: "one call of Process runs at a time, of each kind", breaks: "a group that blocks does not delay the others", in: manyGroups,
		edits: []edit{{"internal/groups/groups.go", "const maxBlocked = 256", "const maxBlocked = 1"}},
	},
	{
		name: "group-takes-connections", wrong: "a replica that is removed takes the connections of all groups along", breaks: "the last replica takes the connections along", in: manyGroups,
		edits: []edit{{"internal/groups/groups.go", "last := n.users == 0 && gs.nodes", "last := n.users >= 0 && gs.nodes"}},
	},
}
