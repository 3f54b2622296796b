package wire_test

import (
	"bytes"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/seed-4d73690b/rafthttp/internal/wire"
)

// checkDecode proves that b is taken or refused as proto does it, by every way
// of decoding, and makes an equal message.
func checkDecode(t *testing.T, b []byte) {
	t.Helper()
	want := &raftpb.Message{}
	wantErr := proto.Unmarshal(b, want)
	check := func(how string, got *raftpb.Message, err error) {
		t.Helper()
		if wantErr != nil {
			require.ErrorIs(t, err, wire.ErrMalformed, how)
			require.Nil(t, got, how)
			return
		}
		require.NoError(t, err, how)
		requireEqual(t, want, got)
	}
	got, err := wire.UnmarshalMessage(b, noLimits)
	check("contiguous", got, err)
	slowly := iotest.OneByteReader
	if len(b) > 10_000 {
		slowly = iotest.HalfReader
	}
	got, err = wire.ReadMessage(wire.NewReader(slowly(bytes.NewReader(b))), uint64(len(b)), noLimits)
	check("read", got, err)
	for _, large := range []uint64{0, 16} {
		r := wire.NewReader(slowly(bytes.NewReader(b)))
		got, err = wire.ReadMessageByFields(r, uint64(len(b)), large, noLimits)
		check("by fields", got, err)
	}
}

// field encodes a length-delimited field.
func field(num protowire.Number, parts ...[]byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(nil, num, protowire.BytesType), slices.Concat(parts...))
}

// uintField encodes a varint field.
func uintField(num protowire.Number, v uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(nil, num, protowire.VarintType), v)
}

// confState wraps a ConfState into a message.
func confState(parts ...[]byte) []byte {
	return field(9, field(2, field(1, parts...)))
}

// nest wraps a message into the responses of others.
func nest(levels int, innermost []byte) []byte {
	heads := make([][]byte, levels, levels+1)
	size := len(innermost)
	for i := levels - 1; i >= 0; i-- {
		heads[i] = protowire.AppendVarint(protowire.AppendTag(nil, 14, protowire.BytesType), uint64(size))
		size += len(heads[i])
	}
	return slices.Concat(append(heads, innermost)...)
}

func TestDecodeAsProto(t *testing.T) {
	overlong := []byte{0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00}
	overflow := bytes.Repeat([]byte{0xff}, 10)
	group := slices.Concat([]byte{0xa3, 0x06}, uintField(1, 5), []byte{0xa4, 0x06}) // field 100
	tests := []struct {
		name string
		b    []byte
	}{
		{"empty", nil},
		{"duplicate scalar", slices.Concat(uintField(4, 1), uintField(4, 2))},
		{"overlong varint", append([]byte{0x20}, overlong...)},
		{"overflowing varint", append([]byte{0x20}, overflow...)},
		{"overlong tag", slices.Concat([]byte{0xa0, 0x80, 0x80, 0x00}, []byte{5})},
		{"longest tag and value", slices.Concat([]byte{0xa0, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00}, overlong)},
		{"overlong tag of an unknown field", slices.Concat([]byte{0xa0, 0x86, 0x80, 0x00}, []byte{5})},
		{"overlong length", slices.Concat([]byte{0x3a}, []byte{0x82, 0x80, 0x00}, uintField(2, 9))},
		{"bool of many bits", uintField(10, math.MaxUint64)},
		{"enum of many bits", uintField(1, math.MaxUint64-1)},
		{"field number 0", []byte{0x00, 0x01}},
		{"field number too large", slices.Concat(protowire.AppendVarint(nil, 1<<32), []byte{1})},
		{"largest field number", uintField(protowire.MaxValidNumber, 1)},
		{"invalid wire type 6", []byte{0x0e, 0x01}},
		{"invalid wire type 7", []byte{0x0f, 0x01}},
		{"scalar as bytes", field(4, []byte("x"))},
		{"bytes as scalar", uintField(12, 3)},
		{"entry as scalar", uintField(7, 3)},
		{"scalar as fixed64", []byte{0x21, 1, 2, 3, 4, 5, 6, 7, 8}},
		{"scalar as fixed32", []byte{0x25, 1, 2, 3, 4}},
		{"fixed64 cut", []byte{0x21, 1, 2, 3, 4, 5, 6, 7}},
		{"group", slices.Concat(uintField(4, 1), group, uintField(5, 1))},
		{"group in an entry", field(7, uintField(2, 1), group, field(4, []byte("data")))},
		{"group without an end", []byte{0xa3, 0x06, 0x08, 0x01}},
		{"group with another end", []byte{0xa3, 0x06, 0xac, 0x06}},
		{"end of no group", []byte{0xa4, 0x06}},
		{"tag without a value", []byte{0x20}},
		{"length without data", []byte{0x3a, 0x05, 0x01}},
		{"length of 2^64-1", slices.Concat([]byte{0x3a}, protowire.AppendVarint(nil, math.MaxUint64))},
		{"length of 2^63-1 in an entry", field(7, []byte{0x22}, protowire.AppendVarint(nil, math.MaxInt64))},
		{"entry reaches out of the message", []byte{0x3a, 0x03, 0x22, 0x05, 0x01}},
		{"entries between others", slices.Concat(field(7, uintField(3, 1)), uintField(4, 1), field(7, uintField(3, 2)), uintField(100, 1), field(7, uintField(3, 3)))},
		{"entry fields twice", field(7, field(4, []byte("a")), uintField(2, 1), field(4, []byte("b")), uintField(2, 2))},
		{"short data one byte short", field(7, []byte{0x22, 0x7f}, make([]byte, 126))},
		{"data of 128 bytes one byte short", field(7, []byte{0x22, 0x80, 0x01}, make([]byte, 127))},
		{"overlong length of one, and as many bytes as its first byte says", field(7, []byte{0x22, 0x81, 0x00, 'x'}, field(50, make([]byte, 123)))},
		{"entry data empty after full", field(7, field(4, []byte("a")), field(4))},
		{"snapshots merge", slices.Concat(
			field(9, field(1, []byte("a")), field(2, uintField(2, 5), field(1, uintField(1, 1)))),
			field(9, field(2, uintField(3, 6), field(1, uintField(1, 2), uintField(2, 3)))))},
		{"snapshots merge around an unknown field", slices.Concat(
			field(9, field(2, uintField(2, 5))), uintField(100, 1), field(9, field(1, []byte("b"))))},
		{"metadata merges", field(9, field(2, uintField(2, 5)), field(2, uintField(3, 6)), field(2))},
		{"voters packed", confState(field(1, []byte{1, 2, 0x83, 0x01}), field(1, []byte{9}))},
		{"voters packed and not", confState(uintField(1, 4), field(1, []byte{1, 2}), uintField(1, 5), field(4, nil))},
		{"voters packed badly", confState(field(1, []byte{1, 0x80}))},
		{"voters packed with an overflow", confState(field(2, overflow))},
		{"voters fixed", confState([]byte{0x09, 1, 2, 3, 4, 5, 6, 7, 8})},
		{"unknown in each", slices.Concat(uintField(50, 1), field(7, uintField(50, 2)),
			field(9, uintField(50, 3), field(2, uintField(50, 4), field(1, uintField(50, 5), uintField(6, 1)))), field(14, uintField(50, 6)))},
		{"unknown fields in order", slices.Concat(uintField(50, 1), field(51, []byte("x")), uintField(50, 2))},
		{"bad metadata", field(9, field(2, []byte{0x10}))},
		{"bad snapshot", field(9, []byte{0x0a, 0x02, 0x01})},
		{"bad response", field(14, []byte{0x10})},
		{"100 levels of responses", nest(100, field(7, uintField(2, 1)))},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { checkDecode(t, tt.b) })
	}
}

// TestNesting has the last level that proto takes, and the first it does not, of
// each kind.
func TestNesting(t *testing.T) {
	tests := []struct {
		name string
		b    []byte
	}{
		{"9999 levels of responses", nest(9999, nil)},
		{"10000 levels of responses", nest(10000, nil)},
		{"an entry at level 10000", nest(9998, field(7, uintField(2, 1)))},
		{"an entry at level 10001", nest(9999, field(7, uintField(2, 1)))},
		{"a snapshot at level 10001", nest(9999, field(9, nil))},
		{"metadata at level 10001", nest(9998, field(9, field(2, nil)))},
		{"a ConfState at level 10001", nest(9997, confState())},
		{"a ConfState at level 10000", nest(9996, confState())},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			want := proto.Unmarshal(tt.b, &raftpb.Message{})
			_, err := wire.UnmarshalMessage(tt.b, noLimits)
			require.Equal(t, want == nil, err == nil)
			if err != nil {
				require.ErrorIs(t, err, wire.ErrMalformed)
			}
			_, err = wire.ReadMessageByFields(wire.NewReader(bytes.NewReader(tt.b)), uint64(len(tt.b)), 0, noLimits)
			require.Equal(t, want == nil, err == nil)
		})
	}
}

// TestDecodeCutAnywhere cuts bare protobuf, which some cuts leave valid, at every
// byte.
func TestDecodeCutAnywhere(t *testing.T) {
	m := msgApp(3, 9, 2, 10)
	m.Snapshot = &raftpb.Snapshot{Data: []byte("s"), Metadata: &raftpb.SnapshotMetadata{ConfState: &raftpb.ConfState{Voters: []uint64{1, 300}}}}
	m.Responses = []*raftpb.Message{{Term: proto.Uint64(300)}}
	b := marshal(t, m)
	for i := range b {
		checkDecode(t, b[:i])
	}
}

// TestLargeOddities has what is unusual in messages too large to be contiguous.
func TestLargeOddities(t *testing.T) {
	big := bytes.Repeat([]byte("0123456789abcdef"), 20_000)
	tests := []struct {
		name string
		b    []byte
	}{
		{"large data twice", field(7, field(4, big), field(4, big[:5000]))},
		{"large unknown field first", slices.Concat(field(50, big), uintField(4, 1), field(7, field(4, big)))},
		{"large unknown field in an entry", slices.Concat(field(7, uintField(2, 1), field(50, big), field(4, big)), field(7, field(4, big)))},
		{"large snapshot", field(9, field(1, big), field(2, uintField(2, 1)))},
		{"large metadata", field(9, field(2, uintField(2, 1), field(1, field(1, bytes.Repeat([]byte{5}, 100_000)))), field(1, big))},
		{"large context", slices.Concat(uintField(4, 1), field(12, big))},
		{"large response", field(14, field(7, field(4, big)), uintField(4, 1))},
		{"large responses in each other", nest(3, field(7, field(4, big)))},
		{"bad end", slices.Concat(field(7, field(4, big)), []byte{0x20})},
		{"bad tag", slices.Concat(field(7, field(4, big)), []byte{0x00, 0x00})},
		{"bad varint", slices.Concat(field(7, field(4, big)), []byte{0x20}, bytes.Repeat([]byte{0xff}, 10))},
		{"bad length", slices.Concat(field(7, field(4, big)), []byte{0x3a}, bytes.Repeat([]byte{0xff}, 10))},
		{"inner longer than outer", field(7, field(4, big)[:len(big)])},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { checkDecode(t, tt.b) })
	}
}

func TestLimits(t *testing.T) {
	const mib = 1 << 20
	emptyEntries := func(n int) []byte { return bytes.Repeat([]byte{0x3a, 0x00}, n) }
	tests := []struct {
		name  string
		b     []byte
		limit uint64
		what  string
	}{
		{"encoded length", field(12, make([]byte, 1000)), 1000, "message"},
		{"empty entries", emptyEntries(100_000), mib, "decoded message"},
		{"empty entries behind an unknown field", append(uintField(50, 1), emptyEntries(100_000)...), mib, "decoded message"},
		{"empty responses", bytes.Repeat([]byte{0x72, 0x00}, 100_000), mib, "decoded message"},
		{"nested responses", nest(9000, nil), mib, "decoded message"},
		{"packed voters", confState(field(1, make([]byte, mib/2))), mib, "decoded message"},
		{"voters", confState(bytes.Repeat([]byte{0x08, 0x00}, mib/4)), mib, "decoded message"},
		{"unknown fields", field(50, make([]byte, 1000)), 1100, "decoded message"},
		{"data", field(7, field(4, make([]byte, 1000))), 1100, "decoded message"},
		{"snapshot", field(9, nil), uint64(wire.MemorySize(&raftpb.Message{Snapshot: &raftpb.Snapshot{}})) - 1, "decoded message"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			lim := wire.Limits{MaxMessageBytes: tt.limit}
			check := func(err error) {
				t.Helper()
				var sizeErr *wire.SizeError
				require.ErrorAs(t, err, &sizeErr)
				require.ErrorIs(t, err, wire.ErrExceedSizeLimit)
				require.Equal(t, tt.what, sizeErr.What)
				require.Equal(t, tt.limit, sizeErr.Limit)
				require.Greater(t, sizeErr.Size, sizeErr.Limit)
				require.Contains(t, err.Error(), "exceeds the size limit")
			}
			_, err := wire.UnmarshalMessage(tt.b, lim)
			check(err)
			_, err = wire.ReadMessage(wire.NewReader(bytes.NewReader(tt.b)), uint64(len(tt.b)), lim)
			check(err)
			_, err = wire.ReadMessageByFields(wire.NewReader(bytes.NewReader(tt.b)), uint64(len(tt.b)), 0, lim)
			check(err)
			_, err = wire.UnmarshalMessage(tt.b, wire.Limits{MaxMessageBytes: math.MaxUint64})
			require.NoError(t, err)
		})
	}
	_, err := wire.UnmarshalEntry(make([]byte, 200), wire.Limits{MaxMessageBytes: 199})
	require.ErrorIs(t, err, wire.ErrExceedSizeLimit)
	_, err = wire.UnmarshalEntry(nil, wire.Limits{MaxMessageBytes: 10})
	require.ErrorIs(t, err, wire.ErrExceedSizeLimit)
	_, err = wire.UnmarshalEntry([]byte{0x08}, noLimits)
	require.ErrorIs(t, err, wire.ErrMalformed)
}

// TestDecoderMemory: what was charged for a message is what it occupies.
func TestDecoderMemory(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 5))
	for _, s := range streams {
		var ms []*raftpb.Message
		for i := range fewer(200, 30) {
			m := randomMessage(rng)
			if i%3 == 0 {
				m = msgApp(1, uint64(i), rng.IntN(300), rng.IntN(6000))
			}
			ms = append(ms, m)
		}
		d := s.decoder(bytes.NewReader(frames(t, s.encoder(), ms...)), noLimits)
		for range ms {
			m, err := d.Decode()
			require.NoError(t, err)
			if m != nil {
				require.Equal(t, wire.MemorySize(m), d.Memory(), m)
			}
		}
	}
}
