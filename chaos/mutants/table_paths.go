package main

// sendingPathMutants have the defects back that were found beside the main path: kinds of messages that wait for each other,
// and messages that are not ours.
var sendingPathMutants = []mutant{
	{
		name: "posts-in-one-queue", wrong: "posts of all kinds wait for the same four workers", breaks: "a control message waits for no proposal", found: "path 1",
		edits: []edit{{"internal/pipeline/pipeline.go", "{ return p.Queues[queue.KindOf(t)] }", "{ return p.Queues[queue.Append] }"}},
	},
	{
		name: "posts-received-in-one-lane", wrong: "received posts of all kinds wait for Process in one lane", breaks: "Process may block on one kind", found: "path 1",
		edits: []edit{{"door.go", "q.engine.receiveQueues.Enter(sender, queue.KindOf(m.GetType()))", "q.engine.receiveQueues.Enter(sender, queue.Proposal)"}},
	},
	{
		name: "control-behind-proposals", wrong: "the message stream has one queue for all kinds", breaks: "a control message waits for no proposal", found: "path 2",
		edits: []edit{{"internal/stream/writer.go", "ByKind: kind == Message,", "ByKind: false,"}},
	},
	{
		name: "too-large-on-both-streams", wrong: "an append that the receiver takes for too large cuts the message stream as well", breaks: "a healthy link loses no control message", found: "path 3",
		edits: []edit{{"internal/routing/routing.go", "if !r.writers[stream.MsgAppV2].WasGiven() {", "if r != nil {"}},
	},
	{
		name: "too-large-is-sent", wrong: "Send takes messages over MaxMessageBytes", breaks: "a message over MaxMessageBytes is dropped", found: "path 3",
		edits: []edit{{"internal/queue/offer.go", "if q.cfg.Limits.MessageBytes > 0 && it.Size > q.cfg.Limits.MessageBytes {", "if q.cfg.Limits.MessageBytes < 0 {"}},
	},
	{
		name: "message-for-another", wrong: "a message for another member is processed", breaks: "Process only what is for us", found: "path 4",
		edits: []edit{{"internal/member/authorize.go", "to != 0 && to != uint64(c.ID) {", "to != 0 && to != uint64(c.ID) && c.ID == 0 {"}},
	},
	{
		name: "message-of-removed", wrong: "posts and snapshots of a removed member are processed", breaks: "Process only what is for us", found: "path 5",
		edits: []edit{
			{"door.go", "\t\treturn q.unlessRemoved(sender, protocol.ErrMemberGone)", "\t\treturn nil"},
			{"door.go", "\tif err := q.unlessRemoved(sender, errs.ErrOfRemoved); err != nil {\n\t\treturn err\n\t}\n\treturn q.unlessRemoved(author, errs.ErrOfRemoved)", "\t_ = errs.ErrOfRemoved\n\treturn nil"},
		},
	},
	{
		name: "errorc-of-stranger", wrong: "any web server's 403 says that the local member was removed", breaks: "ErrorC only after removal", found: "path 6",
		edits: []edit{{"internal/protocol/answers.go", "(errors.Is(a.err, ErrMemberRemoved) && !ofOurCluster)", "(errors.Is(a.err, ErrMemberRemoved) && !ofOurCluster && at == 0)"}},
	},
	{
		name: "errorc-of-certificate", wrong: "a request that VerifyPeer refuses is told that its sender was removed", breaks: "ErrorC only after removal", found: "path 6",
		edits: []edit{
			{"internal/protocol/answers.go", "{ErrIdentity, http.StatusForbidden, \"\", EndpointStreams, EndpointNone}", "{ErrIdentity, http.StatusForbidden, \"\", EndpointAll, EndpointNone}"},
			{"internal/protocol/answers.go", "EndpointMessages | EndpointOffset, EndpointMessages}", "EndpointMessages | EndpointOffset, EndpointMessages | EndpointOffset}"},
		},
	},
	{
		name: "question-of-revoked", wrong: "a question about a snapshot is answered on a connection whose certificate was revoked", breaks: "a revoked member is cut", found: "path 7",
		edits: []edit{{"door.go", "validity >= conn.Outdated {", "validity >= conn.Outdated && q.at != protocol.EndpointOffset {"}},
	},
	{
		name: "revoked-stays", wrong: "connections that are up are not held to the revocation list", breaks: "a revoked member is cut",
		edits: []edit{{"internal/conn/files.go", "if err := f.onList(state.PeerCertificates); err != nil {\n\t\treturn Revoked, err", "if err := f.onList(state.PeerCertificates); err != nil && state.Version == 0 {\n\t\treturn Revoked, err"}},
	},
	{
		name: "refused-stays", wrong: "connections that are up are not held to VerifyPeer", breaks: "who VerifyPeer refuses is cut",
		edits: []edit{{"internal/member/recheck.go", "if st < conn.Revoked && c.VerifyPeer != nil {", "if st < conn.Revoked && c.VerifyPeer != nil && c.TLSRecheck < 0 {"}},
	},
	{
		name: "refused-is-processed", wrong: "requests of a member that VerifyPeer refuses are served", breaks: "VerifyPeer binds certificates to members",
		edits: []edit{{"door.go", "\tif err := q.engine.cfg.VerifyPeer(q.from, q.r.TLS); err != nil {\n\t\treturn q.refuseIdentity(err)\n\t}", "\t_ = q.engine.cfg.VerifyPeer(q.from, q.r.TLS)"}},
	},
	{
		name: "refused-is-dialled", wrong: "a member that VerifyPeer refuses is dialled all the same", breaks: "VerifyPeer binds certificates to members",
		edits: []edit{{"internal/member/recheck.go", "\t\treturn m.refusedDial(addr, began, err)\n", "\t\treturn nil\n"}},
	},
	{
		name: "author-unchecked", wrong: "with VerifyPeer, a member may send messages in the name of another one", breaks: "VerifyPeer binds certificates to members",
		edits: []edit{{"internal/member/authorize.go", "\treturn errOtherFrom\n", "\treturn nil\n"}},
	},
	{
		name: "forget-leader-processed", wrong: "MsgForgetLeader of a peer is processed", breaks: "Process only what raft sends to others", found: "path 8",
		edits: []edit{{"internal/member/authorize.go", "case m.GetType() == raftpb.MsgForgetLeader:", "case m.GetType() == raftpb.MsgForgetLeader && c.ID == 0:"}},
	},
	{
		name: "cut-remote-ignored", wrong: "CutPeer of a remote does nothing", breaks: "CutPeer drops everything", found: "path 9",
		edits: []edit{{"membership.go", "if e.remotes.Pause(id, paused) {", "if e.remotes.Pause(id, false) {"}},
	},
	{
		name: "reserved-ahead", wrong: "lanes reserve 256 KiB ahead, and keep it while they are idle", breaks: "the bound counts what is held", found: "path 10",
		edits: []edit{
			{"internal/queue/budget.go", "chunk: max(1, min(budgetChunk, limit/(16<<10)))", "chunk: 16 * budgetChunk"},
			{"internal/queue/budget.go", "[...]int64{max(need, r.budget.chunk), need}", "[...]int64{max(need, r.budget.chunk)}"},
			{"internal/queue/queue.go", "q.reservation.Release(q.heldBytes, q.closed || q.held == 0)", "q.reservation.Release(q.heldBytes, q.closed)"},
		},
	},
	{
		name: "budget-unshared", wrong: "one queue may take all of MaxQueuedBytes from the others", breaks: "a stuck peer costs the others nothing", found: "path 11",
		edits: []edit{{"internal/queue/budget.go", "if r.budget.take(n, limit-held) {", "if r.budget.take(n, limit) {"}},
	},
}

// otherPathMutants are those about deadlines, limits, callbacks and certificates.
var otherPathMutants = []mutant{
	{
		name: "endless-timeouts", wrong: "Start takes timeouts whose sums overflow", breaks: "a field that cannot work is a ConfigError", found: "path 12",
		edits: []edit{{"config.go", "(v >= least && v <= maxTimeout)", "v >= least"}},
	},
	{
		name: "moving-stream-cut", wrong: "one write timeout covers all that is written at once", breaks: "a link that moves stays up", found: "path 13",
		edits: []edit{
			{"internal/conn/progress.go", "\tif n > 0 {\n\t\tp.since = now\n\t}\n", ""},
			{"internal/conn/progress.go", "size := p.pieces.Next(p.most)", "size := max(len(b), p.pieces.Next(p.most))"},
		},
	},
	{
		name: "moving-post-cut", wrong: "one timeout covers all of a post", breaks: "a link that moves stays up", found: "path 13",
		edits: []edit{{"internal/conn/paced_body.go", "\tb.pace.timer.Reset(left)", "\t_ = left"}},
	},
	{
		name: "unbounded-response", wrong: "a stream is served on a response whose writes have no deadline", breaks: "Stop within its bound", found: "path 14",
		edits: []edit{
			{"internal/conn/hijack.go", "return fmt.Errorf(\"it cannot set write deadlines: %w\", err)", "_ = err"},
			{"internal/conn/stream.go", "NewProgressWriter(w, s.untilGone(rc.SetWriteDeadline), pieceBytes)", "NewProgressWriter(w, func(t time.Time) error {\n\t\t_ = rc.SetWriteDeadline(t)\n\t\treturn nil\n\t}, pieceBytes)"},
		},
	},
	{
		name: "state-hook-under-lock", wrong: "the hook PeerState is called under a lock that the keeper takes", breaks: "a slow hook costs its member only", found: "path 15",
		edits: []edit{{"internal/callback/events.go", "e.add(&event{about: stateChange{}, call: func() { f(e.id, active, cause) }})", "f(e.id, active, cause)"}},
	},
	{
		name: "log-under-lock", wrong: "lines of the log are written by who logs, under a lock", breaks: "a slow log costs its member only", found: "path 15",
		edits: []edit{{"internal/callback/asynclog.go", "l.queue.add(func() { write(suppressed) })", "write(suppressed)"}},
	},
	{
		name: "panic-swallowed", wrong: "a panic of Process is recovered where the message came by post", breaks: "a panic of a callback ends the process", found: "path 16",
		edits: []edit{{
			"internal/member/config.go", "\tdefer c.Guard.Recover(callback.Call{Name: callback.RaftProcess, Peer: from, Lane: lane, Type: m.GetType(), From: m.GetFrom()})\n",
			"\tif lane == \"post\" {\n\t\tdefer func() { _ = recover() }()\n\t} else {\n\t\tdefer c.Guard.Recover(callback.Call{Name: callback.RaftProcess, Peer: from, Lane: lane, Type: m.GetType(), From: m.GetFrom()})\n\t}\n",
		}},
	},
	{
		name: "state-without-end", wrong: "PeerState says that a peer is active, and not that it was removed, where only posts came", breaks: "the last PeerState says inactive", found: "path 17",
		edits: []edit{{"internal/member/activity.go", "\ta.ended = true\n\ta.deactivate(cause)", "\ta.ended = true\n\tif a.streams > 0 {\n\t\ta.deactivate(cause)\n\t}"}},
	},
	{
		name: "active-without-a-byte", wrong: "a peer is active from the answer to a dial on", breaks: "active from the first frame", found: "path 18",
		edits: []edit{{"internal/stream/reader.go", "\tr.opened(s.conn)\n", "\tr.opened(s.conn)\n\tr.delivering()\n"}},
	},
	{
		name: "redial-storm", wrong: "a stream that delivered once and ended is dialled again at once", breaks: "dialled less and less often", found: "path 18",
		edits: []edit{{"internal/stream/reader.go", "lived := !r.delivers.IsZero() && time.Since(r.delivers) >= r.member.Cfg.ReadTimeout", "lived := !r.delivers.IsZero()"}},
	},
	{
		name: "handshake-unlogged", wrong: "who refuses a certificate says nothing", breaks: "a refusal is logged", found: "path 19",
		edits: []edit{{"internal/conn/failures.go", "if log == nil || !f.lines.First(", "if log != nil || !f.lines.First("}},
	},
	{
		name: "clock-warning", wrong: "a probe that was answered late warns of the clock", breaks: "the clock offset is known to half a round trip", found: "path 20",
		edits: []edit{
			{"internal/probe/probe.go", "return offset.Abs()-within > maxClockOffset", "return offset.Abs() > maxClockOffset"},
			{"internal/probe/probe.go", "if within <= e.within || apart > certain/2 {", "if within <= e.within || apart > certain/2 || apart >= 0 {"},
		},
	},
	{
		name: "half-bundle-taken", wrong: "a bundle of authorities that is written by half is taken as it is", breaks: "the last good authorities stay", found: "path 21",
		edits: []edit{{"internal/conn/pem.go", "return nil, fmt.Errorf(\"line %d: a block that is not whole\", line)", "return blocks, nil"}},
	},
	{
		name: "zone-in-certificate", wrong: "the zone of an address is compared with the certificate", breaks: "TLS to a link-local address", found: "path 22",
		edits: []edit{{"internal/conn/url.go", "return ip.WithZone(\"\").String()", "return host"}},
	},
	{
		name: "cut-lets-through", wrong: "what is queued when a peer is cut is sent", breaks: "CutPeer drops everything", found: "path 23",
		edits: []edit{
			{"peer.go", "\tfor _, w := range p.writers {\n\t\tp.member.Lose(w.Queue, w.Queue.Empty(), ErrPaused)\n\t}\n\tp.member.Latency.Out.Restart()\n\tp.member.Reports.Unreachable() // also the withheld reports\n\tp.pipeline.DropQueued()", ""},
			{"internal/stream/writer.go", "if i == sent && (w.member.Paused.Load() || w.Queue.WasEmptied()) {", "if i == sent && i < 0 {"},
			{"internal/pipeline/pipeline.go", "\tif p.member.Paused.Load() {\n\t\tq.ForgetAppends()", "\tif p.member.Paused.Load() && it.Msg == nil {\n\t\tq.ForgetAppends()"},
		},
	},
	{
		name: "probes-together", wrong: "all peers are probed, and get their link heartbeats, at the same instant", breaks: "what is due is spread over its interval", found: "path 23",
		edits: []edit{{"internal/rota/rota.go", "together: together,", "together: together << 20,"}},
	},
}
