package main

// boundMutants hold more than they may.
var boundMutants = []mutant{
	{
		name: "lane-bound-ignored", wrong: "queues have no bound", breaks: "bounds of lanes",
		edits: []edit{{"internal/queue/fifo.go", "return f.held == 0 || (f.held < limits.Messages && f.heldBytes+size <= limits.Bytes)", "return true"}},
	},
	{
		name: "budget-ignored", wrong: "MaxQueuedBytes has no effect", breaks: "bounds of the budget",
		edits: []edit{{"internal/queue/budget.go", "if used+n > limit {", "if used+n > limit && b.max < 0 {"}},
	},
	{
		name: "message-bound-ignored", wrong: "a received message may have any size", breaks: "MaxMessageBytes",
		edits: []edit{{"config.go", "s.MessageLimits = wire.Limits{MaxMessageBytes: uint64(maxMessage)}", "s.MessageLimits = wire.Limits{MaxMessageBytes: maxSize}"}},
	},
	{
		name: "goroutine-leaked", wrong: "each stream leaves a goroutine behind", breaks: "bound of goroutines",
		edits: []edit{{"internal/stream/attachment.go", "\t\ta.member.Log.Info(\"established a stream to the peer\", zap.Stringer(\"stream\", a.kind))", "\t\ta.member.Spawn(func() { <-a.member.Ctx.Done() })"}},
	},
	{
		name: "goroutine-outlives-stop", wrong: "each stream leaves a goroutine behind, which Stop does not wait for", breaks: "no goroutine once Stop has returned",
		edits: []edit{{"internal/stream/attachment.go", "\t\ta.member.Log.Info(\"established a stream to the peer\", zap.Stringer(\"stream\", a.kind))", "\t\tgo func() { time.Sleep(time.Hour) }()"}},
	},
	{
		name: "connection-leaked", wrong: "the connection of a stream that ended is kept", breaks: "bound of descriptors",
		edits: []edit{{"internal/stream/reader.go", "\ts.conn.Close()\n\ts.stop()", "\t_ = s.stop"}},
	},
	{
		name: "log-unlimited", wrong: "lines of the log have no limit", breaks: "bound of log lines",
		edits: []edit{{"internal/callback/asynclog.go", "!limit.rate.Allow()", "(!limit.rate.Allow() && limit == nil)"}},
	},
	{
		name: "posts-unlimited", wrong: "any number of posts is taken at once", breaks: "bounds of posts",
		edits: []edit{
			{"internal/postlimit/postlimit.go", "if of.reading >= maxPostsPerMember || l.all.reading >= maxPosts || !isPeer && l.others.reading >= maxPostsOfOthers {", "if of.reading < 0 {"},
			{"internal/postlimit/postlimit.go", "if c.waiting[k] >= limits[i] {", "if c.waiting[k] >= 1000*limits[i] {"},
		},
	},
	{
		name: "snapshots-unlimited", wrong: "any number of snapshots is sent, and received, at once", breaks: "MaxSnapshots",
		edits: []edit{
			{"internal/snapshot/places.go", "return &places{max: max,", "return &places{max: 1000 * max,"},
		},
	},
}
