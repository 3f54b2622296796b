package wire_test

import (
	"bytes"
	"fmt"
	"io"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/internal/wire"
)

// allocated returns how many bytes f allocates, in the mean of a few runs.
func allocated(f func()) uint64 {
	const runs = 5
	f()
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range runs {
		f()
	}
	runtime.ReadMemStats(&after)
	return (after.TotalAlloc - before.TotalAlloc) / runs
}

var kept *raftpb.Message // has what is decoded escape

// TestDecodeAllocations bounds what decoding a message of a stream allocates.
func TestDecodeAllocations(t *testing.T) {
	if raceEnabled || tinyBuffers {
		t.Skip("the race detector allocates; tiny sizes are not shared")
	}
	heartbeat := &raftpb.Message{Type: raftpb.MessageType_MsgHeartbeat.Enum(), To: new(uint64), From: new(uint64), Commit: new(uint64)}
	*heartbeat.From = 1
	tests := []struct {
		name    string
		m       *raftpb.Message
		allocs  float64
		perByte float64 // bytes allocated for each of MemorySize
	}{
		// Of term 0, so that on the msgapp v2 stream they go as type 1.
		{"1 entry of 64 B", msgApp(0, 0, 1, 64), 2, 0},
		{"1 entry without data", msgApp(0, 0, 1, 0), 1, 0},
		{"64 entries of 64 B", msgApp(0, 0, 64, 64), 5, 0},
		{"64 entries of 1 KiB", msgApp(0, 0, 64, 1024), 5, 1.15},
		{"1 entry of 1 MiB", msgApp(0, 0, 1, 1<<20), 2, 1.05},
		{"260 entries without data", msgApp(0, 0, 260, 0), 5, 1.15},
		{"1 entry of 64 B in a whole message", msgApp(1, 0, 1, 64), 2, 0},
		{"heartbeat", heartbeat, 1, 0},
	}
	for _, s := range streams {
		for _, tt := range tests {
			t.Run(s.name+"/"+tt.name, func(t *testing.T) {
				b := frames(t, s.encoder(), tt.m)
				src := &repeat{b: b}
				d := s.decoder(src, noLimits)
				decode := func() {
					m, err := d.Decode()
					require.NoError(t, err)
					kept = m
				}
				for range 50 { // until the buffer has its size
					decode()
				}
				require.LessOrEqual(t, testing.AllocsPerRun(50, decode), tt.allocs)
				if tt.perByte > 0 {
					size := float64(wire.MemorySize(tt.m))
					require.Less(t, float64(allocated(decode)), tt.perByte*size)
				}
			})
		}
	}
}

// repeat is a source of the same bytes over and over.
type repeat struct {
	b  []byte
	at int
}

func (r *repeat) Read(p []byte) (int, error) {
	n := copy(p, r.b[r.at:])
	r.at = (r.at + n) % len(r.b)
	return n, nil
}

func TestEncodeAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	for _, s := range streams {
		for _, size := range []int{64, 1024, 1 << 20} {
			m := msgApp(0, 0, 4, size)
			enc := s.encoder()
			var b wire.Batch
			require.Zero(t, testing.AllocsPerRun(20, func() {
				for range 3 {
					enc.Append(&b, m)
					enc.AppendLinkHeartbeat(&b)
					*m.Index += 4 // the next continues, and goes as type 1
				}
				if _, err := b.WriteTo(io.Discard); err != nil {
					t.Error(err)
				}
				b.Reset()
			}))
		}
	}
	m := msgApp(1, 0, 4, 64)
	buf := make([]byte, 0, wire.MessageSize(m))
	require.Zero(t, testing.AllocsPerRun(20, func() { buf = wire.AppendMessage(buf[:0], m) }))
	require.Zero(t, testing.AllocsPerRun(20, func() { _ = wire.MemorySize(m) + int64(wire.MessageSize(m)) }))
}

// TestSmallDataAmongLarge bounds what the memory shared by small data costs.
func TestSmallDataAmongLarge(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	m := msgApp(1, 0, 0, 0)
	for range 50 {
		m.Entries = append(m.Entries, msgApp(1, 0, 1, 10).Entries[0], msgApp(1, 0, 1, 5000).Entries[0])
	}
	d := wire.NewMessageDecoder(wire.NewReader(&repeat{b: frames(t, wire.NewMessageEncoder(), m)}), noLimits)
	decode := func() {
		got, err := d.Decode()
		require.NoError(t, err)
		kept = got
	}
	for range 10 {
		decode()
	}
	require.Less(t, float64(allocated(decode)), 1.3*float64(wire.MemorySize(m)))
}

// TestEntryKeepsNoMoreThanItsShare: whatever comes beside an entry, its message keeps
// at most 32 times the entry of what was read.
func TestEntryKeepsNoMoreThanItsShare(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	for _, size := range []int{600, 1024} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			const messages = 40
			frame := frames(t, wire.NewMsgAppV2Encoder(), msgApp(0, 0, 1, size))
			frame = append(frame, make([]byte, 64<<10-len(frame))...) // link heartbeats
			b := bytes.Repeat(frame, messages+10)
			copy(b, make([]byte, 10*len(frame))) // while the buffer grows
			d := wire.NewMsgAppV2Decoder(wire.NewReader(bytes.NewReader(b)), 1, 2, noLimits)
			before := reachable()
			var held []*raftpb.Message
			for {
				m, err := d.Decode()
				if err == io.EOF {
					break
				}
				require.NoError(t, err)
				if m != nil {
					held = append(held, m)
				}
			}
			took := reachable() - before
			require.Len(t, held, messages)
			require.Less(t, took, int64(messages*(33*size+1024)+256<<10))
			runtime.KeepAlive(held)
			runtime.KeepAlive(b)
		})
	}
}

// reachable returns how much of the heap is.
func reachable() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
