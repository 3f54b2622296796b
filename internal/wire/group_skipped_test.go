package wire_test

import (
	"bytes"
	"io"
	"slices"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/internal/wire"
)

// TestGroupSkipped: a message over the limit is skipped, whatever its frame, and the messages after it arrive: those of other slots and,
// once their position is known, of its own.
func TestGroupSkipped(t *testing.T) {
	large := make([]byte, 2000)
	data := func(b []byte) []byte { return slices.Concat(field(4, b)) }
	entry := func(b []byte) []byte { return slices.Concat(varints(uint64(len(data(b)))), data(b)) }
	entries := slices.Concat(varints(0x3a, uint64(len(data(large)))), data(large))
	app, prop := slices.Concat(varints(8, 3), entries), slices.Concat(varints(8, 2), entries)
	snapshot := slices.Concat(varints(8, 7, 0x4a, uint64(len(field(1, large)))), field(1, large))
	begin := slices.Concat(varints(1, 0, 7, 1, 2), varints(1, 1, 8, 3, 4),
		varints(2, 0, 8, 8, 3, 0x20, 5, 0x28, 5, 0x30, 9)) // slot 0 at (5, 9)
	for name, tt := range map[string]struct {
		frame []byte
		lost  bool // so is the position
		whole bool // it has no slot
	}{
		"append":               {slices.Concat(varints(2, 0, uint64(len(app))), app), true, false},
		"type at the end":      {slices.Concat(varints(2, 0, uint64(len(app))), entries, varints(8, 2)), true, false},
		"proposal":             {slices.Concat(varints(2, 0, uint64(len(prop))), prop), false, false},
		"snapshot":             {slices.Concat(varints(2, 0, uint64(len(snapshot))), snapshot), false, false},
		"whole message":        {slices.Concat(varints(3, 7, uint64(len(prop))), prop), false, true},
		"one entry":            {slices.Concat(varints(4, 0, 1, 1), entry(large)), false, false},
		"first entry":          {slices.Concat(varints(4, 0, 1, 2), entry(large), entry(nil)), false, false},
		"second entry":         {slices.Concat(varints(4, 0, 1, 3), entry(large[:100]), entry(large), entry(large)), false, false},
		"sum of entries":       {slices.Concat(varints(4, 0, 1, 2), entry(large[:900]), entry(large[:900])), false, false},
		"memory of an append":  {slices.Concat(varints(2, 0, 2+40*2, 8, 3), bytes.Repeat([]byte{0x3a, 0}, 40)), true, false},
		"memory of a proposal": {slices.Concat(varints(2, 0, 2+40*2, 8, 2), bytes.Repeat([]byte{0x3a, 0}, 40)), false, false},
		"memory of entries":    {slices.Concat(varints(4, 0, 1, 40), make([]byte, 40)), false, false},
		"more entries than go": {slices.Concat(varints(4, 0, 1, 1500), make([]byte, 1500)), false, false},
	} {
		t.Run(name, func(t *testing.T) {
			after := varints(4, 0, 3, 0, 2, 1, 2, 8, 8, 2, 0, 8, 8, 3, 0x20, 6, 0x28, 6, 0x30, 20, 4, 0, 4, 0) // slot 0 continues, slot 1, slot 0 at (6, 20)
			b := slices.Concat(begin, tt.frame, after)
			lim := wire.Limits{MaxMessageBytes: 1000}
			d := newGroupDecoder(bytes.NewReader(b), lim)
			decode := func(slot uint64) *raftpb.Message {
				group, m, err := d.Decode()
				require.NoError(t, err)
				if m == nil {
					r, ok := d.Skipped()
					require.True(t, ok)
					if !tt.whole {
						require.Equal(t, wire.GroupRefusal{Group: 7, From: 1, To: 2, Reason: wire.TooLarge}, r)
					}
					return nil
				}
				require.Equal(t, 7+slot, group)
				return m
			}
			require.NotNil(t, decode(0))
			require.Nil(t, decode(0))
			next := decode(0)
			if tt.lost {
				require.Nil(t, next)
			} else {
				require.GreaterOrEqual(t, next.GetIndex(), uint64(9))
			}
			require.Equal(t, raftpb.MsgHeartbeat, decode(1).GetType())
			require.EqualValues(t, 20, decode(0).GetIndex())
			require.EqualValues(t, 20, decode(0).GetIndex())
			_, _, err := d.Decode()
			require.Equal(t, io.EOF, err)
			for n := len(begin) + 1; n < len(begin)+len(tt.frame); n += fewer(1, 7) {
				_, err := decodeGroups(newGroupDecoder(iotest.OneByteReader(bytes.NewReader(b[:n])), lim))
				require.Equal(t, io.ErrUnexpectedEOF, err, "cut after %d bytes", n)
			}
		})
	}
}

// TestGroupSkippedTwice: after an append without a known position none continues, whatever else is skipped.
func TestGroupSkippedTwice(t *testing.T) {
	b := slices.Concat(varints(1, 0, 7, 1, 2, 2, 0, 2+2000, 8, 3), make([]byte, 2000), varints(2, 0, 2+2000, 8, 7), make([]byte, 2000), varints(4, 0, 1, 0))
	d := newGroupDecoder(bytes.NewReader(b), wire.Limits{MaxMessageBytes: 1000})
	for range 3 {
		_, m, err := d.Decode()
		require.NoError(t, err)
		require.Nil(t, m)
		_, ok := d.Skipped()
		require.True(t, ok)
	}
	_, _, err := d.Decode()
	require.Equal(t, io.EOF, err)
}

// requireLimited decodes what is all without a limit: d skips the messages over its limit, and, after an append, the appends
// from the same replica to the same until one is sent with its position. A row over the limit ends the stream.
func requireLimited(t testing.TB, all []grouped, d *wire.GroupDecoder, limit uint64) {
	t.Helper()
	skipped := map[wire.GroupRefusal]bool{}
	for i, want := range all {
		group, m, err := d.Decode()
		if err != nil {
			require.ErrorIs(t, err, wire.ErrExceedSizeLimit)
			require.Less(t, limit, uint64(1000), "the memory of a row")
			return
		}
		if want.m == nil || m != nil {
			requireSameGroups(t, []grouped{want}, []grouped{{group, m}})
			continue
		}
		r, ok := d.Skipped()
		require.True(t, ok, "message %d", i)
		one := wire.GroupRefusal{Group: want.group, From: want.m.GetFrom(), To: want.m.GetTo(), Reason: wire.TooLarge}
		if r.From != 0 || r.To != 0 { // it has a slot
			require.Equal(t, one, r)
		}
		over := limit > 0 && max(uint64(wire.MemorySize(want.m)), uint64(wire.MessageSize(want.m))) > limit
		require.True(t, over || skipped[one] && want.m.GetType() == raftpb.MsgApp, "message %d of %d bytes", i, wire.MemorySize(want.m))
		if want.m.GetType() == raftpb.MsgApp {
			skipped[one] = true
		}
	}
	_, _, err := d.Decode()
	require.Equal(t, io.EOF, err)
}
