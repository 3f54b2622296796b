package wire_test

import (
	"bytes"
	"io"
	"math"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/internal/wire"
)

// TestGroupRefusals: they come out as they went in, between messages, and the decoder needs all of their bytes.
func TestGroupRefusals(t *testing.T) {
	first := wire.GroupRefusal{Group: 7, From: 1, To: 2, Reason: wire.WasRemoved}
	second := wire.GroupRefusal{Group: math.MaxUint64, From: 300, To: 0, Reason: 99}
	enc := wire.NewGroupEncoder()
	var b wire.Batch
	enc.AppendRefusal(&b, first)
	enc.Append(&b, 7, &raftpb.Message{Type: raftpb.MsgApp.Enum(), From: new(uint64(1)), To: new(uint64(2)), Term: new(uint64(3))})
	enc.AppendRefusal(&b, second)
	enc.Finish(&b)
	var frames bytes.Buffer
	_, err := b.WriteTo(&frames)
	require.NoError(t, err)
	require.Equal(t, []byte{7, 7, 1, 2, 3}, frames.Bytes()[:5])
	dec := newGroupDecoder(bytes.NewReader(frames.Bytes()), wire.Limits{})
	for _, want := range []*wire.GroupRefusal{&first, nil, &second} {
		_, m, err := dec.Decode()
		require.NoError(t, err)
		got, ok := dec.Refusal()
		require.Equal(t, want == nil, m != nil)
		require.Equal(t, want != nil, ok)
		if ok {
			require.Equal(t, *want, got)
		}
	}
	for n := 1; n < 5; n++ {
		dec := newGroupDecoder(bytes.NewReader(frames.Bytes()[:n]), wire.Limits{})
		_, _, err := dec.Decode()
		require.ErrorIs(t, err, io.ErrUnexpectedEOF)
		_, ok := dec.Refusal()
		require.False(t, ok)
	}
}
