package wire_test

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/seed-4d73690b/rafthttp/internal/wire"
)

func TestSizesThroughStreams(t *testing.T) {
	for _, size := range []int{0, 10, 5000, 70000, 1 << 20, 3<<20 + 5} {
		for _, n := range []int{0, 1, 2, 64} {
			if n == 64 && size > 70000 {
				continue
			}
			m := &raftpb.Message{Type: raftpb.MessageType_MsgApp.Enum(), To: proto.Uint64(3), Term: proto.Uint64(7), LogTerm: proto.Uint64(7), Index: proto.Uint64(1 << 40), Commit: proto.Uint64(9)}
			for i := range n {
				m.Entries = append(m.Entries, &raftpb.Entry{Term: proto.Uint64(7), Index: proto.Uint64(uint64(i)), Data: make([]byte, size)})
			}
			want, _ := proto.MarshalOptions{Deterministic: true}.Marshal(m)
			require.True(t, bytes.Equal(want, wire.AppendMessage(nil, m)))
			require.Equal(t, len(want), wire.MessageSize(m))
			got, err := wire.UnmarshalMessage(want, wire.Limits{})
			require.NoError(t, err)
			require.True(t, proto.Equal(m, got))
			var b wire.Batch
			for _, enc := range []wire.Encoder{wire.NewMessageEncoder(), wire.NewMsgAppV2Encoder()} {
				b.Reset()
				var dec wire.Decoder
				var buf bytes.Buffer
				r := wire.NewReader(&buf)
				dec = wire.NewMsgAppV2Decoder(r, 3, 0, wire.Limits{})
				if enc == wire.NewMessageEncoder() {
					dec = wire.NewMessageDecoder(r, wire.Limits{})
				}
				enc.Append(&b, m)
				enc.AppendLinkHeartbeat(&b)
				m2 := proto.Clone(m).(*raftpb.Message)
				m2.Index = proto.Uint64(m.GetIndex())
				if n > 0 {
					m2.Index = proto.Uint64(uint64(n - 1))
				}
				m2.From = proto.Uint64(0)
				enc.Append(&b, m2)
				k, err := b.WriteTo(&buf)
				require.NoError(t, err)
				require.EqualValues(t, b.Len(), k)
				got, err := dec.Decode()
				require.NoError(t, err)
				require.True(t, proto.Equal(m, got))
				got, err = dec.Decode()
				require.NoError(t, err)
				require.Nil(t, got)
				got, err = dec.Decode()
				require.NoError(t, err)
				require.True(t, proto.Equal(m2, got), "%v", got)
			}
		}
	}
}
