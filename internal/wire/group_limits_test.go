package wire_test

import (
	"bytes"
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

	"github.com/seed-4d73690b/rafthttp/internal/wire"
)

// varints encodes integers one after the other.
func varints(vs ...uint64) (b []byte) {
	for _, v := range vs {
		b = protowire.AppendVarint(b, v)
	}
	return b
}

// TestGroupHostileFrames has frames that a correct peer never sends. None may cost memory
// or be waited for.
func TestGroupHostileFrames(t *testing.T) {
	slot := varints(1, 0, 7, 1, 2)
	overflow := append(bytes.Repeat([]byte{0xff}, 9), 0x02)
	endless := bytes.Repeat([]byte{0x80}, 20)
	checkHostile(t, []hostileFrames{
		{"unknown type", []byte{8}, 0, wire.ErrMalformed},
		{"type 255", []byte{255}, 0, wire.ErrMalformed},
		{"slot 4096", varints(1, 4096, 7, 1, 2), 0, wire.ErrMalformed},
		{"slot 2^64-1", varints(1, math.MaxUint64, 7, 1, 2), 0, wire.ErrMalformed},
		{"slot of a varint that overflows", slices.Concat([]byte{1, 0}, overflow), 0, wire.ErrMalformed},
		{"slot of a varint without an end", slices.Concat([]byte{1, 0}, endless), 0, wire.ErrMalformed},
		{"message of no slot", []byte{2, 0, 0}, 0, wire.ErrMalformed},
		{"message of another slot", slices.Concat(slot, []byte{2, 1, 0}), 0, wire.ErrMalformed},
		{"message of a slot below the largest", slices.Concat(varints(1, 9, 7, 1, 2), []byte{2, 8, 0}), 0, wire.ErrMalformed},
		{"message of slot 2^64-1", slices.Concat(slot, varints(2, math.MaxUint64, 0)), 0, wire.ErrMalformed},
		{"message with From", slices.Concat(slot, []byte{2, 0, 2}, uintField(3, 1)), 0, wire.ErrMalformed},
		{"message with To", slices.Concat(slot, []byte{2, 0, 2}, uintField(2, 2)), 0, wire.ErrMalformed},
		{"bad message", slices.Concat(slot, []byte{2, 0, 1, 0x20}), 0, wire.ErrMalformed},
		{"message over a limit", slices.Concat(slot, varints(2, 0, 1001)), 1000, io.ErrUnexpectedEOF},
		{"message of 2^64-1", slices.Concat(slot, varints(2, 0, math.MaxUint64)), math.MaxUint64, wire.ErrExceedSizeLimit},
		{"message never sent", slices.Concat(slot, varints(2, 0, 512<<20)), 0, io.ErrUnexpectedEOF},
		{"data never sent", slices.Concat(slot, varints(2, 0, 500<<20), []byte{0x3a}, varints(400<<20), []byte{0x22}, varints(399<<20)), 0, io.ErrUnexpectedEOF},
		{"whole message over a limit", varints(3, 7, 1001), 1000, io.ErrUnexpectedEOF},
		{"bad whole message", []byte{3, 7, 1, 0x20}, 0, wire.ErrMalformed},
		{"entries of no slot", []byte{4, 0, 1, 1, 0}, 0, wire.ErrMalformed},
		{"entries of another slot", slices.Concat(slot, []byte{4, 1, 1, 1, 0}), 0, wire.ErrMalformed},
		{"entries of slot 4096", slices.Concat(slot, varints(4, 4096, 1, 1, 0)), 0, wire.ErrMalformed},
		{"2^64-1 entries", slices.Concat(slot, varints(4, 0, 0, math.MaxUint64)), math.MaxUint64, wire.ErrExceedSizeLimit},
		{"2^57 entries", slices.Concat(slot, varints(4, 0, 0, 1<<57)), math.MaxUint64, wire.ErrExceedSizeLimit},
		{"entries whose lengths pass the limit", slices.Concat(slot, varints(4, 0, 0, 1001)), 1000, io.ErrUnexpectedEOF},
		{"entries whose memory passes the limit", slices.Concat(slot, varints(4, 0, 0, 20_000)), 1 << 20, io.ErrUnexpectedEOF},
		{"entries never sent", slices.Concat(slot, varints(4, 0, 0, 4_000_000)), 0, io.ErrUnexpectedEOF},
		{"entry over the limit", slices.Concat(slot, varints(4, 0, 0, 1, 1000)), 1000, io.ErrUnexpectedEOF},
		{"entry of 2^64-1", slices.Concat(slot, varints(4, 0, 0, 1, math.MaxUint64)), math.MaxUint64, wire.ErrExceedSizeLimit},
		{"entry of 2^64-4", slices.Concat(slot, varints(4, 0, 0, 1, math.MaxUint64-3), make([]byte, 32)), math.MaxUint64, wire.ErrExceedSizeLimit},
		{"second entry over the limit", slices.Concat(slot, varints(4, 0, 0, 2, 600), field(4, make([]byte, 597)), varints(600)), 1000, io.ErrUnexpectedEOF},
		{"bad entry", slices.Concat(slot, varints(4, 0, 0, 1, 1), []byte{0x08}), 0, wire.ErrMalformed},
		{"entry whose length overflows", slices.Concat(slot, varints(4, 0, 0, 1), overflow), 0, wire.ErrMalformed},
		{"commit that overflows", slices.Concat(slot, []byte{4, 0}, overflow), 0, wire.ErrMalformed},
		{"payload over the limit", varints(5, 64<<10+1), 0, wire.ErrMalformed},
		{"payload of 2^64-1", varints(6, math.MaxUint64), math.MaxUint64, wire.ErrMalformed},
		{"payload never sent", varints(5, 64<<10), 0, io.ErrUnexpectedEOF},
	})
}

// TestGroupHostileColumns has columns that a correct peer never sends.
func TestGroupHostileColumns(t *testing.T) {
	columns := func(typ byte, payload ...byte) []byte {
		return slices.Concat([]byte{typ}, varints(uint64(len(payload))), payload)
	}
	overflow := append(bytes.Repeat([]byte{0xff}, 9), 0x02)
	checkHostile(t, []hostileFrames{
		{"memory of a row over the limit", columns(5, 1, 7, 2, 1, 2, 3, 4), 100, wire.ErrExceedSizeLimit},
		{"empty payload", columns(5), 0, wire.ErrMalformed},
		{"no flags", columns(5, 1), 0, wire.ErrMalformed},
		{"no rows", columns(6, 0, 7, 1, 2, 3), 0, wire.ErrMalformed},
		{"unknown flag", columns(6, 1, 15, 2, 1, 2, 3), 0, wire.ErrMalformed},
		{"more rows than bytes", columns(6, 7, 7, 2, 1, 2, 3), 0, wire.ErrMalformed},
		{"2^64-1 rows", columns(6, varints(math.MaxUint64, 7, 2, 1, 2, 3)...), 0, wire.ErrMalformed},
		{"2^64-1 rows without bytes", columns(6, varints(math.MaxUint64, 7, 1, 2, 3)...), 0, wire.ErrMalformed},
		{"columns cut before the last value", columns(5, 2, 7, 2, 2, 1, 2, 3, 4), 0, wire.ErrMalformed},
		{"columns cut before a column", columns(5, 1, 7, 2, 1), 0, wire.ErrMalformed},
		{"columns cut in a varint", columns(6, 1, 7, 2, 1, 2, 0x80), 0, wire.ErrMalformed},
		{"byte after the columns", columns(6, 1, 7, 2, 1, 2, 3, 4), 0, wire.ErrMalformed},
		{"byte after the commits", columns(5, 1, 7, 2, 1, 2, 3, 4, 5), 0, wire.ErrMalformed},
		{"last commit overflows", columns(5, slices.Concat([]byte{2, 7, 2, 2, 1, 2, 3, 4}, overflow)...), 0, wire.ErrMalformed},
		{"group overflows", columns(6, slices.Concat([]byte{1, 7}, overflow, []byte{1, 2, 3})...), 0, wire.ErrMalformed},
		{"single value overflows", columns(6, slices.Concat([]byte{1, 7, 2}, overflow, []byte{2, 3})...), 0, wire.ErrMalformed},
	})
}

// hostileFrames are bytes after which the decoder ends with an error.
type hostileFrames struct {
	name  string
	b     []byte
	limit uint64
	want  error
}

func checkHostile(t *testing.T, tests []hostileFrames) {
	t.Helper()
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			run := func() {
				for _, b := range [][]byte{tt.b, append([]byte{0}, tt.b...)} { // as it comes, and once it has come
					d := newGroupDecoder(bytes.NewReader(b), wire.Limits{MaxMessageBytes: tt.limit})
					got, err := decodeGroups(d)
					require.ErrorIs(t, err, tt.want)
					require.Len(t, got, len(b)-len(tt.b), "nothing but the link heartbeat")
					require.False(t, d.Buffered())
					if sizeErr := new(wire.SizeError); errors.As(err, &sizeErr) {
						require.Greater(t, sizeErr.Size, sizeErr.Limit)
					}
				}
			}
			run()
			if !raceEnabled {
				require.Less(t, allocated(run), uint64(2<<20))
			}
		})
	}
}

// TestGroupColumnsOfOtherForms: what another encoder may write is taken.
func TestGroupColumnsOfOtherForms(t *testing.T) {
	want := []grouped{{math.MaxUint64, groupHeartbeat(1, 2, 3, 4)}, {0, groupHeartbeat(1, 2, 3, 5)}}
	plain := []byte{2, 0, 1, 2, 2, 0, 4, 0, 6, 0, 4, 5} // no flags, though all are equal
	overlong := []byte{0x82, 0x00, 7, 1, 2, 1, 2, 3, 4, 5}
	for _, payload := range [][]byte{plain, overlong} {
		b := slices.Concat([]byte{5}, varints(uint64(len(payload))), payload)
		requireSameGroups(t, want, checkGroups(t, b))
	}
	slotAgain := slices.Concat(groupFrames(t, grouped{7, msgApp(4, 9, 2, 3)}), varints(1, 0, 8, 1, 2), []byte{4, 0, 3, 0})
	got := checkGroups(t, slotAgain)
	require.Equal(t, uint64(8), got[1].group)
	requireEqual(t, &raftpb.Message{
		Type: raftpb.MsgApp.Enum(), From: new(uint64(1)), To: new(uint64(2)),
		Term: new(uint64), LogTerm: new(uint64), Index: new(uint64), Commit: new(uint64(3)),
	}, got[1].m)
}

// TestGroupMemory: Memory is MemorySize of each message, and no more is allowed for than that.
func TestGroupMemory(t *testing.T) {
	ms := randomGroups(t, rand.New(rand.NewPCG(8, 8)), 400, 5)
	for _, g := range ms {
		b := groupFrames(t, g)
		size := wire.MemorySize(g.m)
		d := newGroupDecoder(bytes.NewReader(b), noLimits)
		_, _, err := d.Decode()
		require.NoError(t, err)
		if g.m == nil {
			continue
		}
		require.Equal(t, size, d.Memory())
		limit := max(uint64(size), uint64(wire.MessageSize(g.m)))
		d = newGroupDecoder(bytes.NewReader(b), wire.Limits{MaxMessageBytes: limit})
		_, _, err = d.Decode()
		require.NoError(t, err)
		d = newGroupDecoder(bytes.NewReader(b), wire.Limits{MaxMessageBytes: uint64(size) - 1})
		if _, _, err = d.Decode(); err == nil {
			_, skipped := d.Skipped()
			require.True(t, skipped)
		} else { // a row
			require.ErrorIs(t, err, wire.ErrExceedSizeLimit)
		}
	}
}

// TestGroupReserve: all that messages take in memory beside their data is reserved, and a refusal ends the decoding.
func TestGroupReserve(t *testing.T) {
	var ms []grouped
	var want int64
	for i := range uint64(50) {
		ms = append(ms, grouped{i, groupHeartbeat(1, 2, 3, i)}, grouped{i, groupResponse(1, 2, 3)},
			grouped{i, msgApp(1, 1, 3, 20)}, grouped{i, msgApp(1, 4, 1, 20)}, grouped{i, msgApp(1, 5, 3, 20)})
		want -= 7 * 20
	}
	for _, g := range ms {
		want += wire.MemorySize(g.m)
	}
	b := groupFrames(t, ms...)
	decode := func(room int64) (int, int64, error) {
		reserved := int64(0)
		d := newGroupDecoder(bytes.NewReader(b), wire.Limits{Reserve: func(n uint64) error {
			if reserved += int64(n); reserved > room {
				return io.ErrShortBuffer
			}
			return nil
		}})
		got, err := decodeGroups(d)
		require.False(t, d.Buffered())
		return len(got), reserved, err
	}
	n, reserved, err := decode(want)
	require.Equal(t, io.EOF, err)
	require.Len(t, ms, n)
	require.Equal(t, want, reserved)
	for room := int64(0); room < want; room += 500 {
		n, _, err = decode(room)
		require.ErrorIs(t, err, io.ErrShortBuffer)
		require.Less(t, n, len(ms))
	}
}

// TestGroupBuffered: it is true from the first row of a frame to the one before the last.
func TestGroupBuffered(t *testing.T) {
	beat := groupHeartbeat(1, 2, 3, 4)
	ms := []grouped{{1, beat}, {2, beat}, {3, beat}, {1, msgApp(1, 1, 1, 1)}, {}}
	d := newGroupDecoder(iotest.OneByteReader(bytes.NewReader(groupFrames(t, ms...))), noLimits)
	for _, want := range []bool{true, true, false, false, false} {
		_, _, err := d.Decode()
		require.NoError(t, err)
		require.Equal(t, want, d.Buffered())
		if want {
			require.Equal(t, wire.MemorySize(beat), d.Memory())
		}
	}
}

// TestGroupLoneEntry: an entry that has come completely is taken and refused, under any
// limit, as one that comes byte by byte.
func TestGroupLoneEntry(t *testing.T) {
	usual := slices.Concat(uintField(1, 0), uintField(2, 1), uintField(3, 300))
	entries := [][]byte{
		slices.Concat(usual, field(4, make([]byte, 64))), slices.Concat(usual, field(4, make([]byte, 1000))),
		slices.Concat(usual, field(4, make([]byte, 1100))), slices.Concat(usual, field(4, make([]byte, 5000))),
		nil, usual, slices.Concat(usual, field(4)), slices.Concat(usual, []byte{0x22}), slices.Concat(usual, uintField(50, 1)),
	}
	step := uint64(1)
	if raceEnabled { // it has one goroutine; tools/test runs it without the detector as well
		step = 7
	}
	for _, entry := range entries {
		b := slices.Concat([]byte{0}, varints(1, 200, 7, 1, 2), varints(4, 200, 300, 1, uint64(len(entry))), entry, varints(4, 200, 77, 1, uint64(len(usual))), usual)
		decode := func(source io.Reader, limit uint64) (got []grouped, memory []int64, err error) {
			d := newGroupDecoder(source, wire.Limits{MaxMessageBytes: limit})
			for {
				group, m, err := d.Decode()
				if err != nil {
					return got, memory, err
				}
				got, memory = append(got, grouped{group, m}), append(memory, d.Memory())
			}
		}
		for limit := uint64(0); limit < 1600; limit += step { // 0: none but the default
			want, wantMemory, wantErr := decode(iotest.OneByteReader(bytes.NewReader(b)), limit)
			got, memory, err := decode(bytes.NewReader(b), limit)
			requireSameGroups(t, want, got)
			require.Equal(t, wantMemory, memory, "limit %d", limit)
			require.Equal(t, wantErr, err, "limit %d", limit)
		}
	}
}

// TestGroupMessagesAreApart: whoever owns a message may change it and append to what is in it, although
// messages share allocations and came from one frame.
func TestGroupMessagesAreApart(t *testing.T) {
	var want []grouped
	for i, m := range burst(300) {
		if i%30 == 0 {
			want = append(want, grouped{uint64(i % 7), m})
		}
		want = append(want, grouped{uint64(i), groupHeartbeat(1, 2, 3, uint64(i))})
	}
	d := newGroupDecoder(bytes.NewReader(groupFrames(t, want...)), noLimits)
	got, err := decodeGroups(d)
	require.Equal(t, io.EOF, err)
	requireSameGroups(t, want, got)
	for i := 0; i < len(got); i += 2 {
		overwrite(got[i].m)
	}
	for i := 1; i < len(got); i += 2 {
		requireEqual(t, want[i].m, got[i].m)
	}
}

// TestGroupDecodeAllocations bounds what decoding allocates.
func TestGroupDecodeAllocations(t *testing.T) {
	if raceEnabled || tinyBuffers {
		t.Skip("the race detector allocates; tiny sizes are not shared")
	}
	const rows = 1600
	var beats, answers []grouped
	for group := range uint64(rows) {
		beats = append(beats, grouped{group, groupHeartbeat(1, 2, 17, 1<<20)})
		answers = append(answers, grouped{group, groupResponse(2, 1, 17)})
	}
	for name, tt := range map[string]struct {
		ms     []grouped
		allocs float64
	}{
		"heartbeats":           {beats, rows / 16},
		"responses":            {answers, rows / 16},
		"1 entry of 64 B":      {[]grouped{{7, msgApp(0, 0, 1, 64)}}, 2},
		"1 entry without data": {[]grouped{{7, msgApp(0, 0, 1, 0)}}, 1},
		"64 entries of 1 KiB":  {[]grouped{{7, msgApp(0, 0, 64, 1024)}}, 5},
		"1 entry of 1 MiB":     {[]grouped{{7, msgApp(0, 0, 1, 1<<20)}}, 2},
		"1 entry with a head":  {[]grouped{{7, msgApp(1, 0, 1, 64)}}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			d := newGroupDecoder(&repeat{b: groupFrames(t, tt.ms...)}, noLimits)
			decode := func() {
				for range tt.ms {
					_, m, err := d.Decode()
					require.NoError(t, err)
					kept = m
				}
			}
			for range 50 { // until the buffer has its size
				decode()
			}
			require.LessOrEqual(t, testing.AllocsPerRun(50, decode), tt.allocs)
			if len(tt.ms) > 1 {
				require.Less(t, float64(allocated(decode)), 1.05*rows*float64(wire.MemorySize(tt.ms[0].m)))
			}
		})
	}
}

func TestGroupEncodeAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	var ms []grouped
	for group := range uint64(500) {
		ms = append(ms, grouped{group, groupHeartbeat(1, 2, 3, 4+group)}, grouped{group + 500, groupResponse(1, 2+group%2, 3)})
	}
	for group := range uint64(5000) { // slots are evicted
		ms = append(ms, grouped{group, msgApp(0, 0, 1, 64)}, grouped{group, msgApp(0, 1, 1, 1<<10)})
	}
	ms = append(ms, grouped{7, msgApp(0, 0, 4, 1<<20)}, grouped{})
	enc := wire.NewGroupEncoder()
	var b wire.Batch
	require.Zero(t, testing.AllocsPerRun(3, func() {
		for _, g := range ms {
			if g.m == nil {
				enc.AppendLinkHeartbeat(&b)
				continue
			}
			enc.Append(&b, g.group, g.m)
		}
		enc.Finish(&b)
		if _, err := b.WriteTo(io.Discard); err != nil {
			t.Error(err)
		}
		b.Reset()
	}))
}
