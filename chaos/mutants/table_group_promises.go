package main

// groupPromiseMutants are defects of raft groups that the simulation of the promises must notice.
var groupPromiseMutants = []mutant{
	{
		name: "group-calls-after-stop", wrong: "Stop of a group does not wait for its callbacks", breaks: "no callback after Stop",
		edits: []edit{{"internal/groups/ending.go", "\tg.await()\n\tgrace :=", "\tgo g.await()\n\tgrace :="}},
	},
	{
		name: "group-sent-as-another", wrong: "the messages of one batch are written as those of the group of the first", breaks: "a message reaches its group only",
		edits: []edit{{"internal/stream/group_writer.go", "c.groups.Append(&w.batch, it.Flow.Group, it.Msg)", "c.groups.Append(&w.batch, items[0].Flow.Group, it.Msg)"}},
	},
	{
		name: "group-refusal-ignored", wrong: "raft is not told of a message that the other node refuses", breaks: "each message is processed or reported",
		edits: []edit{{"internal/groups/refusals.go", "\t\tgs.refusals.Add(1)\n\t\tr.unreachable()\n", "\t\tgs.refusals.Add(1)\n"}},
	},
	{
		name: "group-replica-not-refused", wrong: "a message for another replica is dropped without a refusal", breaks: "each message is processed or reported",
		edits: []edit{{"internal/groups/receive.go", "\t\trefuse(g.id, m, wire.NoSuchReplica)\n", "\t\t_ = wire.NoSuchReplica\n"}},
	},
	{
		name: "group-refused-once", wrong: "a refusal that was sent is not sent again, although another message was refused", breaks: "each message is processed or reported",
		edits: []edit{{"internal/stream/group_refusals.go", "\t\tt[r] = refusalAgain\n", "\t\tt[r] = refusalSent\n"}},
	},
	{
		name: "group-refused-by-stream-only", wrong: "a refusal without a stream is not sent by POST", breaks: "each message is processed or reported",
		edits: []edit{{"internal/groups/node.go", "\tn.postRefusals()\n", ""}},
	},
	{
		name: "group-removed-by-anybody", wrong: "anybody may post that a replica was removed", breaks: "ErrorC names removed replicas only",
		edits: []edit{{"internal/groups/posts_in.go", "gs.node.VerifyPeer == nil && r.Reason == wire.WasRemoved", "false"}},
	},
	{
		name: "group-loss-unreported", wrong: "groups are not told of a lost stream", breaks: "the loss of a stream is reported",
		edits: []edit{{"internal/groups/node.go", "\t\tfor _, r := range all {\n\t\t\tr.unreachable()\n\t\t}\n", ""}},
	},
	{
		name: "group-database-of-another", wrong: "a database is saved by the Snapshotter of the group with the lowest id", breaks: "the Snapshotter of the group saves it",
		edits: []edit{{
			"internal/groups/snapshots_in.go", "\tin := &incomingSnapshot{Request: r, group: g, saving: g.app.Store.Begin(r.Sender())}\n",
			"\tlowest := g\n\tgs.mu.RLock()\n\tfor id, other := range gs.all {\n\t\tif id < lowest.id && other.app.Store != nil {\n\t\t\tlowest = other\n\t\t}\n\t}\n\tgs.mu.RUnlock()\n" +
				"\tin := &incomingSnapshot{Request: r, group: g, saving: lowest.app.Store.Begin(r.Sender())}\n",
		}},
	},
	{
		name: "group-batch-reversed", wrong: "the messages of one batch are written in reverse", breaks: "order in a queue",
		edits: []edit{{"internal/stream/group_writer.go", "\tfor i, it := range items {\n\t\tc.groups.Append(", "\tfor a, b := 0, len(items)-1; a < b; a, b = a+1, b-1 {\n\t\titems[a], items[b] = items[b], items[a]\n\t}\n\tfor i, it := range items {\n\t\tc.groups.Append("}},
	},
	{
		name: "group-calls-at-once", wrong: "a replica that is added again does not wait for a call of Process with a message from before", breaks: "messages of one kind from one replica are processed one after another",
		edits: []edit{{"internal/groups/strangers.go", "\t\tafter.calls = g.rare.earlier[r.id]\n", "\t\t_ = g.rare.earlier[r.id]\n"}},
	},
	{
		name: "group-blocked-counts", wrong: "a call of Process that blocks counts as one that runs", breaks: "a group that blocks does not delay the others",
		edits: []edit{{"internal/fair/pool_workers.go", "\t\t\tw.blocked = true\n\t\t\tp.running--\n", "\t\t\tw.blocked = false\n"}},
	},
	{
		name: "group-message-lost", wrong: "of the messages of one batch the last is not written if there are many", breaks: "each message is processed or reported",
		edits: []edit{{"internal/stream/group_writer.go", "\t\tc.groups.Append(&w.batch, it.Flow.Group, it.Msg)\n", "\t\tif i < 15 {\n\t\t\tc.groups.Append(&w.batch, it.Flow.Group, it.Msg)\n\t\t}\n"}},
	},
	{
		name: "group-snapshot-end-twice", wrong: "the failure of a snapshot is reported twice", breaks: "one ReportSnapshot for each snapshot",
		edits: []edit{{"internal/groups/snapshots.go", "\tif err != nil {\n\t\ts.Of.Counters.FailedSnapshots.Add(1)\n", "\tif err != nil {\n\t\ts.replica.group().snapshotEnded(s.replica.id, err)\n\t\ts.Of.Counters.FailedSnapshots.Add(1)\n"}},
	},
}
