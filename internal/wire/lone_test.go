package wire_test

import (
	"bytes"
	"encoding/binary"
	"io"
	"slices"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/internal/wire"
)

// loneFrame is a msgapp v2 frame of one entry, which is encoded already.
func loneFrame(entry []byte) []byte {
	u64 := func(v uint64) []byte { return binary.BigEndian.AppendUint64(nil, v) }
	return slices.Concat([]byte{1}, u64(1), u64(uint64(len(entry))), entry, u64(77))
}

// TestLoneEntryIsDecodedAsOthers: a frame of one entry that has come as a whole is
// taken and refused, under any limit, as one that comes byte by byte.
func TestLoneEntryIsDecodedAsOthers(t *testing.T) {
	usual := slices.Concat(uintField(1, 0), uintField(2, 1), uintField(3, 300))
	tests := []struct {
		name  string
		entry []byte
	}{
		{"usual", slices.Concat(usual, field(4, make([]byte, 64)))},
		{"longest short data", slices.Concat(usual, field(4, make([]byte, 127)))},
		{"longer data", slices.Concat(usual, field(4, make([]byte, 128)))},
		{"as long as has a copy", slices.Concat(usual, field(4, make([]byte, 1000)))},
		{"longer than has a copy", slices.Concat(usual, field(4, make([]byte, 1100)))},
		{"large", slices.Concat(usual, field(4, make([]byte, 5000)))},
		{"empty", nil},
		{"no data", usual},
		{"empty data", slices.Concat(usual, field(4))},
		{"data alone", field(4, []byte("data"))},
		{"data first", slices.Concat(field(4, []byte("data")), usual)},
		{"data twice", slices.Concat(usual, field(4, []byte("data")), field(4, []byte("more")))},
		{"empty data after full", slices.Concat(usual, field(4, []byte("data")), field(4))},
		{"overlong length", slices.Concat(usual, []byte{0x22, 0x81, 0x00, 'x'})},
		{"unknown field", slices.Concat(usual, field(4, []byte("data")), uintField(50, 1))},
		{"field without its value", slices.Concat(usual, []byte{0x22})},
		{"data longer than the entry", slices.Concat(usual, []byte{0x22, 5, 'x'})},
		{"bad tag", slices.Concat(usual, []byte{0x22, 1, 'x', 0})},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			// A link heartbeat first, so that what follows has come, if it fits the buffer.
			b := slices.Concat([]byte{0}, loneFrame(tt.entry), loneFrame(usual))
			decode := func(source io.Reader, limit uint64) (ms []*raftpb.Message, memory []int64, err error) {
				d := wire.NewMsgAppV2Decoder(wire.NewReader(source), 2, 1, wire.Limits{MaxMessageBytes: limit})
				for {
					m, err := d.Decode()
					if err != nil {
						return ms, memory, err
					}
					if m == nil {
						continue
					}
					ms, memory = append(ms, m), append(memory, d.Memory())
				}
			}
			for limit := range uint64(1000) { // 0: none but the default
				want, wantMemory, wantErr := decode(iotest.OneByteReader(bytes.NewReader(b)), limit)
				got, memory, err := decode(bytes.NewReader(b), limit)
				require.Len(t, got, len(want))
				for i := range want {
					requireEqual(t, want[i], got[i])
					require.Equal(t, want[i].Entries[0].Data == nil, got[i].Entries[0].Data == nil)
				}
				require.Equal(t, wantMemory, memory, "limit %d", limit)
				require.Equal(t, wantErr, err, "limit %d", limit)
			}
		})
	}
}
