package main

// wholeMutants have the defects back that were found in snapshots.
var wholeMutants = []mutant{
	{
		name: "head-and-tail", wrong: "a plain attempt goes on where the reader stands, after the peer has stopped resuming", breaks: "the bytes are equal", found: "snapshot 1",
		edits: []edit{
			{"internal/snapshot/settle.go", "func (t *transfer) isReady(p protocol.SnapshotPlan) bool {\n", "func (t *transfer) isReady(p protocol.SnapshotPlan) bool {\n\tif !p.Resumable {\n\t\treturn true\n\t}\n"},
			{"internal/protocol/snapshot_headers.go", "\trest := size - p.Offset\n", "\trest := remaining\n"},
		},
	},
	{
		name: "summed-on-the-connection", wrong: "what the receiver has is read again, from the first byte, between its answer and the body", breaks: "bytes on a healthy link arrive", found: "snapshot 2",
		edits: []edit{
			{"internal/snapshot/settle.go", "\t\tif ready && (p.Resumable || t.sender.cfg.Group) {\n", "\t\tif p.Resumable && !ready {\n\t\t\tif err := t.prepare(func(ctx context.Context) error { return t.reach(ctx, p) }); err != nil {\n\t\t\t\tconn.Close()\n\t\t\t\treturn nil, protocol.SnapshotPlan{}, err\n\t\t\t}\n\t\t\tready = t.isReady(p)\n\t\t}\n\t\tif ready && (p.Resumable || t.sender.cfg.Group) {\n"},
			{"internal/snapshot/settle.go", "func (t *transfer) settle(u url.URL) (*peerConn, protocol.SnapshotPlan, error) {\n", "func (t *transfer) settle(u url.URL) (*peerConn, protocol.SnapshotPlan, error) {\n\tif t.sums = (checksums{}); t.attempts.Load() > 1 {\n\t\t_ = t.db.goTo(0)\n\t}\n"},
			{"internal/snapshot/transfer.go", "(t.ackedOffset > acked || t.maxSummed > summed) {", "(t.ackedOffset > acked || t.maxSummed < summed) {"},
		},
	},
	{
		name: "slow-read-closed", wrong: "a reader whose Read takes longer than 500 ms when the connection breaks is closed", breaks: "resumed where both can", found: "snapshot 3",
		edits: []edit{{"internal/snapshot/attempt.go", "a.enter(aborting, 0) // until the reader makes no progress, which onTick detects", "a.enter(aborting, refusalGrace)"}},
	},
	{
		name: "keep-alive-needed", wrong: "a receiver that keeps no connection gets no snapshot", breaks: "bytes on a healthy link arrive", found: "snapshot 4",
		edits: []edit{
			{"internal/snapshot/settle.go", "if resp.Close || !protocol.HasExtension(resp.Header, protocol.ExtensionResuming) {", "if !protocol.HasExtension(resp.Header, protocol.ExtensionResuming) {"},
			{"internal/snapshot/settle.go", "err = fmt.Errorf(\"%w: %w\", errNoWord, err)", "err = fmt.Errorf(\"%w: %w\", protocol.ErrSnapshotCut, err)"},
		},
	},
	{
		name: "twins-interrupt", wrong: "two transfers of one snapshot to one peer interrupt each other", breaks: "bytes on a healthy link arrive", found: "snapshot 5",
		edits: []edit{
			{"internal/snapshot/receiver.go", "if older.id != id && (older.still() < olderStill || older.waits.overdue()) {", "if older.id != id && older.key.Size < 0 {"},
			{"internal/snapshot/sender.go", "if older != nil { // in parallel", "if older == t { // in parallel"},
		},
	},
	{
		name: "hanging-disk-given-up", wrong: "a sender is not patient with a receiver that says that it is at work", breaks: "bytes on a healthy link arrive", found: "snapshot 6",
		edits: []edit{
			{"internal/snapshot/attempt.go", "if now := a.t.told.Load(); now != a.told {", "if now := a.t.told.Load(); now < 0 {"},
			{"internal/snapshot/settle.go", "if !busy && !errors.Is(err, protocol.ErrSnapshotWriting) || t.gaveUpWaiting {", "if !busy {"},
			{"internal/snapshot/transfer.go", "return !t.gaveUpWaiting", "return false"},
		},
	},
	{
		name: "file-behind-reader", wrong: "a reader with a method File is bypassed", breaks: "the bytes are equal", found: "snapshot 7",
		edits: []edit{{"internal/snapshot/reader.go", "\tcase *snap.FileReader:\n", "\tcase interface{ File() *os.File }:\n\t\treturn f.File()\n\tcase *snap.FileReader:\n"}},
	},
	{
		name: "changed-file-sent", wrong: "a file that changes while it is sent arrives half old, half new", breaks: "the bytes are equal", found: "snapshot 8",
		edits: []edit{{"internal/snapshot/reader.go", "\tif d.file == nil {\n\t\treturn nil\n", "\tif d.file == nil || d.size >= 0 {\n\t\treturn nil\n"}},
	},
	{
		name: "second-database-discarded", wrong: "a database that came whole is thrown away where a file of its index exists", breaks: "the bytes are equal", found: "snapshot 9",
		edits: []edit{{"snap/store.go", "\tswitch err := s.fs.Rename(temp, path); {", "\tif replaces {\n\t\treturn false, nil\n\t}\n\tswitch err := s.fs.Rename(temp, path); {"}},
	},
	{
		name: "unwanted-database-kept", wrong: "a database whose message is not processed stays on disk", breaks: "a database that is not used is taken back", found: "snapshot 10",
		edits: []edit{{"snapshot_handler.go", "if !in.request.left { // Stop", "if in.request == nil { // Stop"}},
	},
	{
		name: "directory-unsynced", wrong: "the directory of a database is not synced", breaks: "a saved database is durable", found: "snapshot 11",
		edits: []edit{{"snap/store.go", "\tif err := s.fs.SyncDir(s.dir); err != nil {\n\t\tif !replaces {", "\tif err := error(nil); err != nil {\n\t\tif !replaces {"}},
	},
	{
		name: "directory-unlocked", wrong: "a second Open of a directory removes what the first one has under way", breaks: "a directory belongs to one Store", found: "snapshot 11",
		edits: []edit{{"snap/lock.go", "\tl, err := lockDir(dir)\n", "\tl, err := lockDir(dir)\n\tif errors.Is(err, ErrInUse) {\n\t\treturn &processLock{dir}, nil\n\t}\n"}},
	},
	{
		name: "database-unsynced", wrong: "a database is not synced before its message is processed", breaks: "a saved database is durable", found: "snapshot 12",
		edits: []edit{{"snap/dbfile.go", "\tif err := d.Sync(); err != nil {\n\t\treturn err\n\t}\n", ""}},
	},
}
