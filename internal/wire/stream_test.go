package wire_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
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

// sampleStreams returns messages of all shapes, whose sizes make them go each
// way through the decoders.
func sampleStreams() []*raftpb.Message {
	rng := rand.New(rand.NewPCG(11, 12))
	ms := []*raftpb.Message{
		msgApp(1, 0, 1, 64), nil, msgApp(1, 1, 64, 1024), msgApp(1, 65, 0, 0), msgApp(1, 65, 2, 5000),
		msgApp(2, 67, 1, 1<<20+17), msgApp(2, 68, 3, 100), nil, msgApp(2, 71, 700, 10), msgApp(2, 771, 5, 100_000),
		msgApp(2, 700, 5, 1), msgApp(2, 705, 2, 1),
	}
	for range 30 {
		ms = append(ms, randomMessage(rng))
	}
	return ms
}

func TestStreams(t *testing.T) {
	ms := sampleStreams()
	sources := map[string]func(io.Reader) io.Reader{
		"whole":              func(r io.Reader) io.Reader { return r },
		"one byte at a time": iotest.OneByteReader,
		"halves":             iotest.HalfReader,
		"EOF with data":      iotest.DataErrReader,
		"empty reads":        func(r io.Reader) io.Reader { return &emptyReads{r: r} },
	}
	for _, s := range streams {
		b := frames(t, s.encoder(), ms...)
		for name, source := range sources {
			t.Run(s.name+"/"+name, func(t *testing.T) {
				got, err := decodeAll(s.decoder(source(bytes.NewReader(b)), noLimits))
				require.Equal(t, io.EOF, err)
				require.Len(t, got, len(ms))
				for i, m := range ms {
					require.Equal(t, m == nil, got[i] == nil)
					requireEqual(t, m, got[i])
				}
			})
		}
	}
}

// emptyReads returns nothing, without an error, before each read.
type emptyReads struct {
	r     io.Reader
	empty bool
}

func (e *emptyReads) Read(p []byte) (int, error) {
	if e.empty = !e.empty; e.empty {
		return 0, nil
	}
	return e.r.Read(p[:min(len(p), 1000)])
}

// TestCutAnywhere cuts one frame of each kind at every byte.
func TestCutAnywhere(t *testing.T) {
	head := msgApp(4, 9, 1, 3)
	rich := msgApp(4, 10, 3, 20)
	rich.Snapshot = &raftpb.Snapshot{Data: []byte("abc"), Metadata: &raftpb.SnapshotMetadata{Index: proto.Uint64(3)}}
	rich.Responses = []*raftpb.Message{msgApp(1, 1, 1, 1)}
	rich.ProtoReflect().SetUnknown(uintField(300, 300))
	tests := []struct {
		name   string
		stream stream
		before *raftpb.Message // brings the stream to where m continues
		m      *raftpb.Message
	}{
		{"message", streams[0], nil, rich},
		{"message link heartbeat", streams[0], head, nil},
		{"large message", streams[0], nil, msgApp(4, 10, 3, 2000)},
		{"message with large data", streams[0], nil, msgApp(4, 10, 2, 4096)},
		{"msgappv2 type 1", streams[1], head, msgApp(4, 10, 3, 20)},
		{"msgappv2 type 1 of one", streams[1], head, msgApp(4, 10, 1, 20)},
		{"msgappv2 type 1 without entries", streams[1], head, msgApp(4, 10, 0, 0)},
		{"msgappv2 type 1 with large data", streams[1], head, msgApp(4, 10, 2, 4200)},
		{"msgappv2 type 2", streams[1], head, rich},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			enc := tt.stream.encoder()
			start := len(frames(t, tt.stream.encoder(), tt.before))
			b := frames(t, enc, tt.before, tt.m)
			for _, large := range []uint64{0, 16, 4096} {
				for cut := start; cut <= len(b); cut += fewer(1, 7) {
					d := tt.stream.decoder(bytes.NewReader(b[:cut]), noLimits)
					wire.TakeApart(d, large)
					got, err := decodeAll(d)
					if cut == start || cut == len(b) {
						require.Equal(t, io.EOF, err, "cut at %d", cut)
						continue
					}
					require.Equal(t, io.ErrUnexpectedEOF, err, "cut at %d", cut)
					require.Len(t, got, 1)
				}
			}
		})
	}
}

// TestSourceErrors has errors of the source come out as they are, wherever they come.
func TestSourceErrors(t *testing.T) {
	broken := errors.New("broken")
	for _, s := range streams {
		b := frames(t, s.encoder(), msgApp(4, 10, 2, 6000), msgApp(4, 12, 2, 10))
		for cut := 0; cut < len(b); cut += 7 {
			r := io.MultiReader(bytes.NewReader(b[:cut]), iotest.ErrReader(broken))
			_, err := decodeAll(s.decoder(r, noLimits))
			require.Equal(t, broken, err, "cut at %d", cut)
		}
	}
	d := wire.NewMessageDecoder(wire.NewReader(noProgress{}), noLimits)
	_, err := d.Decode()
	require.Equal(t, io.ErrNoProgress, err)
	d = wire.NewMessageDecoder(wire.NewReader(badCount{}), noLimits)
	_, err = d.Decode()
	require.ErrorContains(t, err, "invalid count")
}

type noProgress struct{}

func (noProgress) Read([]byte) (int, error) { return 0, nil }

type badCount struct{}

func (badCount) Read(p []byte) (int, error) { return len(p) + 1, nil }

// TestMsgAppV2Type says which messages go without their head.
func TestMsgAppV2Type(t *testing.T) {
	const entries, whole = 1, 2
	tests := []struct {
		name   string
		change func(m *raftpb.Message)
		want   byte
	}{
		{"continues", func(m *raftpb.Message) {}, entries},
		{"no entries", func(m *raftpb.Message) { m.Entries = nil }, entries},
		{"no commit", func(m *raftpb.Message) { m.Commit = nil }, entries},
		{"another index", func(m *raftpb.Message) { m.Index = proto.Uint64(12) }, whole},
		{"another log term", func(m *raftpb.Message) { m.LogTerm = proto.Uint64(3) }, whole},
		{"another term", func(m *raftpb.Message) { m.Term = proto.Uint64(5) }, whole},
		{"another term and log term", func(m *raftpb.Message) { m.Term, m.LogTerm = proto.Uint64(5), proto.Uint64(5) }, whole},
		{"another type", func(m *raftpb.Message) { m.Type = raftpb.MessageType_MsgProp.Enum() }, whole},
		{"vote", func(m *raftpb.Message) { m.Vote = proto.Uint64(0) }, whole},
		{"snapshot", func(m *raftpb.Message) { m.Snapshot = &raftpb.Snapshot{} }, whole},
		{"reject", func(m *raftpb.Message) { m.Reject = proto.Bool(false) }, whole},
		{"reject hint", func(m *raftpb.Message) { m.RejectHint = proto.Uint64(0) }, whole},
		{"context", func(m *raftpb.Message) { m.Context = []byte{} }, whole},
		{"responses", func(m *raftpb.Message) { m.Responses = []*raftpb.Message{{}} }, whole},
		{"unknown field", func(m *raftpb.Message) { m.ProtoReflect().SetUnknown(uintField(99, 1)) }, whole},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			first, m := msgApp(4, 9, 2, 3), msgApp(4, 11, 2, 3)
			tt.change(m)
			enc := wire.NewMsgAppV2Encoder()
			start := len(frames(t, enc, first))
			enc = wire.NewMsgAppV2Encoder()
			b := frames(t, enc, first, m)
			require.Equal(t, tt.want, b[start])
			got, err := decodeAll(wire.NewMsgAppV2Decoder(wire.NewReader(bytes.NewReader(b)), 2, 1, noLimits))
			require.Equal(t, io.EOF, err)
			if m.Commit == nil {
				m.Commit = proto.Uint64(0) // type 1 always has one
			}
			requireEqual(t, m, got[1])
		})
	}
}

// TestLinkHeartbeatAsMessage: reader of either stream drops a heartbeat from nobody,
// however it is framed.
func TestLinkHeartbeatAsMessage(t *testing.T) {
	for _, s := range streams {
		anonymous := &raftpb.Message{Type: raftpb.MessageType_MsgHeartbeat.Enum(), To: proto.Uint64(0), From: proto.Uint64(0)}
		addressed := &raftpb.Message{Type: raftpb.MessageType_MsgHeartbeat.Enum(), To: proto.Uint64(1)}
		signed := &raftpb.Message{Type: raftpb.MessageType_MsgHeartbeat.Enum(), From: proto.Uint64(1)}
		got, err := decodeAll(s.decoder(bytes.NewReader(frames(t, s.encoder(), anonymous, addressed, signed)), noLimits))
		require.Equal(t, io.EOF, err)
		require.Len(t, got, 3)
		require.Nil(t, got[0])
		requireEqual(t, addressed, got[1])
		requireEqual(t, signed, got[2])
	}
}

// TestHostileFrames has frames that a correct peer never sends. None may cost memory
// or be waited for.
func TestHostileFrames(t *testing.T) {
	u64 := func(v uint64) []byte { return binary.BigEndian.AppendUint64(nil, v) }
	msg, v2 := streams[0], streams[1]
	tests := []struct {
		name   string
		stream stream
		b      []byte
		limit  uint64
		want   error
	}{
		{"length over the default limit", msg, u64(512<<20 + 1), 0, wire.ErrExceedSizeLimit},
		{"length over a limit", msg, u64(1001), 1000, wire.ErrExceedSizeLimit},
		{"length of 2^64-1", msg, u64(math.MaxUint64), math.MaxUint64, wire.ErrExceedSizeLimit},
		{"length never kept", msg, u64(512 << 20), 0, io.ErrUnexpectedEOF},
		{"data never sent", msg, slices.Concat(u64(500<<20), []byte{0x3a}, protowire.AppendVarint(nil, 400<<20), []byte{0x22}, protowire.AppendVarint(nil, 399<<20)), 0, io.ErrUnexpectedEOF},
		{"entry longer than its frame", msg, slices.Concat(u64(100_000), []byte{0x3a}, protowire.AppendVarint(nil, 100_000), make([]byte, 20)), 0, wire.ErrMalformed},
		{"data longer than its entry", msg, slices.Concat(u64(100_000), []byte{0x3a}, protowire.AppendVarint(nil, 50_000), []byte{0x22}, protowire.AppendVarint(nil, 50_000), make([]byte, 20)), 0, wire.ErrMalformed},
		{"bad message", msg, slices.Concat(u64(2), []byte{0x20, 0x80}), 0, wire.ErrMalformed},
		{"unknown type", v2, []byte{3}, 0, wire.ErrMalformed},
		{"type 255", v2, []byte{255}, 0, wire.ErrMalformed},
		{"2^64-1 entries", v2, append([]byte{1}, u64(math.MaxUint64)...), 0, wire.ErrExceedSizeLimit},
		{"2^61 entries", v2, append([]byte{1}, u64(1<<61)...), math.MaxUint64, wire.ErrExceedSizeLimit},
		{"2^57 entries", v2, append([]byte{1}, u64(1<<57)...), math.MaxUint64, wire.ErrExceedSizeLimit},
		{"entries whose lengths pass the limit", v2, append([]byte{1}, u64(200)...), 1000, wire.ErrExceedSizeLimit},
		{"entries whose memory passes the limit", v2, append([]byte{1}, u64(20_000)...), 1 << 20, wire.ErrExceedSizeLimit},
		{"entries never sent", v2, append([]byte{1}, u64(4_000_000)...), 0, io.ErrUnexpectedEOF},
		{"entry over the limit", v2, slices.Concat([]byte{1}, u64(1), u64(1000)), 1000, wire.ErrExceedSizeLimit},
		{"entry of 2^64-1", v2, slices.Concat([]byte{1}, u64(1), u64(math.MaxUint64)), 0, wire.ErrExceedSizeLimit},
		// Behind a link heartbeat, so that all of it has come when it is looked at.
		{"one entry of 2^64-1", v2, slices.Concat([]byte{0, 1}, u64(1), u64(math.MaxUint64), make([]byte, 32)), math.MaxUint64, wire.ErrExceedSizeLimit},
		{"one entry of 2^64-25", v2, slices.Concat([]byte{0, 1}, u64(1), u64(math.MaxUint64-24), make([]byte, 32)), math.MaxUint64, wire.ErrExceedSizeLimit},
		{"bad entry that has come", v2, slices.Concat([]byte{0, 1}, u64(1), u64(1), []byte{0x08}, u64(1)), 0, wire.ErrMalformed},
		{"second entry over the limit", v2, slices.Concat([]byte{1}, u64(2), u64(600), field(4, make([]byte, 597)), u64(600)), 1000, wire.ErrExceedSizeLimit},
		{"bad entry", v2, slices.Concat([]byte{1}, u64(1), u64(1), []byte{0x08}), 0, wire.ErrMalformed},
		{"whole message over the limit", v2, append([]byte{2}, u64(1001)...), 1000, wire.ErrExceedSizeLimit},
		{"bad whole message", v2, slices.Concat([]byte{2}, u64(1), []byte{0x20}), 0, wire.ErrMalformed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			run := func() {
				d := tt.stream.decoder(bytes.NewReader(tt.b), wire.Limits{MaxMessageBytes: tt.limit})
				m, err := d.Decode()
				if m == nil && err == nil { // a link heartbeat
					m, err = d.Decode()
				}
				require.ErrorIs(t, err, tt.want)
				require.Nil(t, m)
				if sizeErr := new(wire.SizeError); errors.As(err, &sizeErr) {
					require.Greater(t, sizeErr.Size, sizeErr.Limit)
				}
			}
			run()
			if !raceEnabled {
				require.Less(t, allocated(run), uint64(1<<20+64<<10))
			}
		})
	}
}
