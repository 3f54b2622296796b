package wire_test

import (
	"bytes"
	"encoding/hex"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/seed-4d73690b/rafthttp/internal/wire"
)

var comment = regexp.MustCompile(`#.*|\s+`)

// golden reads a file of testdata/golden.
func golden(t testing.TB, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "golden", name))
	require.NoError(t, err)
	b, err := hex.DecodeString(string(comment.ReplaceAll(text, nil)))
	require.NoError(t, err)
	return b
}

func app(term, logTerm, index, commit uint64, entries ...*raftpb.Entry) *raftpb.Message {
	return &raftpb.Message{
		Type: raftpb.MessageType_MsgApp.Enum(), To: proto.Uint64(2), From: proto.Uint64(1), Term: proto.Uint64(term),
		LogTerm: proto.Uint64(logTerm), Index: proto.Uint64(index), Entries: entries, Commit: proto.Uint64(commit),
	}
}

func normal(term, index uint64, data []byte) *raftpb.Entry {
	return &raftpb.Entry{Type: raftpb.EntryType_EntryNormal.Enum(), Term: proto.Uint64(term), Index: proto.Uint64(index), Data: data}
}

var goldenStreams = []struct {
	file     string
	stream   stream
	messages []*raftpb.Message // nil: a link heartbeat
	rest     string            // what follows the last frame
}{
	{"message_link_heartbeat.hex", streams[0], []*raftpb.Message{nil}, ""},
	{"message_app.hex", streams[0], []*raftpb.Message{app(5, 5, 10, 10, normal(5, 11, []byte("abc")))}, ""},
	{"message_heartbeat_v36.hex", streams[0], []*raftpb.Message{{
		Type: raftpb.MessageType_MsgHeartbeat.Enum(), To: proto.Uint64(2), From: proto.Uint64(1), Term: proto.Uint64(5),
		LogTerm: proto.Uint64(0), Index: proto.Uint64(0), Commit: proto.Uint64(10),
		Snapshot: &raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{
			ConfState: &raftpb.ConfState{AutoLeave: proto.Bool(false)}, Index: proto.Uint64(0), Term: proto.Uint64(0),
		}},
		Reject: proto.Bool(false), RejectHint: proto.Uint64(0), Vote: proto.Uint64(0),
	}}, ""},
	{"message_snap.hex", streams[0], []*raftpb.Message{{
		Type: raftpb.MessageType_MsgSnap.Enum(), To: proto.Uint64(2), From: proto.Uint64(1), Term: proto.Uint64(5),
		Snapshot: &raftpb.Snapshot{Data: []byte("db"), Metadata: &raftpb.SnapshotMetadata{
			ConfState: &raftpb.ConfState{Voters: []uint64{1, 300}}, Index: proto.Uint64(10), Term: proto.Uint64(5),
		}},
	}}, "bytes"},
	{"msgappv2.hex", streams[1], []*raftpb.Message{
		nil,
		app(5, 5, 10, 10, normal(5, 11, []byte("abc"))),
		app(5, 5, 11, 11, normal(5, 12, []byte("d")), normal(5, 13, nil)),
		app(5, 5, 13, 13),
		nil,
		app(6, 5, 13, 13),
		app(6, 5, 13, 13, &raftpb.Entry{Term: proto.Uint64(6), Index: proto.Uint64(14)}),
		app(6, 6, 14, 14, &raftpb.Entry{Term: proto.Uint64(6), Index: proto.Uint64(15)}),
	}, ""},
}

func TestGolden(t *testing.T) {
	for _, g := range goldenStreams {
		t.Run(g.file, func(t *testing.T) {
			b := golden(t, g.file)
			r := wire.NewReader(bytes.NewReader(b))
			d := g.stream.decoder(r, noLimits)
			for i, want := range g.messages {
				got, err := d.Decode()
				require.NoError(t, err)
				require.Equal(t, want == nil, got == nil, "message %d", i)
				requireEqual(t, want, got)
			}
			encoded := append(frames(t, g.stream.encoder(), g.messages...), g.rest...)
			require.Equal(t, hex.EncodeToString(b), hex.EncodeToString(encoded))
			if g.rest == "" {
				_, err := d.Decode()
				require.Equal(t, io.EOF, err)
			}
		})
	}
}

// TestSnapshotBody reads the database behind the head from the same Reader.
func TestSnapshotBody(t *testing.T) {
	r := wire.NewReader(bytes.NewReader(golden(t, "message_snap.hex")))
	m, err := wire.NewMessageDecoder(r, noLimits).Decode()
	require.NoError(t, err)
	require.Equal(t, raftpb.MessageType_MsgSnap, m.GetType())
	require.Equal(t, len("bytes"), r.Buffered())
	database, err := io.ReadAll(r)
	require.NoError(t, err)
	require.Equal(t, "bytes", string(database))
}
