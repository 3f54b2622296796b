package traffic

import "go.etcd.io/raft/v3/raftpb"

// Append is a MsgApp with what a msgapp v2 stream makes of it.
type Append struct {
	What      string // what the message is an example of
	Predicted bool   // goes as type 1: it continues where the last one ended
	Message   *raftpb.Message
}

// Appends returns a sequence of MsgApps for one new msgapp v2 stream, which goes through all that the stream's type 1
// depends on: what is continued, by entries or without, and what is not.
func Appends(from, to uint64) []Append {
	app := func(term, logTerm, index, commit uint64, entries []*raftpb.Entry) *raftpb.Message {
		return &raftpb.Message{
			Type: raftpb.MessageType_MsgApp.Enum(), From: &from, To: &to,
			Term: &term, LogTerm: &logTerm, Index: &index, Commit: &commit, Entries: entries,
		}
	}
	none := []*raftpb.Entry(nil)
	return []Append{
		{"the first entries of a log", false, app(1, 0, 0, 0, Entries(1, 1, 0, 1, 7))},
		{"entries that continue", true, app(1, 1, 3, 0, Entries(1, 4, 3, 5))},
		{"only a commit index", true, app(1, 1, 5, 5, none)},
		{"the same once more", true, app(1, 1, 5, 5, none)},
		{"entries after empty appends", true, app(1, 1, 5, 5, Entries(1, 6, 2))},
		{"a gap", false, app(1, 1, 9, 6, Entries(1, 10, 2))},
		{"entries that continue after the gap", true, app(1, 1, 10, 6, Entries(1, 11, 1, 1))},
		{"a step back, without entries", false, app(1, 1, 6, 6, none)},
		{"entries that continue where a message without entries pointed", true, app(1, 1, 6, 6, Entries(1, 7, 4))},
		{"a new term, after entries of the old", false, app(2, 1, 7, 7, Entries(2, 8, 4))},
		{"entries that continue in the new term", true, app(2, 2, 8, 7, Entries(2, 9, 4))},
		{"entries of the old term, sent in a newer one", false, app(4, 2, 9, 7, Entries(2, 10, 4))},
		{"they go on, but the term before them is not the message's", false, app(4, 2, 10, 7, Entries(2, 11, 4))},
		{"the term before them is the message's, the place is not", false, app(4, 4, 7, 7, Entries(4, 8, 4))},
		{"sizes", true, app(4, 4, 8, 8, Entries(4, 9, 0, 1, 1<<10, 16<<10))},
		{"configuration changes", true, app(4, 4, 12, 8, ConfChanges(4, 13))},
		{"every field set", false, Full(raftpb.MessageType_MsgApp, from, to)},
		{"large numbers", false, app(1<<63, 1<<62, 1<<63-2, 1<<63-3, none)},
		{"an older term, at the same place", false, app(4, 4, 1<<63-2, 8, none)},
		{"entries that continue at a large index", true, app(4, 4, 1<<63-2, 1<<63-3, Entries(4, 1<<63-1, 3))},
		{"the index passes the middle of its range", true, app(4, 4, 1<<63-1, 1<<63-3, Entries(4, 1<<63, 3))},
	}
}
