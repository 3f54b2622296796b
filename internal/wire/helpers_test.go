package wire_test

import (
	"bytes"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/seed-4d73690b/rafthttp/internal/wire"
)

var noLimits = wire.Limits{}

// marshal is the encoding that ours must equal.
func marshal(t testing.TB, m proto.Message) []byte {
	t.Helper()
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	require.NoError(t, err)
	return b
}

// fewer is all, or few with the race detector, which makes a codec ten times slower and finds nothing in one without goroutines:
// tools/test runs the tests of this package without it as well.
func fewer(all, few int) int {
	if raceEnabled {
		return few
	}
	return all
}

// requireEqual compares messages as protobuf does, and by presence.
func requireEqual(t testing.TB, want, got *raftpb.Message) {
	t.Helper()
	if !proto.Equal(want, got) {
		require.Equal(t, want.String(), got.String())
		require.Fail(t, "messages differ in what String does not show")
	}
	// proto.Equal looks past the difference of nil and empty lists; bytes do not.
	require.Equal(t, marshal(t, want), marshal(t, got))
	require.Equal(t, want.GetEntries() == nil, got.GetEntries() == nil)
}

// fill sets each field of m with the given chance, by reflection.
func fill(rng *rand.Rand, m protoreflect.Message, chance float64, depth int) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		fd := fields.Get(i)
		if rng.Float64() >= chance {
			continue
		}
		isMessage := fd.Kind() == protoreflect.MessageKind
		if isMessage && depth == 0 {
			continue
		}
		switch {
		case fd.IsList():
			list := m.Mutable(fd).List()
			for range 1 + rng.IntN(3) {
				v := list.NewElement()
				if isMessage {
					fill(rng, v.Message(), chance, depth-1)
				} else {
					v = scalar(rng, fd)
				}
				list.Append(v)
			}
		case isMessage:
			fill(rng, m.Mutable(fd).Message(), chance, depth-1)
		default:
			m.Set(fd, scalar(rng, fd))
		}
	}
	if rng.Float64() < chance/4 {
		u := protowire.AppendTag(nil, protowire.Number(100+rng.IntN(1000)), protowire.BytesType)
		m.SetUnknown(protowire.AppendBytes(u, randomBytes(rng)))
	}
}

func scalar(rng *rand.Rand, fd protoreflect.FieldDescriptor) protoreflect.Value {
	switch fd.Kind() {
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(rng.IntN(2) == 0)
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(protoreflect.EnumNumber(int32(randomUint(rng))))
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes(randomBytes(rng))
	default:
		return protoreflect.ValueOfUint64(randomUint(rng))
	}
}

// randomUint returns integers of all lengths.
func randomUint(rng *rand.Rand) uint64 { return rng.Uint64() >> rng.UintN(64) }

func randomBytes(rng *rand.Rand) []byte {
	sizes := []int{0, 1, 7, 100, 5000, 20000}
	b := make([]byte, sizes[min(rng.IntN(10), rng.IntN(len(sizes)))])
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

func randomMessage(rng *rand.Rand) *raftpb.Message {
	m := &raftpb.Message{}
	chance := []float64{0.2, 0.6, 1}[rng.IntN(3)]
	fill(rng, m.ProtoReflect(), chance, 3)
	return m
}

// msgApp returns a MsgApp with n entries of size bytes, that continue at index.
func msgApp(term, index uint64, n, size int) *raftpb.Message {
	m := &raftpb.Message{
		Type: raftpb.MessageType_MsgApp.Enum(), To: proto.Uint64(2), From: proto.Uint64(1), Term: proto.Uint64(term),
		LogTerm: proto.Uint64(term), Index: proto.Uint64(index), Commit: proto.Uint64(index),
	}
	for i := range n {
		m.Entries = append(m.Entries, &raftpb.Entry{
			Type: raftpb.EntryType_EntryNormal.Enum(), Term: proto.Uint64(term),
			Index: proto.Uint64(index + 1 + uint64(i)), Data: bytes.Repeat([]byte{byte(i + 1)}, size),
		})
	}
	return m
}

// frames encodes messages as one stream; nil stands for a link heartbeat.
func frames(t testing.TB, enc wire.Encoder, ms ...*raftpb.Message) []byte {
	t.Helper()
	var b wire.Batch
	for _, m := range ms {
		if m == nil {
			enc.AppendLinkHeartbeat(&b)
			continue
		}
		enc.Append(&b, m)
	}
	var buf bytes.Buffer
	n, err := b.WriteTo(&buf)
	require.NoError(t, err)
	require.EqualValues(t, b.Len(), n)
	require.Equal(t, b.Len(), buf.Len())
	return buf.Bytes()
}

// stream is one of the two kinds of stream.
type stream struct {
	name    string
	encoder func() wire.Encoder
	decoder func(r io.Reader, lim wire.Limits) wire.Decoder
}

var streams = []stream{
	{"message", wire.NewMessageEncoder, func(r io.Reader, lim wire.Limits) wire.Decoder {
		return wire.NewMessageDecoder(reader(r), lim)
	}},
	{"msgappv2", wire.NewMsgAppV2Encoder, func(r io.Reader, lim wire.Limits) wire.Decoder {
		return wire.NewMsgAppV2Decoder(reader(r), 2, 1, lim)
	}},
}

// frameDecoder is the part of a wire.Decoder that plain ones have as well.
type frameDecoder interface {
	Decode() (*raftpb.Message, error)
}

// decodeAll decodes until an error, which it returns.
func decodeAll(d frameDecoder) ([]*raftpb.Message, error) {
	var ms []*raftpb.Message
	for {
		m, err := d.Decode()
		if err != nil {
			return ms, err
		}
		ms = append(ms, m)
	}
}

// reader returns r itself if it is a Reader, else a new one of it.
func reader(r io.Reader) *wire.Reader {
	if r, ok := r.(*wire.Reader); ok {
		return r
	}
	return wire.NewReader(r)
}
