package wire_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/seed-4d73690b/rafthttp/internal/wire"
)

// goldenGroups are the messages of testdata/golden/groups.hex.
func goldenGroups() []grouped {
	between := func(from, to uint64, m *raftpb.Message) *raftpb.Message {
		m.From, m.To = new(from), new(to)
		return m
	}
	return []grouped{
		{},
		{7, app(5, 5, 10, 10, normal(5, 11, []byte("abc")))},
		{7, app(5, 5, 11, 11, normal(5, 12, []byte("d")), normal(5, 13, nil))},
		{7, app(5, 5, 13, 13)},
		{7, between(1, 2, &raftpb.Message{Type: raftpb.MsgAppResp.Enum(), Term: new(uint64(5)), Index: new(uint64(9))})},
		{300, between(1, 2, &raftpb.Message{Type: raftpb.MsgTimeoutNow.Enum(), Term: new(uint64(9))})},
		{7, app(5, 5, 13, 13, &raftpb.Entry{Term: new(uint64(5)), Index: new(uint64(14))})},
		{7, &raftpb.Message{Type: raftpb.MsgProp.Enum(), From: new(uint64(1)), Entries: []*raftpb.Entry{{}}}},
		{10, groupHeartbeat(1, 2, 5, 300)},
		{12, groupHeartbeat(1, 2, 5, 0)},
		{11, groupHeartbeat(1, 2, 5, 7)},
		{12, groupResponse(3, 1, 5)},
		{12, groupResponse(2, 1, 4)},
		{12, groupHeartbeat(1, 3, 6, 8)},
	}
}

func TestGroupGolden(t *testing.T) {
	b := golden(t, "groups.hex")
	want := goldenGroups()
	require.Equal(t, hex.EncodeToString(b), hex.EncodeToString(groupFrames(t, want...)))
	got, err := decodeGroups(newGroupDecoder(bytes.NewReader(b), noLimits))
	require.Equal(t, io.EOF, err)
	requireSameGroups(t, want, got)
	requireSameGroups(t, want, checkGroups(t, b))
}

// TestGroupExample compares the example of the specification with the golden vector.
func TestGroupExample(t *testing.T) {
	page, err := os.ReadFile("../../docs/extensions.md")
	require.NoError(t, err)
	_, section, ok := strings.Cut(string(page), "## The frames of `groups-1`")
	require.True(t, ok)
	_, example, ok := strings.Cut(section, "### Example\n")
	require.True(t, ok)
	example, _, _ = strings.Cut(example, "\n## ")
	var b []byte
	for line := range strings.Lines(example) {
		for _, word := range strings.Fields(regexp.MustCompile(`^ {4}([0-9a-f]{2}( |\n))*`).FindString(line)) {
			n, err := strconv.ParseUint(word, 16, 8)
			require.NoError(t, err)
			b = append(b, byte(n))
		}
	}
	require.Equal(t, hex.EncodeToString(golden(t, "groups.hex")), hex.EncodeToString(b))
}

// TestGroupRoundTrip: what comes out is what went in, with every field there or not, and in order in each flow,
// however the bytes arrive and however the messages are spread over batches.
func TestGroupRoundTrip(t *testing.T) {
	sources := map[string]func(io.Reader) io.Reader{
		"whole":              func(r io.Reader) io.Reader { return r },
		"one byte at a time": iotest.OneByteReader,
		"halves":             iotest.HalfReader,
		"EOF with data":      iotest.DataErrReader,
		"empty reads":        func(r io.Reader) io.Reader { return &emptyReads{r: r} },
	}
	for seed := range uint64(5) {
		rng := rand.New(rand.NewPCG(seed, 1))
		want := randomGroups(t, rng, fewer(600, 60), []int{1, 3, 50, 1000, 5}[seed])
		enc := wire.NewGroupEncoder()
		var b []byte
		for rest := want; len(rest) > 0; {
			n := min(1+rng.IntN(60), len(rest))
			b = append(b, appendGroupFrames(t, enc, rest[:n]...)...)
			rest = rest[n:]
			if rng.IntN(4) == 0 {
				enc.Shrink()
			}
		}
		requireSameFlows(t, want, checkGroups(t, b))
		for name, source := range sources {
			got, err := decodeGroups(newGroupDecoder(source(bytes.NewReader(b)), noLimits))
			require.Equal(t, io.EOF, err, name)
			requireSameFlows(t, want, got)
		}
	}
}

// TestGroupCutAnywhere cuts one frame of each kind at every byte.
func TestGroupCutAnywhere(t *testing.T) {
	first := grouped{300, msgApp(4, 9, 1, 3)}
	rich := msgApp(4, 10, 3, 20)
	rich.Snapshot = &raftpb.Snapshot{Data: []byte("abc"), Metadata: &raftpb.SnapshotMetadata{Index: new(uint64(3))}}
	rich.Responses = []*raftpb.Message{msgApp(1, 1, 1, 1)}
	lost := proto.CloneOf(rich)
	lost.To = nil
	tests := []struct {
		name string
		ms   []grouped
	}{
		{"slot and message", []grouped{{300, rich}}},
		{"whole message", []grouped{{300, lost}}},
		{"entries", []grouped{first, {300, msgApp(4, 10, 3, 20)}}},
		{"one entry", []grouped{first, {300, msgApp(4, 10, 1, 200)}}},
		{"no entries", []grouped{first, {300, msgApp(4, 10, 0, 0)}}},
		{"large data", []grouped{first, {300, msgApp(4, 10, 2, 4200)}}},
		{"heartbeats", []grouped{{300, groupHeartbeat(1, 2, 300, 400)}, {200, groupHeartbeat(3, 2, 300, 400)}}},
		{"responses", []grouped{{300, groupResponse(1, 2, 300)}, {200, groupResponse(3, 2, 300)}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			// Frames begin where a prefix decodes without an error.
			b := groupFrames(t, tt.ms...)
			for _, large := range []uint64{0, 16, 4096} {
				whole := 0
				for cut := range len(b) + 1 {
					d := newGroupDecoder(bytes.NewReader(b[:cut]), noLimits)
					wire.TakeGroupsApart(d, large)
					got, err := decodeGroups(d)
					want, wantErr := decodeGroups(&plainGroups{b: b[:cut]})
					require.Equal(t, wantErr, err, "cut at %d", cut)
					requireSameGroups(t, want, got)
					if err == io.EOF {
						whole++
					}
				}
				frames := 1 + bytes.Count(b[:1], []byte{1}) // and that of the slot
				if tt.ms[0].group == first.group && tt.ms[0].m == first.m {
					frames++
				}
				require.Equal(t, frames+1, whole, "only between frames it ends well")
			}
		})
	}
}

// TestGroupSourceErrors has errors of the source come out as they are, wherever they come.
func TestGroupSourceErrors(t *testing.T) {
	broken := errors.New("broken")
	b := groupFrames(t, goldenGroups()...)
	b = append(b, groupFrames(t, grouped{7, msgApp(4, 10, 2, 6000)})...)
	for cut := 0; cut < len(b); cut += fewer(1, 7) {
		r := io.MultiReader(bytes.NewReader(b[:cut]), iotest.ErrReader(broken))
		_, err := decodeGroups(newGroupDecoder(r, noLimits))
		require.Equal(t, broken, err, "cut at %d", cut)
	}
}

// TestGroupFrame says how each message goes, and that all of it arrives.
func TestGroupFrame(t *testing.T) {
	const message, whole, entries, heartbeats, responses = 2, 3, 4, 5, 6
	appends := func(change func(m *raftpb.Message)) *raftpb.Message {
		m := msgApp(4, 11, 2, 3)
		change(m)
		return m
	}
	beats := func(change func(m *raftpb.Message)) *raftpb.Message {
		m := groupHeartbeat(1, 2, 4, 11)
		change(m)
		return m
	}
	answers := func(change func(m *raftpb.Message)) *raftpb.Message {
		m := groupResponse(1, 2, 4)
		change(m)
		return m
	}
	tests := []struct {
		name string
		m    *raftpb.Message
		want byte
	}{
		{"continues", appends(func(m *raftpb.Message) {}), entries},
		{"no entries", appends(func(m *raftpb.Message) { m.Entries = nil }), entries},
		{"another commit", appends(func(m *raftpb.Message) { m.Commit = new(uint64(0)) }), entries},
		{"no commit", appends(func(m *raftpb.Message) { m.Commit = nil }), message},
		{"another index", appends(func(m *raftpb.Message) { m.Index = new(uint64(12)) }), message},
		{"another log term", appends(func(m *raftpb.Message) { m.LogTerm = new(uint64(3)) }), message},
		{"another term", appends(func(m *raftpb.Message) { m.Term = new(uint64(5)) }), message},
		{"another type", appends(func(m *raftpb.Message) { m.Type = raftpb.MsgProp.Enum() }), message},
		{"no type", appends(func(m *raftpb.Message) { m.Type = nil }), message},
		{"vote", appends(func(m *raftpb.Message) { m.Vote = new(uint64) }), message},
		{"snapshot", appends(func(m *raftpb.Message) { m.Snapshot = &raftpb.Snapshot{} }), message},
		{"reject", appends(func(m *raftpb.Message) { m.Reject = new(bool) }), message},
		{"reject hint", appends(func(m *raftpb.Message) { m.RejectHint = new(uint64) }), message},
		{"context", appends(func(m *raftpb.Message) { m.Context = []byte{} }), message},
		{"responses", appends(func(m *raftpb.Message) { m.Responses = []*raftpb.Message{{}} }), message},
		{"unknown field", appends(func(m *raftpb.Message) { m.ProtoReflect().SetUnknown(uintField(99, 1)) }), message},
		{"no from", appends(func(m *raftpb.Message) { m.From = nil }), whole},
		{"no to", appends(func(m *raftpb.Message) { m.To = nil }), whole},
		{"nothing", &raftpb.Message{}, whole},
		{"heartbeat", beats(func(m *raftpb.Message) {}), heartbeats},
		{"heartbeat of zeros", groupHeartbeat(0, 0, 0, 0), heartbeats},
		{"heartbeat with context", beats(func(m *raftpb.Message) { m.Context = []byte{} }), message},
		{"heartbeat without commit", beats(func(m *raftpb.Message) { m.Commit = nil }), message},
		{"heartbeat without term", beats(func(m *raftpb.Message) { m.Term = nil }), message},
		{"heartbeat without from", beats(func(m *raftpb.Message) { m.From = nil }), whole},
		{"heartbeat of nobody", beats(func(m *raftpb.Message) { m.From, m.To = nil, nil }), whole},
		{"response", answers(func(m *raftpb.Message) {}), responses},
		{"response with context", answers(func(m *raftpb.Message) { m.Context = []byte("x") }), message},
		{"response with commit", answers(func(m *raftpb.Message) { m.Commit = new(uint64) }), message},
		{"response without to", answers(func(m *raftpb.Message) { m.To = nil }), whole},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			enc := wire.NewGroupEncoder()
			b := appendGroupFrames(t, enc, grouped{7, msgApp(4, 9, 2, 3)})
			next := appendGroupFrames(t, enc, grouped{7, tt.m})
			require.Equal(t, tt.want, next[0])
			require.Equal(t, tt.want == heartbeats || tt.want == responses, wire.IsCoalesced(tt.m))
			got := checkGroups(t, append(b, next...))
			require.Len(t, got, 2)
			requireEqual(t, tt.m, got[1].m)
		})
	}
}

// TestGroupTermOfZero: a new slot is at (0, 0), where a message that has no term is not continued with one.
func TestGroupTermOfZero(t *testing.T) {
	for _, clear := range []func(m *raftpb.Message){
		func(m *raftpb.Message) { m.Term = nil },
		func(m *raftpb.Message) { m.LogTerm = nil },
		func(m *raftpb.Message) { m.Index = nil },
		func(m *raftpb.Message) { m.Commit = nil },
	} {
		want := []grouped{{1, msgApp(0, 0, 0, 0)}, {2, msgApp(0, 0, 0, 0)}}
		clear(want[0].m)
		requireSameGroups(t, want, checkGroups(t, groupFrames(t, want...)))
	}
}

// TestGroupEntryLengths has entries around the size from which their length takes two bytes.
func TestGroupEntryLengths(t *testing.T) {
	want := []grouped{{1, msgApp(0, 0, 1, 0)}}
	for size := range 130 {
		for _, last := range []uint64{0, 1 << 62} {
			m := msgApp(0, uint64(len(want)), 1, size)
			m.Entries[0].Term = new(last)
			want = append(want, grouped{1, m})
		}
	}
	requireSameGroups(t, want, checkGroups(t, groupFrames(t, want...)))
}

// TestIsCoalesced sets each field, to its zero value, of messages that are coalesced otherwise.
func TestIsCoalesced(t *testing.T) {
	for _, m := range []*raftpb.Message{groupHeartbeat(1, 2, 3, 4), groupResponse(1, 2, 3)} {
		require.True(t, wire.IsCoalesced(m))
		fields := m.ProtoReflect().Descriptor().Fields()
		for i := range fields.Len() {
			fd := fields.Get(i)
			c := proto.CloneOf(m)
			r := c.ProtoReflect()
			if r.Has(fd) {
				r.Clear(fd)
			} else if fd.IsList() {
				r.Mutable(fd).List().Append(r.Mutable(fd).List().NewElement())
			} else {
				r.Set(fd, r.NewField(fd))
			}
			require.False(t, wire.IsCoalesced(c), fd.Name())
			requireSameGroups(t, []grouped{{9, c}}, checkGroups(t, groupFrames(t, grouped{9, c})))
		}
		for typ := range raftpb.MessageType_name {
			c := proto.CloneOf(m)
			c.Type = raftpb.MessageType(typ).Enum()
			require.Equal(t, *c.Type == *m.Type, wire.IsCoalesced(c), c.Type)
		}
	}
}

// TestGroupSlotsAreEvicted: more flows than slots take turns, and those in use keep theirs.
func TestGroupSlotsAreEvicted(t *testing.T) {
	const hot = 50
	rng := rand.New(rand.NewPCG(7, 7))
	enc := wire.NewGroupEncoder()
	d := &plainGroups{}
	var want []grouped
	ends := map[flow]*raftpb.Message{}
	add := func(f flow) []byte {
		ends[f] = nextAppend(rng, ends[f], f)
		g := grouped{f.group, ends[f]}
		want = append(want, g)
		return appendGroupFrames(t, enc, g)
	}
	var b []byte
	defined := 0
	for i := range fewer(3*wire.MaxSlots, wire.MaxSlots+wire.MaxSlots/8) {
		b = append(b, add(flow{uint64(100 + i), 1, 2})...)
		if f := (flow{uint64(i % hot), 1, 2}); i < hot {
			b = append(b, add(f)...)
		} else {
			frame := add(f)
			if frame[0] == 1 {
				defined++
			}
			b = append(b, frame...)
		}
	}
	require.Zero(t, defined, "a flow in use keeps its slot")
	for i := range 100 {
		b = append(b, add(flow{uint64(100 + i), 1, 2})...) // evicted since
	}
	d.b = b
	got, err := decodeGroups(d)
	require.Equal(t, io.EOF, err)
	requireSameGroups(t, want, got)
	require.Len(t, d.slots, wire.MaxSlots)
	got, err = decodeGroups(newGroupDecoder(bytes.NewReader(b), noLimits))
	require.Equal(t, io.EOF, err)
	requireSameGroups(t, want, got)
}

// TestGroupBatch: a large entry is referenced, and its data goes to its place.
func TestGroupBatch(t *testing.T) {
	m := msgApp(1, 0, 2, wire.RefThreshold)
	var b wire.Batch
	enc := wire.NewGroupEncoder()
	enc.Append(&b, 7, m)
	next := msgApp(1, 2, 3, wire.RefThreshold)
	enc.Append(&b, 7, next)
	enc.Finish(&b)
	require.Equal(t, 5, wire.References(&b))
	require.Less(t, wire.BufferCap(&b), 1024)
	var buf bytes.Buffer
	_, err := b.WriteTo(&buf)
	require.NoError(t, err)
	requireSameGroups(t, []grouped{{7, m}, {7, next}}, checkGroups(t, buf.Bytes()))
}

func TestGroupShrink(t *testing.T) {
	enc := wire.NewGroupEncoder()
	ms := make([]grouped, 5000)
	for i := range ms {
		ms[i] = grouped{uint64(i), groupHeartbeat(1, 2, 3, 1<<20)}
	}
	ms = append(ms, grouped{9999, groupResponse(1, 2, 3)})
	appendGroupFrames(t, enc, ms...)
	require.Greater(t, wire.RowsCap(enc), 20_000)
	enc.Shrink()
	require.LessOrEqual(t, wire.RowsCap(enc), 10*wire.KeepBuffer)
	requireSameFlows(t, ms, checkGroups(t, appendGroupFrames(t, enc, ms...)))
}
