package main

// lossMutants lose messages, or reports of losses, or make up messages.
var lossMutants = []mutant{
	{
		name: "message-lost", wrong: "a stream leaves out one message in 40", breaks: "taken or reported",
		edits: []edit{
			{"internal/stream/writer.go", "// send writes the taken items to c", "var written atomic.Uint64\n\n// send writes the taken items to c"},
			{"internal/stream/writer.go", "c.enc.Append(&w.batch, it.Msg)", "if written.Add(1)%40 != 0 {\n\t\t\tc.enc.Append(&w.batch, it.Msg)\n\t\t}"},
		},
	},
	{
		name: "message-doubled", wrong: "a stream carries one message in 40 twice", breaks: "none twice",
		edits: []edit{
			{"internal/stream/writer.go", "// send writes the taken items to c", "var written atomic.Uint64\n\n// send writes the taken items to c"},
			{"internal/stream/writer.go", "c.enc.Append(&w.batch, it.Msg)", "c.enc.Append(&w.batch, it.Msg)\n\t\tif written.Add(1)%40 == 0 {\n\t\t\tc.enc.Append(&w.batch, it.Msg)\n\t\t}"},
		},
	},
	{
		name: "message-invented", wrong: "one received message in 40 has another index", breaks: "none invented",
		edits: []edit{
			{"internal/receive/receiver.go", "func (r *Receiver) processOne(it queue.Item) bool {", "var processed atomic.Uint64\n\nfunc (r *Receiver) processOne(it queue.Item) bool {"},
			{"internal/receive/receiver.go", "if t := it.Ticket(); t != nil {\n\t\treturn r.processTicket(t, it.Msg)", "if processed.Add(1)%40 == 0 {\n\t\tit.Msg.Index = new(it.Msg.GetIndex() + 1)\n\t}\n\tif t := it.Ticket(); t != nil {\n\t\treturn r.processTicket(t, it.Msg)"},
		},
	},
	{
		name: "term-changed", wrong: "one received heartbeat in 40 is of the next term", breaks: "none invented",
		edits: []edit{
			{"internal/receive/receiver.go", "func (r *Receiver) processOne(it queue.Item) bool {", "var processed atomic.Uint64\n\nfunc (r *Receiver) processOne(it queue.Item) bool {"},
			{"internal/receive/receiver.go", "if t := it.Ticket(); t != nil {\n\t\treturn r.processTicket(t, it.Msg)", "if processed.Add(1)%40 == 0 && it.Msg.GetType() == raftpb.MsgHeartbeat {\n\t\tit.Msg.Term = new(it.Msg.GetTerm() + 1)\n\t}\n\tif t := it.Ticket(); t != nil {\n\t\treturn r.processTicket(t, it.Msg)"},
		},
	},
	{
		name: "entries-miscounted", wrong: "an append behind one of several entries has a wrong index, in the short form of the msgapp stream", breaks: "none invented",
		edits: []edit{{"internal/wire/msgappv2.go", "\tm.commit = commit\n\td.pos.index += count", "\tm.commit = commit\n\td.pos.index++"}},
	},
	{
		name: "context-lost", wrong: "an append goes in the short form of the msgapp stream, which has no Context, if it has one", breaks: "none invented",
		edits: []edit{{"internal/wire/msgappv2.go", "m.Context == nil && len(m.Responses) == 0", "len(m.Responses) == 0"}},
	},
	{
		name: "batch-reversed", wrong: "what a stream brings at once is processed in reverse", breaks: "order in a lane",
		edits: []edit{
			{"peer.go", "return p.receivers.Receive(ctx, items, wait)", "slices.Reverse(items)\n\treturn p.receivers.Receive(ctx, items, wait)"},
			{"peer.go", "import (\n", "import (\n\t\"slices\"\n"},
		},
	},
	{
		name: "never-unreachable", wrong: "ReportUnreachable is never called", breaks: "taken or reported",
		edits: []edit{{"internal/callback/reports.go", "r.raft.ReportUnreachable(r.id)", "_ = r.raft"}},
	},
	{
		name: "drops-unreported", wrong: "messages that find no room, or wait for a stream that ends, are only counted", breaks: "taken or reported",
		edits: []edit{{"internal/member/member.go", "\tm.Reports.Unreachable()\n\tfor range snapshots {", "\tfor range snapshots {"}, {"internal/stream/attachment.go", "\tlose(cause)\n\ta.member.Reports.Unreachable()", "\tlose(cause)"}},
	},
	{
		name: "stream-end-unreported", wrong: "the end of a stream with nothing in its queue is not reported", breaks: "a broken connection is always reported",
		edits: []edit{{"internal/stream/attachment.go", "\tlose(cause)\n\ta.member.Reports.Unreachable()", "\tlose(cause)"}},
	},
	{
		name: "replaced-stream-unreported", wrong: "a stream that a newer connection replaces is not reported", breaks: "a broken connection is always reported",
		edits: []edit{{"internal/stream/attachment.go", "\t\ta.member.Reports.Unreachable() // messages on it that the peer has not read", ""}},
	},
	{
		name: "failed-post-unreported", wrong: "a post that fails is not reported", breaks: "taken or reported",
		edits: []edit{{"internal/pipeline/pipeline.go", "\t\tq.ForgetAppends()\n\t\tp.member.Lose(q, []queue.Item{it}, err)", "\t\tq.ForgetAppends()\n\t\tp.member.Drop(q, 1, err)"}},
	},
	{
		name: "withheld-unreported", wrong: "appends that a full queue withholds are not reported once it has drained", breaks: "taken or reported",
		edits: []edit{
			{"internal/queue/queue.go", "q.window.released(f, time.Since(q.born))", "(q.window.released(f, time.Since(q.born)) && q.onDrained == nil)"},
			{"internal/queue/append_window.go", "func (w *appendWindow) settle() bool {\n\towed := w.owed", "func (w *appendWindow) settle() bool {\n\towed := false"},
		},
	},
	{
		name: "window-stays-closed", wrong: "after a report of withheld appends those behind what was acknowledged are withheld as well", breaks: "taken or reported",
		edits: []edit{{"internal/queue/append_window.go", "if w.acked.Load() >= w.last { // raft may continue after it", "if w.acked.Load() > w.last+1<<40 { // raft may continue after it"}},
	},
	{
		name: "overtaken-too-many", wrong: "a snapshot that was taken drops all appends that wait, also those behind it", breaks: "taken or reported",
		edits: []edit{{"internal/queue/append_overtaken.go", "n > 0 && it.Msg.GetIndex()+n <= o.index &&", "n > 0 &&"}},
	},
	{
		name: "others-withheld-unreported", wrong: "withheld appends with a Context are not reported", breaks: "taken or reported",
		edits: []edit{
			{"internal/queue/append_window.go", "due := w.others && f.held == f.tracked.messages", "due := false"},
			{"internal/queue/append_window.go", "return w.reset() || others", "return w.reset() || (others && false)"},
		},
	},
	{
		name: "copies-skipped-after-loss", wrong: "an append that was lost with its stream is taken for a copy when raft sends it again", breaks: "taken or reported",
		edits: []edit{
			{"internal/queue/queue.go", "\t\tq.window.reset() // a stream that was replaced is reported", "\t\t_ = q.window"},
			{"internal/queue/queue.go", "\t\towed = q.window.empty()", "\t\towed = q.window.settle()"},
			{"internal/queue/append_window.go", "return acked < w.last && w.active.Load() || next == w.end && acked < next", "return acked < w.last"},
		},
	},
	{
		name: "burst-tail-lost", wrong: "the last of 128 messages that a stream brings at once is lost", breaks: "taken or reported",
		edits: []edit{{"internal/stream/delivery.go", "\terr := d.to.Receive(d.ctx, d.items, d.wait)", "\tif len(d.items) == deliverMessages {\n\t\td.items = d.items[:deliverMessages-1]\n\t}\n\terr := d.to.Receive(d.ctx, d.items, d.wait)"}},
	},
	{
		name: "full-append-lane-drops", wrong: "an append that finds the lane full is dropped, in place of slowing its stream down", breaks: "a full append lane slows its stream down",
		edits: []edit{{"internal/receive/receiver.go", "patience = wait", "patience = 0 * wait"}},
	},
	{
		name: "dropped-with-room", wrong: "the receiver drops one batch of proposals in 10, and says that their lane was full", breaks: "a lane drops if it is full",
		edits: []edit{
			{"internal/receive/receiver.go", "func (r *Receiver) offer(ctx", "var offered atomic.Uint64\n\nfunc (r *Receiver) offer(ctx"},
			{"internal/receive/receiver.go", "\trest, v := items, queue.Accepted\n", "\tif r.Queue.Name() == \"proposal\" && offered.Add(1)%10 == 0 {\n\t\tr.Member.Drop(r.Queue, len(items), errs.ErrQueueFull)\n\t\treturn nil\n\t}\n\trest, v := items, queue.Accepted\n"},
		},
	},
	{
		name: "reported-twenty-times", wrong: "each loss is reported twenty times", breaks: "one report for any number of messages",
		edits: []edit{{"internal/callback/reports.go", "r.raft.ReportUnreachable(r.id)", "for range 20 {\n\t\t\t\tr.raft.ReportUnreachable(r.id)\n\t\t\t}"}},
	},
	{
		name: "losses-not-coalesced", wrong: "each loss is reported by itself, also those of which raft is not told yet", breaks: "one report for any number of messages",
		edits: []edit{
			{"internal/callback/reports.go", "\tunreachable bool ", "\tlosses int\n\tunreachable bool "},
			{"internal/callback/reports.go", "\tr.unreachable = true\n", "\tr.unreachable = true\n\tr.losses++\n"},
			{"internal/callback/reports.go", "\tr.unreachable, r.snapshots = false, nil\n", "\tlosses := r.losses\n\tr.losses, r.unreachable, r.snapshots = 0, false, nil\n"},
			{"internal/callback/reports.go", "r.raft.ReportUnreachable(r.id)", "for range losses {\n\t\t\t\tr.raft.ReportUnreachable(r.id)\n\t\t\t}"},
		},
	},
	{
		name: "report-for-nothing", wrong: "one in 500 of what a peer's streams bring at once makes raft believe that it is unreachable", breaks: "a healthy link loses nothing",
		edits: []edit{
			{"peer.go", "return p.receivers.Receive(ctx, items, wait)", "if brought.Add(1)%500 == 0 {\n\t\tp.member.Reports.Unreachable()\n\t}\n\treturn p.receivers.Receive(ctx, items, wait)"},
			{"peer.go", "func newPeer(", "var brought atomic.Uint64\n\nfunc newPeer("},
		},
	},
	{
		name: "proposal-posted-twice", wrong: "a post of a proposal is made again where its connection was being closed", breaks: "none twice",
		edits: []edit{{"internal/pipeline/post.go", "if t != raftpb.MsgProp {", "if t >= 0 {"}},
	},
}

// deliveryMutants call the application at the wrong time, with the wrong message, or in the wrong place.
var deliveryMutants = []mutant{
	{
		name: "callbacks-at-once", wrong: "reports, hooks and lines of the log of one member come at once", breaks: "one callback after another for each member",
		edits: []edit{{"internal/callback/notifier.go", "\t\tcall()\n", "\t\tn.wg.Go(call)\n"}},
	},
	{
		name: "state-told-twice", wrong: "PeerState is called twice for each change", breaks: "states are told in order",
		edits: []edit{{"internal/callback/events.go", "\te.add(&event{about: stateChange{}, call: func() { f(e.id, active, cause) }})", "\tfor range 2 {\n\t\te.add(&event{about: stateChange{}, call: func() { f(e.id, active, cause) }})\n\t}"}},
	},
	{
		name: "process-after-stop", wrong: "Stop and RemovePeer do not wait for the workers of lanes", breaks: "Stop, then silence",
		edits: []edit{{"internal/queue/workers.go", "q.cfg.Wait.Go(q.cfg.Work)", "go q.cfg.Work()"}},
	},
	{
		name: "report-after-stop", wrong: "Stop does not wait for reports, hooks and log lines", breaks: "Stop, then silence",
		edits: []edit{{"internal/callback/notifier.go", "\tn.mu.Unlock()\n\tn.wg.Wait()", "\tn.mu.Unlock()"}},
	},
	{
		name: "stop-waits-for-reader", wrong: "a Close of a snapshot's reader that hangs is waited for", breaks: "Stop within its bound",
		edits: []edit{{"internal/snapshot/transfer.go", "\tcase <-grace.C:\n\t\tlog.Warn(\"the reader of a database snapshot does not return from Close\")", "\tcase <-grace.C:\n\t\t<-closed"}},
	},
	{
		name: "stop-waits-for-body", wrong: "a request whose body stands still is not interrupted by Stop", breaks: "Stop within its bound",
		edits: []edit{
			{
				"http.go", "conn.NewRequestBody(q.engine.ctx, q.r.Body, q.r.ContentLength, q.engine.cfg.ReadTimeout, q.rc.SetReadDeadline)\n\tbody.RequireRate(q.engine.cfg.PostTimeout())\n",
				"conn.NewRequestBody(q.r.Context(), q.r.Body, q.r.ContentLength, 1000*q.engine.cfg.ReadTimeout, q.rc.SetReadDeadline)\n",
			},
		},
	},
	{
		name: "stop-lingers", wrong: "Stop waits for twice the read timeout before it ends anything", breaks: "Stop within its bound",
		edits: []edit{{"transport.go", "\te.cancel(ErrStopped)\n\tfor _, p := range peers {", "\ttime.Sleep(2 * e.cfg.ReadTimeout)\n\te.cancel(ErrStopped)\n\tfor _, p := range peers {"}},
	},
	{
		name: "errorc-never", wrong: "a member that was removed is not told", breaks: "ErrorC after removal",
		edits: []edit{{"internal/member/config.go", "errors.Is(err, protocol.ErrMemberRemoved) && c.ErrorC != nil {", "errors.Is(err, protocol.ErrMemberRemoved) && c.ErrorC == nil {"}},
	},
	{
		name: "heartbeat-behind-appends", wrong: "heartbeats go over the stream of appends", breaks: "a control message waits for no append",
		edits: []edit{{"internal/routing/routing.go", "\tcase raftpb.MsgApp:\n\t\treturn r.writers[stream.MsgAppV2].Queue", "\tcase raftpb.MsgApp, raftpb.MsgHeartbeat:\n\t\treturn r.writers[stream.MsgAppV2].Queue"}},
	},
	{
		name: "one-receive-lane", wrong: "what a peer sends waits for Process in one lane", breaks: "Process may block on one kind",
		edits: []edit{{"internal/receive/receiver.go", "{ return r[queue.KindOf(t)] }", "{ return r[queue.Control] }"}},
	},
	{
		name: "report-inside-send", wrong: "a loss that Send knows of is reported before it returns, under a lock", breaks: "Send calls nothing of Raft",
		edits: []edit{{"internal/callback/reports.go", "\tr.unreachable = true\n\tr.notifier.start()", "\tr.raft.ReportUnreachable(r.id)"}},
	},
	{
		name: "send-blocks", wrong: "Send waits up to 100 ms for room in a full queue", breaks: "Send never blocks",
		edits: []edit{
			{"internal/routing/routing.go", "\t\tn, lost, v, why := q.OfferRun(rest)\n", "\t\tn, lost, v, why := q.OfferRun(rest)\n\t\tfor i := 0; v == queue.Full && n == 0 && i < 100; i++ {\n\t\t\ttime.Sleep(time.Millisecond)\n\t\t\tn, lost, v, why = q.OfferRun(rest)\n\t\t}\n"},
			{"internal/routing/routing.go", "import (\n", "import (\n\t\"time\"\n"},
		},
	},
	{
		name: "link-heartbeats-off", wrong: "no link heartbeats", breaks: "an idle link stays up",
		edits: []edit{{"housekeeping.go", "\tif len(peers) == 0 {", "\tif len(peers) >= 0 {"}},
	},
	{
		name: "read-timeout-ignored", wrong: "a stream may be silent a thousand times as long", breaks: "a dead link is noticed",
		edits: []edit{{"internal/stream/dial.go", "conn.NewProgressReader(c, r.member.Cfg.ReadTimeout)", "conn.NewProgressReader(c, 1000*r.member.Cfg.ReadTimeout)"}},
	},
	{
		name: "byte-is-progress", wrong: "a byte now and then keeps a stream alive", breaks: "a dead link is noticed",
		edits: []edit{{"internal/conn/progress.go", "const progressBytes = 4 << 10", "const progressBytes = 1"}},
	},
	{
		name: "failed-post-deactivates", wrong: "a post that fails makes the peer inactive, although its streams are up", breaks: "a failed post says nothing while a stream is up",
		edits: []edit{{"internal/member/activity.go", "if a.posted = (time.Time{}); a.silent() {", "if a.posted = (time.Time{}); a.posted.IsZero() {"}},
	},
	{
		name: "stream-given-up", wrong: "a stream that was silent is not dialled again: what is sent goes by posts", breaks: "a silent stream is dialled again",
		edits: []edit{
			{"internal/stream/reader.go", "\t\"github.com/seed-4d73690b/rafthttp/internal/faultpoint\"\n", "\t\"github.com/seed-4d73690b/rafthttp/internal/errs\"\n\t\"github.com/seed-4d73690b/rafthttp/internal/faultpoint\"\n"},
			{"internal/stream/reader.go", "\t\tif !r.pause(delay - spent) {", "\t\tif errors.Is(err, errs.ErrStalled) || !r.pause(delay-spent) {"},
		},
	},
	{
		name: "slow-redial", wrong: "the pause between two dials grows to a minute", breaks: "recovered in 2 s",
		edits: []edit{{"internal/stream/reader.go", "maxRedialInterval = time.Second", "maxRedialInterval = time.Minute"}},
	},
	{
		name: "urls-never-changed", wrong: "a URL that fails is tried for ever, and the others never", breaks: "recovered in 2 s",
		edits: []edit{{"urlpick.go", "p.picked = (p.picked + 1) % len(p.urls)", "_ = p.picked"}},
	},
}
