package wire_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/seed-4d73690b/rafthttp/internal/wire"
)

// TestReserve: all that a message takes in memory beside its data is reserved before it is there, however it is read.
func TestReserve(t *testing.T) {
	m := &raftpb.Message{Type: raftpb.MsgApp.Enum(), Responses: []*raftpb.Message{{To: new(uint64(3))}}}
	for range 3000 {
		m.Entries = append(m.Entries, &raftpb.Entry{Data: make([]byte, 20)})
	}
	m.Snapshot = &raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{ConfState: &raftpb.ConfState{Voters: []uint64{1, 2, 3}}}}
	b, err := proto.Marshal(m)
	require.NoError(t, err)
	ways := map[string]func(lim wire.Limits) (*raftpb.Message, error){
		"at once": func(lim wire.Limits) (*raftpb.Message, error) { return wire.UnmarshalMessage(b, lim) },
		"as it comes": func(lim wire.Limits) (*raftpb.Message, error) {
			return wire.ReadMessage(wire.NewReader(bytes.NewReader(b)), uint64(len(b)), lim)
		},
	}
	for name, read := range ways {
		t.Run(name, func(t *testing.T) {
			var reserved uint64
			got, err := read(wire.Limits{Reserve: func(n uint64) error { reserved += n; return nil }})
			require.NoError(t, err)
			require.True(t, proto.Equal(m, got))
			require.EqualValues(t, wire.MemorySize(got)-3000*20, reserved)

			refused := errors.New("no room")
			left := reserved / 2
			_, err = read(wire.Limits{Reserve: func(n uint64) error {
				if n > left {
					return refused
				}
				left -= n
				return nil
			}})
			require.ErrorIs(t, err, refused)
		})
	}
}
