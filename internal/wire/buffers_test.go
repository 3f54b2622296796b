package wire_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/internal/wire"
)

// writes records each Write.
type writes struct {
	sizes []int
	limit int // bytes each Write takes, if above 0
	err   error
}

func (w *writes) Write(p []byte) (int, error) {
	w.sizes = append(w.sizes, len(p))
	if w.limit > 0 && len(p) > w.limit {
		return w.limit, w.err
	}
	return len(p), nil
}

func TestBatchIsOneWrite(t *testing.T) {
	var b wire.Batch
	var w writes
	n, err := b.WriteTo(&w)
	require.NoError(t, err)
	require.Zero(t, n)
	require.Empty(t, w.sizes, "an empty batch writes nothing")

	enc := wire.NewMessageEncoder()
	for range 10 {
		enc.Append(&b, msgApp(1, 0, 2, wire.RefThreshold-1))
	}
	n, err = b.WriteTo(&w)
	require.NoError(t, err)
	require.Equal(t, []int{b.Len()}, w.sizes)
	require.EqualValues(t, b.Len(), n)
}

func TestBatchRefersToLargeData(t *testing.T) {
	m := msgApp(1, 0, 2, wire.RefThreshold)
	var b wire.Batch
	wire.NewMessageEncoder().Append(&b, m)
	require.Equal(t, 2, wire.References(&b))
	require.Less(t, wire.BufferCap(&b), 1024)

	_, err := b.WriteTo(io.Discard)
	require.NoError(t, err)
	require.Equal(t, 2, wire.References(&b))
	b.Reset()
	require.Zero(t, b.Len())
	require.Zero(t, wire.References(&b), "data must not be kept alive")
}

// TestBatchJoinsSmallPieces: where there is no writev, small pieces share a write.
func TestBatchJoinsSmallPieces(t *testing.T) {
	const kib = 1 << 10
	tests := []struct {
		name  string
		sizes []int // of the data
		want  []int // sizes of the writes, the last apart
	}{
		{"one", []int{16 * kib}, nil},
		{"a few", []int{16 * kib, 20 * kib, 16 * kib}, nil},
		{"more than a write takes", []int{40 * kib, 40 * kib, 40 * kib}, []int{64 * kib}},
		{"many", []int{32 * kib, 32 * kib, 32 * kib, 32 * kib, 32 * kib}, []int{64 * kib, 64 * kib}},
		{"large", []int{1024 * kib}, []int{64 * kib, 1024*kib - 64*kib}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := msgApp(1, 0, 0, 0)
			m.Context = make([]byte, 100) // ends up behind the data
			for _, size := range tt.sizes {
				m.Entries = append(m.Entries, msgApp(1, 0, 1, size).Entries[0])
			}
			var b wire.Batch
			b.AppendMessage(m)
			var w writes
			n, err := b.WriteTo(&w)
			require.NoError(t, err)
			require.EqualValues(t, b.Len(), n)
			for _, size := range w.sizes[:len(w.sizes)-1] {
				require.GreaterOrEqual(t, size, wire.JoinBytes)
			}
			if !tinyBuffers { // with those, all data is larger than what is joined
				require.Len(t, w.sizes, len(tt.want)+1)
				for i, size := range tt.want {
					require.InDelta(t, size, w.sizes[i], 200)
				}
			}
			checkMessage(t, m)
		})
	}
}

// TestBatchToConnection writes with writev, more often than one call takes.
func TestBatchToConnection(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	out, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	in, err := l.Accept()
	require.NoError(t, err)
	t.Cleanup(func() { in.Close() })

	m := msgApp(1, 0, 1200, wire.RefThreshold)
	written := make(chan error, 1)
	go func() {
		var b wire.Batch
		wire.NewMsgAppV2Encoder().Append(&b, m)
		_, err := b.WriteTo(out)
		written <- errors.Join(err, out.Close())
	}()
	got, err := decodeAll(wire.NewMsgAppV2Decoder(wire.NewReader(in), 2, 1, noLimits))
	require.Equal(t, io.EOF, err)
	require.NoError(t, <-written)
	require.Len(t, got, 1)
	requireEqual(t, m, got[0])
}

func TestBatchWriteErrors(t *testing.T) {
	broken := errors.New("broken")
	for name, size := range map[string]int{"copied": 100, "referred to": wire.RefThreshold} {
		t.Run(name, func(t *testing.T) {
			var b wire.Batch
			b.AppendMessage(msgApp(1, 0, 2, size))
			n, err := b.WriteTo(&writes{limit: 10, err: broken})
			require.ErrorIs(t, err, broken)
			require.EqualValues(t, 10, n)
			_, err = b.WriteTo(&writes{limit: 10})
			require.ErrorIs(t, err, io.ErrShortWrite)
		})
	}
}

func TestBatchShrink(t *testing.T) {
	var b wire.Batch
	b.AppendMessage(&raftpb.Message{Context: make([]byte, wire.KeepBuffer/4)})
	small := wire.BufferCap(&b)
	b.Shrink()
	require.Zero(t, b.Len())
	require.Equal(t, small, wire.BufferCap(&b), "a small buffer is kept")

	b.AppendMessage(msgApp(1, 0, 100, 1000))
	b.Reset()
	require.Greater(t, wire.BufferCap(&b), 100_000)
	b.AppendMessage(msgApp(1, 0, 100, wire.RefThreshold))
	_, err := b.WriteTo(io.Discard)
	require.NoError(t, err)
	b.Shrink()
	require.Zero(t, wire.BufferCap(&b))
	require.Zero(t, wire.References(&b))
}

// trickle returns n bytes a read.
type trickle struct{ n int }

func (s *trickle) Read(p []byte) (int, error) { return min(s.n, len(p)), nil }

func TestReaderBufferFollowsTraffic(t *testing.T) {
	const little = 4
	src := &trickle{n: little}
	r := wire.NewReader(src)
	require.Zero(t, wire.BufferSize(r), "nothing is allocated before the first read")
	d := wire.NewMessageDecoder(r, noLimits) // of empty messages
	for range 100 {
		_, err := d.Decode()
		require.NoError(t, err)
	}
	require.Equal(t, wire.MinBuffer, wire.BufferSize(r))

	src.n = 1 << 20
	for range 100_000 {
		_, err := d.Decode()
		require.NoError(t, err)
	}
	require.Equal(t, wire.MaxBuffer, wire.BufferSize(r), "grows while reads fill it")

	src.n = little
	for range 40_000 {
		_, err := d.Decode()
		require.NoError(t, err)
	}
	require.Equal(t, wire.MinBuffer, wire.BufferSize(r), "and shrinks again")
}

func TestReader(t *testing.T) {
	content := strings.Repeat("0123456789", 2000)
	require.NoError(t, iotest.TestReader(wire.NewReader(strings.NewReader(content)), []byte(content)))

	// Behind a frame, what is buffered comes first, then the error, once. All of it
	// fits into the smallest buffer.
	const behind = 10
	frame := frames(t, wire.NewMessageEncoder(), &raftpb.Message{From: new(uint64(1))})
	require.LessOrEqual(t, len(frame)+behind, wire.MinBuffer)
	r := wire.NewReader(iotest.DataErrReader(bytes.NewReader(append(frame, content[:behind]...))))
	_, err := wire.NewMessageDecoder(r, noLimits).Decode()
	require.NoError(t, err)
	require.Equal(t, behind, r.Buffered())
	n, err := r.Read(nil)
	require.NoError(t, err)
	require.Zero(t, n)
	rest, err := io.ReadAll(r)
	require.NoError(t, err)
	require.Equal(t, content[:behind], string(rest))
	require.Zero(t, r.Buffered())
}

func TestReadMessage(t *testing.T) {
	m := msgApp(1, 0, 3, 5000)
	b := marshal(t, m)
	for _, size := range []int{len(b), len(b) + 10} {
		got, err := wire.ReadMessage(wire.NewReader(bytes.NewReader(append(b, make([]byte, 10)...))), uint64(len(b)), noLimits)
		require.NoError(t, err, size)
		requireEqual(t, m, got)
	}
	got, err := wire.ReadMessage(wire.NewReader(strings.NewReader("")), 0, noLimits)
	require.NoError(t, err)
	requireEqual(t, &raftpb.Message{}, got)
	_, err = wire.ReadMessage(wire.NewReader(bytes.NewReader(b)), uint64(len(b))+1, noLimits)
	require.Equal(t, io.ErrUnexpectedEOF, err)
	_, err = wire.ReadMessage(wire.NewReader(bytes.NewReader(b)), uint64(len(b)), wire.Limits{MaxMessageBytes: 1000})
	require.ErrorIs(t, err, wire.ErrExceedSizeLimit)
}

func TestReadBody(t *testing.T) {
	const ahead = wire.Ahead
	broken := errors.New("broken")
	for _, size := range []int{0, 1, 4095, 4096, 4097, ahead - 1, ahead, ahead + 1, 3*ahead + 5} {
		content := bytes.Repeat([]byte("x"), size)
		for _, hint := range []int64{-1, 0, int64(size), int64(size) - 1, int64(size) + 1, 2 * ahead} {
			for _, limit := range []uint64{uint64(size), uint64(size) + 1, 1 << 40, 1<<64 - 1} {
				if hint > 0 && uint64(hint) > limit {
					continue
				}
				body, err := wire.ReadBody(iotest.HalfReader(bytes.NewReader(content)), hint, limit)
				require.NoError(t, err)
				require.True(t, bytes.Equal(content, body))
			}
			src := bytes.NewReader(append(content, make([]byte, 100)...))
			_, err := wire.ReadBody(src, min(hint, int64(size)), uint64(size))
			require.ErrorIs(t, err, wire.ErrExceedSizeLimit)
			require.Equal(t, 99, src.Len(), "one byte more than the limit is read")

			_, err = wire.ReadBody(io.MultiReader(bytes.NewReader(content), iotest.ErrReader(broken)), hint, 1<<40)
			require.Equal(t, broken, err)
			cut := io.MultiReader(bytes.NewReader(content), iotest.ErrReader(io.ErrUnexpectedEOF))
			_, err = wire.ReadBody(cut, hint, 1<<40)
			require.Equal(t, io.ErrUnexpectedEOF, err, "a body cut short is not a body")
		}
	}
	_, err := wire.ReadBody(iotest.ErrReader(errors.New("must not be read")), 1001, 1000)
	require.ErrorIs(t, err, wire.ErrExceedSizeLimit)
	if !raceEnabled {
		require.Less(t, allocated(func() {
			_, err := wire.ReadBody(strings.NewReader("little"), 1<<30, 1<<40)
			require.NoError(t, err)
		}), uint64(ahead+64<<10))
	}
}

// TestEntriesOfAllSizes: however entries come, they arrive whole, and none shares
// memory with what is read later or can be appended to.
func TestEntriesOfAllSizes(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 3))
	var want []*raftpb.Message
	next := uint64(0) // each continues the one before
	for i := range 100 {
		m := msgApp(0, next, 0, 0)
		most := []int{20, 300, 1500, 6000}[i%4]
		for range 1 + rng.IntN(100) {
			data := make([]byte, rng.IntN(most))
			for k := range data {
				data[k] = byte(rng.Uint32())
			}
			next++
			m.Entries = append(m.Entries, &raftpb.Entry{Term: new(uint64), Index: new(next), Data: data})
		}
		want = append(want, m)
	}
	for _, s := range streams {
		b := frames(t, s.encoder(), want...)
		for name, src := range map[string]func(io.Reader) io.Reader{
			"whole": func(r io.Reader) io.Reader { return r }, "halves": iotest.HalfReader,
			"pieces": func(r io.Reader) io.Reader { return &pieces{r, rand.New(rand.NewPCG(4, 4))} },
		} {
			t.Run(s.name+"/"+name, func(t *testing.T) {
				got, err := decodeAll(s.decoder(src(bytes.NewReader(b)), noLimits))
				require.Equal(t, io.EOF, err)
				require.Len(t, got, len(want))
				for i, m := range want {
					require.Len(t, got[i].Entries, len(m.Entries))
					for j, e := range m.Entries {
						require.True(t, bytes.Equal(e.Data, got[i].Entries[j].Data))
						require.Equal(t, e.GetIndex(), got[i].Entries[j].GetIndex())
						if n := len(e.Data); n < 4096 {
							require.Equal(t, n, cap(got[i].Entries[j].Data))
						}
					}
				}
			})
		}
	}
}

// pieces reads pieces of random sizes.
type pieces struct {
	r   io.Reader
	rng *rand.Rand
}

func (p *pieces) Read(b []byte) (int, error) { return p.r.Read(b[:min(len(b), 1+p.rng.IntN(3000))]) }
