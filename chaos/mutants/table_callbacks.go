package main

// callbackMutants break what is promised of callbacks about one member and another, and of what an idle peer and a refused member
// cost.
var callbackMutants = []mutant{
	{
		name: "idle-goroutines", wrong: "an idle peer has ten goroutines more than it needs", breaks: "an idle peer costs two goroutines",
		edits: []edit{{
			"peer.go", "\tfor _, r := range p.readers {\n\t\tp.member.Spawn(r.Run)\n\t}\n",
			"\tfor _, r := range p.readers {\n\t\tp.member.Spawn(r.Run)\n\t}\n\tfor range 10 {\n\t\tp.member.Spawn(func() { <-p.member.Ctx.Done() })\n\t}\n",
		}},
	},
	{
		name: "notifier-lingers", wrong: "the goroutine of a notifier waits for a minute for the next call", breaks: "an idle peer costs two goroutines",
		edits: []edit{
			{"internal/callback/notifier.go", "\t\"sync\"\n)", "\t\"sync\"\n\t\"time\"\n)"},
			{
				"internal/callback/notifier.go", "\t\tcall := n.take()\n",
				"\t\tcall := n.take()\n\t\tfor i := 0; call == nil && !n.closed && i < 1200; i++ {\n\t\t\tn.mu.Unlock()\n" +
					"\t\t\ttime.Sleep(50 * time.Millisecond)\n\t\t\tn.mu.Lock()\n\t\t\tcall = n.take()\n\t\t}\n",
			},
		},
	},
	{
		name: "remove-waits", wrong: "RemovePeer waits for the callbacks about the member that run", breaks: "RemovePeer does not wait",
		edits: []edit{
			{"internal/callback/registry.go", "\t\"sync\"\n", "\t\"sync\"\n\t\"time\"\n"},
			{
				"internal/callback/registry.go", "// idle reports whether no callback is running.\n",
				"// Wait waits until no callback is running, ten minutes at most.\nfunc (m *Notifiers) Wait() {\n" +
					"\tfor i := 0; i < 60000 && !m.idle(); i++ {\n\t\ttime.Sleep(10 * time.Millisecond)\n\t}\n}\n\n// idle reports whether no callback is running.\n",
			},
			{"membership.go", "\t\tp.member.Log.Info(\"removed a peer\")\n", "\t\tp.member.WaitForNotifiers()\n"},
			{"internal/member/member.go", "// Cause returns why the member ended.\n", "// WaitForNotifiers waits for callbacks that run.\nfunc (m *Member) WaitForNotifiers() { m.notifiers.Wait() }\n\n// Cause returns why the member ended.\n"},
		},
	},
	{
		name: "one-callback-at-a-time", wrong: "of the callbacks about all members, one runs at a time", breaks: "a slow callback costs its member only",
		edits: []edit{
			{"internal/callback/notifier.go", "\tended   func()  ", "\tone     chan struct{} // nil: any number may run\n\tended   func()  "},
			{
				"internal/callback/notifier.go", "\t\tcall()\n",
				"\t\tif n.one != nil {\n\t\t\tn.one <- struct{}{}\n\t\t}\n\t\tcall()\n\t\tif n.one != nil {\n\t\t\t<-n.one\n\t\t}\n",
			},
			{"internal/callback/registry.go", "\tmu     sync.Mutex\n\tbyID ", "\tone    chan struct{}\n\tmu     sync.Mutex\n\tbyID "},
			{"internal/callback/registry.go", "byID: map[types.ID]*Notifiers{}}", "byID: map[types.ID]*Notifiers{}, one: make(chan struct{}, 1)}"},
			{"internal/callback/registry.go", "\t\t\tn.ended = func()", "\t\t\tn.one = t.one\n\t\t\tn.ended = func()"},
		},
	},
	{
		name: "hooks-reversed", wrong: "of the hooks that wait, the last is called first", breaks: "hooks come in order",
		edits: []edit{
			{"internal/callback/events.go", "w := e.queue[0]", "last := len(e.queue) - 1\n\tw := e.queue[last]"},
			{"internal/callback/events.go", "slices.Delete(e.queue, 0, 1)", "e.queue[:last]"},
		},
	},
	{
		name: "end-before-progress", wrong: "the hook for the end of a transfer is called before the hooks that wait", breaks: "hooks come in order",
		edits: []edit{
			{
				"internal/callback/events.go", "w := e.queue[0]",
				"i := max(0, slices.IndexFunc(e.queue, func(w *event) bool { return w.about == transferEnd{} }))\n\tw := e.queue[i]",
			},
			{"internal/callback/events.go", "slices.Delete(e.queue, 0, 1)", "slices.Delete(e.queue, i, i+1)"},
		},
	},
	{
		name: "state-told-for-two", wrong: "PeerState is called for the first two changes only", breaks: "PeerState and Status agree",
		edits: []edit{
			{"internal/callback/events.go", "\tnotifier notifier\n\tid       types.ID\n", "\tnotifier notifier\n\tchanges  int\n\tid       types.ID\n"},
			{
				"internal/callback/events.go", "\tif last, n := e.find(stateChange{}); n >= maxStateChanges {",
				"\tif e.changes++; e.changes > 2 {\n\t\treturn\n\t}\n\tif last, n := e.find(stateChange{}); n >= maxStateChanges {",
			},
		},
	},
	{
		name: "snapshot-unverified", wrong: "a connection for a snapshot is not given to VerifyPeer", breaks: "VerifyPeer binds certificates to members",
		edits: []edit{{
			"internal/member/snapshot_peer.go", "\tc, err := p.Of.Dialer.ConnectOver(ctx, u, began, wrap)\n",
			"\tof := p.Of.Cfg\n\td := &conn.Dialer{Dial: of.Dial, TLS: of.ClientTLS, Files: of.Files, Timeout: of.DialTimeout}\n" +
				"\tc, err := d.ConnectOver(ctx, u, began, wrap)\n",
		}},
	},
	{
		name: "send-asks-raft", wrong: "Send asks IsIDRemoved", breaks: "Send calls nothing of Raft",
		edits: []edit{{
			"transport.go", "\tfor len(msgs) > 0 {\n\t\tmsgs = msgs[e.sendRun(msgs):]",
			"\tif len(msgs) > 0 && e.cfg.Raft.IsIDRemoved(msgs[0].GetTo()) {\n\t\treturn\n\t}\n\tfor len(msgs) > 0 {\n\t\tmsgs = msgs[e.sendRun(msgs):]",
		}},
	},
}
