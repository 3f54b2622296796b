package wire_test

import (
	"bytes"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/seed-4d73690b/rafthttp/internal/wire"
)

// checkMessage proves that m encodes as proto encodes it, and comes back equal
// by every way of decoding.
func checkMessage(t *testing.T, m *raftpb.Message) {
	t.Helper()
	want := marshal(t, m)
	require.True(t, bytes.Equal(want, wire.AppendMessage(nil, m)), "encodings differ")
	require.Equal(t, len(want), wire.MessageSize(m))
	prefixed := wire.AppendMessage([]byte("prefix"), m)
	require.Equal(t, append([]byte("prefix"), want...), prefixed)

	var b wire.Batch
	b.AppendMessage(m)
	var buf bytes.Buffer
	_, err := b.WriteTo(&buf)
	require.NoError(t, err)
	require.True(t, bytes.Equal(want, buf.Bytes()))

	// What proto makes of nil elements is an empty message.
	canonical := &raftpb.Message{}
	require.NoError(t, proto.Unmarshal(want, canonical))
	got, err := wire.UnmarshalMessage(want, noLimits)
	require.NoError(t, err)
	requireEqual(t, canonical, got)
	for _, large := range []uint64{0, 16, 4096} {
		got, err = wire.ReadMessageByFields(wire.NewReader(iotest.HalfReader(bytes.NewReader(want))), uint64(len(want)), large, noLimits)
		require.NoError(t, err)
		requireEqual(t, canonical, got)
	}
}

func TestRandomMessages(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 150 {
		checkMessage(t, randomMessage(rng))
	}
}

// TestPresence sets each field alone, to its zero value and to another.
func TestPresence(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	fields := (&raftpb.Message{}).ProtoReflect().Descriptor().Fields()
	for i := range fields.Len() {
		fd := fields.Get(i)
		t.Run(string(fd.Name()), func(t *testing.T) {
			if fd.Kind() == protoreflect.MessageKind {
				presenceOfMessage(t, fd)
				return
			}
			zero := &raftpb.Message{}
			zero.ProtoReflect().Set(fd, zeroOf(fd))
			checkMessage(t, zero)
			set := &raftpb.Message{}
			set.ProtoReflect().Set(fd, scalar(rng, fd))
			checkMessage(t, set)
		})
	}
}

// presenceOfMessage sets the fields of the message in field fd, one at a time.
func presenceOfMessage(t *testing.T, fd protoreflect.FieldDescriptor) {
	t.Helper()
	inner := fd.Message().Fields()
	for i := -1; i < inner.Len(); i++ {
		m := &raftpb.Message{}
		var sub protoreflect.Message
		if fd.IsList() {
			sub = m.ProtoReflect().Mutable(fd).List().AppendMutable().Message()
		} else {
			sub = m.ProtoReflect().Mutable(fd).Message()
		}
		if i >= 0 {
			f := inner.Get(i)
			switch {
			case f.IsList():
				sub.Mutable(f).List().Append(sub.Mutable(f).List().NewElement())
			case f.Kind() == protoreflect.MessageKind:
				sub.Mutable(f)
			default:
				sub.Set(f, zeroOf(f))
			}
		}
		checkMessage(t, m)
	}
}

func zeroOf(fd protoreflect.FieldDescriptor) protoreflect.Value {
	if fd.Kind() == protoreflect.BytesKind {
		return protoreflect.ValueOfBytes([]byte{})
	}
	return fd.Default()
}

func TestUnusualMessages(t *testing.T) {
	unknown := protowire.AppendVarint(protowire.AppendTag(nil, 500, protowire.VarintType), 7)
	withUnknown := &raftpb.Message{
		Entries:   []*raftpb.Entry{{Data: []byte("x")}},
		Snapshot:  &raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{ConfState: &raftpb.ConfState{}}},
		Responses: []*raftpb.Message{{}},
	}
	for _, m := range []proto.Message{
		withUnknown, withUnknown.Entries[0], withUnknown.Snapshot, withUnknown.Snapshot.Metadata,
		withUnknown.Snapshot.Metadata.ConfState, withUnknown.Responses[0],
	} {
		m.ProtoReflect().SetUnknown(unknown)
	}
	nested := &raftpb.Message{}
	for range 200 {
		nested = &raftpb.Message{Responses: []*raftpb.Message{{Term: proto.Uint64(1)}, nested, nil}}
	}
	tests := []struct {
		name string
		m    *raftpb.Message
	}{
		{"empty", &raftpb.Message{}},
		{"nil", nil},
		{"nil elements", &raftpb.Message{Entries: []*raftpb.Entry{nil, {}, nil}, Responses: []*raftpb.Message{nil, {}, nil}}},
		{"negative enums", &raftpb.Message{
			Type: raftpb.MessageType(-1).Enum(), Entries: []*raftpb.Entry{{Type: raftpb.EntryType(-5).Enum()}},
		}},
		{"unknown fields everywhere", withUnknown},
		{"nested responses", nested},
		{"references in responses and snapshot", &raftpb.Message{
			Context:   make([]byte, wire.RefThreshold),
			Snapshot:  &raftpb.Snapshot{Data: make([]byte, wire.RefThreshold+1)},
			Entries:   []*raftpb.Entry{{Data: make([]byte, wire.RefThreshold)}, {Data: make([]byte, wire.RefThreshold-1)}},
			Responses: []*raftpb.Message{{Context: make([]byte, wire.RefThreshold+2)}},
		}},
		{"many voters", &raftpb.Message{Snapshot: &raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{
			ConfState: &raftpb.ConfState{Voters: make([]uint64, 100_000)},
		}}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { checkMessage(t, tt.m) })
	}
}

func TestEntries(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	for range 200 {
		e := &raftpb.Entry{}
		fill(rng, e.ProtoReflect(), 0.7, 0)
		want := marshal(t, e)
		require.True(t, bytes.Equal(want, wire.AppendEntry(nil, e)), "encodings differ")
		require.Equal(t, len(want), wire.EntrySize(e))
		got, err := wire.UnmarshalEntry(want, noLimits)
		require.NoError(t, err)
		require.True(t, proto.Equal(e, got))
		require.Equal(t, e.Data == nil, got.Data == nil)
	}
	require.Zero(t, wire.EntrySize(nil))
	require.Empty(t, wire.AppendEntry(nil, nil))
}

// TestEncodeOnlyReads has the race detector watch that one message can be encoded by
// several goroutines.
func TestEncodeOnlyReads(t *testing.T) {
	m := randomMessage(rand.New(rand.NewPCG(7, 8)))
	want := marshal(t, m)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 10 {
				if !bytes.Equal(want, wire.AppendMessage(nil, m)) || wire.MemorySize(m) == 0 {
					t.Error("encodings differ")
				}
			}
		})
	}
	wg.Wait()
}

// TestOwnMemory changes the input, and appends to what was decoded: neither may
// show anywhere else.
func TestOwnMemory(t *testing.T) {
	m := msgApp(1, 10, 20, 100)
	b := marshal(t, m)
	got, err := wire.UnmarshalMessage(b, noLimits)
	require.NoError(t, err)
	clear(b)
	requireEqual(t, m, got)
	for _, e := range got.Entries {
		_ = append(e.Data, "overwritten"...)
	}
	_ = append(got.Entries, &raftpb.Entry{})
	requireEqual(t, m, got)
}

func TestDecodedMemoryIsWhatMemorySizeSays(t *testing.T) {
	rng := rand.New(rand.NewPCG(9, 10))
	for range 200 {
		m := randomMessage(rng)
		b := marshal(t, m)
		size := uint64(wire.MemorySize(m))
		limit := wire.Limits{MaxMessageBytes: max(size, uint64(len(b)))}
		for name, decode := range map[string]func(wire.Limits) (*raftpb.Message, error){
			"contiguous": func(lim wire.Limits) (*raftpb.Message, error) { return wire.UnmarshalMessage(b, lim) },
			"by fields": func(lim wire.Limits) (*raftpb.Message, error) {
				return wire.ReadMessageByFields(wire.NewReader(bytes.NewReader(b)), uint64(len(b)), 16, lim)
			},
		} {
			_, err := decode(limit)
			require.NoError(t, err, name)
			_, err = decode(wire.Limits{MaxMessageBytes: size - 1})
			require.ErrorIs(t, err, wire.ErrExceedSizeLimit, name)
		}
	}
	require.Zero(t, wire.MemorySize(nil))
}
