package main

// snapshotMutants break what is promised of snapshots.
var snapshotMutants = []mutant{
	{
		name: "snapshot-reported-twice", wrong: "each end of a snapshot is reported twice", breaks: "exactly one report",
		edits: []edit{{"internal/callback/reports.go", "append(r.snapshots, status)", "append(r.snapshots, status, status)"}},
	},
	{
		name: "snapshot-failure-unreported", wrong: "a snapshot that failed is not reported", breaks: "exactly one report",
		edits: []edit{{"snapshot_sender.go", "\ts.member.SnapshotEnded(err)", "\tif err == nil {\n\t\ts.member.SnapshotEnded(nil)\n\t}"}},
	},
	{
		name: "snapshot-for-nobody-unreported", wrong: "a snapshot for a member that is no peer is not reported", breaks: "exactly one report",
		edits: []edit{{"transport.go", "\t\tto.Reports.Snapshot(ErrMemberUnknown)", ""}},
	},
	{
		name: "failure-reported-as-success", wrong: "a snapshot that failed is reported as finished", breaks: "report and bytes agree",
		edits: []edit{{"internal/callback/reports.go", "status = raft.SnapshotFailure", "status = raft.SnapshotFinish"}},
	},
	{
		name: "no-answer-is-success", wrong: "a snapshot whose receiver never answers is reported as finished", breaks: "report and bytes agree",
		edits: []edit{{"internal/snapshot/attempt.go", "a.err, a.complete = errNoAnswer, true", "a.err, a.complete = nil, true"}},
	},
	{
		name: "posted-snapshot-unreported", wrong: "a MsgSnap given to Send that arrives is not reported", breaks: "exactly one report",
		edits: []edit{{"internal/pipeline/pipeline.go", "\t\tp.member.SnapshotEnded(nil)", ""}},
	},
	{
		name: "reader-closed-twice", wrong: "the reader of a snapshot is closed twice", breaks: "exactly one Close",
		edits: []edit{{"snap/message.go", "_ = m.ReadCloser.Close()", "_ = m.ReadCloser.Close()\n\t\t_ = m.ReadCloser.Close()"}},
	},
	{
		name: "reader-not-closed", wrong: "the reader of a snapshot that failed is not closed", breaks: "exactly one Close",
		edits: []edit{{"snap/message.go", "if m.ReadCloser != nil {", "if m.ReadCloser != nil && err == nil {"}},
	},
	{
		name: "reader-closed-by-caller", wrong: "the goroutine that calls SendSnapshot closes the reader", breaks: "no Close inside SendSnapshot",
		edits: []edit{{"transport.go", "if !e.spawn(refuse) {", "if refuse(); e == nil {"}},
	},
	{
		name: "close-notify-wrong", wrong: "CloseNotify says that every snapshot was sent", breaks: "CloseNotify and report agree",
		edits: []edit{{"snap/message.go", "m.closeC <- err == nil", "m.closeC <- true"}},
	},
	{
		name: "close-notify-missing", wrong: "CloseNotify gets no value of a snapshot that failed", breaks: "exactly one value from CloseNotify",
		edits: []edit{{"snap/message.go", "if m.closeC != nil {\n\t\tdefer", "if m.closeC != nil && err == nil {\n\t\tdefer"}},
	},
	{
		name: "resumed-byte-corrupted", wrong: "the first byte behind the offset of a resumed transfer is another", breaks: "the bytes are equal",
		edits: []edit{
			{"internal/snapshot/write.go", "sum: p.Resumable}", "sum: p.Resumable, flips: p.Offset > 0}"},
			{"internal/snapshot/write.go", "\tsum     bool              // keep t.sums", "\tsum     bool\n\tflips   bool"},
			{"internal/snapshot/write.go", "whole := t.db.file != nil && w.files != nil", "whole := t.db.file != nil && w.files != nil && !w.flips"},
			{"internal/snapshot/write.go", "\tif n > 0 {\n\t\tif w.sum {", "\tif n > 0 {\n\t\tif w.flips {\n\t\t\tp[0], w.flips = p[0]^1, false\n\t\t}\n\t\tif w.sum {"},
		},
	},
	{
		name: "checksum-unchecked", wrong: "no checksum of a database is compared, neither that of a part nor the last", breaks: "the bytes are equal",
		edits: []edit{
			{"internal/snapshot/settle.go", "return t.sums.sum == sum, nil", "return t.sums.sum == sum || ctx != nil, nil"},
			{"internal/snapshot/settle.go", "t.sums.at == p.Offset && t.sums.sum == p.Sum)", "t.sums.at == p.Offset)"},
			{"internal/snapshot/verified.go", "if err == nil && sum != v.sums.sum {", "if err == nil && sum != v.sums.sum && v.db == nil {"},
			{"snap/partial.go", "if want != p.sum {", "if want != p.sum && p.dbFile == nil {"},
		},
	},
	{
		name: "processed-before-saved", wrong: "Process gets the message before the database is saved", breaks: "Process after the whole database",
		edits: []edit{
			{"internal/snapshot/receive.go", "\tn, err := c.saveDatabase()\n", "\tif err := c.in.Process(c.m); err != nil {\n\t\treturn err\n\t}\n\tn, err := c.saveDatabase()\n"},
			{"internal/snapshot/receive.go", "if err := c.process(); err != nil {\n\t\tc.in.Discard(", "if err := error(nil); err != nil {\n\t\tc.in.Discard("},
		},
	},
	{
		name: "half-processed", wrong: "a database whose connection broke looks like one that ended, and its message is processed", breaks: "Process after the whole database",
		edits: []edit{
			{"internal/snapshot/database.go", "\t\terr = io.ErrUnexpectedEOF\n\t}\n\treturn n, d.fail(err)", "\t}\n\treturn n, io.EOF"},
			{"internal/snapshot/receive.go", "if err = c.db.incomplete(); err == nil {", "if err == nil {"},
			{"snap/dbfile.go", "if d.size >= 0 && d.at != d.size {", "if d.size >= 0 && d.at > d.size {"},
		},
	},
	{
		name: "long-reader-cut", wrong: "of a reader that is longer than declared the beginning is sent", breaks: "a wrong size is a failure",
		edits: []edit{{"internal/snapshot/reader.go", "\tcase n > 0:\n\t\treturn fmt.Errorf(\"%w: it goes on behind its end\", ErrLong)", "\tcase n > 0:\n\t\treturn io.EOF"}},
	},
	{
		name: "never-resumed", wrong: "a transfer that broke begins at its first byte again", breaks: "resumed where both can",
		edits: []edit{{"internal/snapshot/settle.go", "if has.Offset > 0 && has != t.rejected", "if has.Offset < 0 && has != t.rejected"}},
	},
	{
		name: "gives-up-at-once", wrong: "a transfer that broke fails", breaks: "resumed where both can",
		edits: []edit{{"internal/snapshot/transfer.go", "case errors.Is(err, protocol.ErrSnapshotCut), errors.Is(err, errs.ErrStalled),", "case err == nil && errors.Is(err, errs.ErrStalled),"}, {"internal/snapshot/transfer.go", "\treturn true // it could not be reached", "\treturn false"}},
	},
	{
		name: "sending-place-kept", wrong: "a transfer keeps its place after its end", breaks: "bytes on a healthy link arrive",
		edits: []edit{{"internal/snapshot/transfer.go", "\t\tt.acquired = false\n\t\tt.sender.cfg.Pace.turns.release(t.sender.cfg.To)", "\t\tt.acquired = false"}},
	},
	{
		name: "receiving-place-kept", wrong: "a transfer that failed keeps its place at the receiver", breaks: "bytes on a healthy link arrive",
		edits: []edit{{"internal/snapshot/receiver.go", "\tr.places.giveBack(t.peer)\n", "\tif t.err == nil {\n\t\tr.places.giveBack(t.peer)\n\t}\n"}},
	},
	{
		name: "stalled-for-ever", wrong: "a transfer that stands still is not given up", breaks: "a stalled snapshot ends",
		edits: []edit{
			{"internal/snapshot/attempt.go", "\tif a.still < stallTicks {", "\tif a.still < 1000*stallTicks {"},
			{"internal/snapshot/receive.go", "length, r.cfg.ReadTimeout, in.SetReadDeadline)", "length, 1000*r.cfg.ReadTimeout, in.SetReadDeadline)"},
		},
	},
	{
		name: "whole-transfer-timeout", wrong: "a transfer has ten seconds, however large it is", breaks: "bytes that move arrive",
		edits: []edit{{"internal/snapshot/attempt.go", "\ta.still++\n", "\ta.still++\n\tif a.state == sending && time.Since(a.t.started) > 10*time.Second {\n\t\ta.abort(errors.New(\"it takes too long\"))\n\t\treturn\n\t}\n"}},
	},
}
