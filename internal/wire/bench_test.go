package wire_test

import (
	"bytes"
	"fmt"
	"io"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/seed-4d73690b/rafthttp/internal/wire"
)

var shapes = []struct {
	name       string
	entries, n int
}{
	{"64B", 1, 64},
	{"64x1KiB", 64, 1 << 10},
	{"1MiB", 1, 1 << 20},
}

func BenchmarkEncode(b *testing.B) {
	for _, s := range streams {
		for _, shape := range shapes {
			b.Run(fmt.Sprintf("%s/%s", s.name, shape.name), func(b *testing.B) {
				m := msgApp(0, 0, shape.entries, shape.n) // continues where the last ended
				enc := s.encoder()
				var batch wire.Batch
				enc.Append(&batch, m)
				b.SetBytes(int64(batch.Len()))
				b.ReportAllocs()
				for b.Loop() {
					batch.Reset()
					*m.Index += uint64(shape.entries)
					enc.Append(&batch, m)
					if _, err := batch.WriteTo(io.Discard); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
	for _, shape := range shapes {
		b.Run("proto/"+shape.name, func(b *testing.B) {
			m := msgApp(1, 0, shape.entries, shape.n)
			b.SetBytes(int64(proto.Size(m)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := proto.Marshal(m); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkDecode(b *testing.B) {
	for _, s := range streams {
		for _, shape := range shapes {
			b.Run(fmt.Sprintf("%s/%s", s.name, shape.name), func(b *testing.B) {
				frame := frames(b, s.encoder(), msgApp(0, 0, shape.entries, shape.n))
				d := s.decoder(&repeat{b: bytes.Repeat(frame, 1+(256<<10)/len(frame))}, noLimits)
				b.SetBytes(int64(len(frame)))
				b.ReportAllocs()
				for b.Loop() {
					m, err := d.Decode()
					if err != nil {
						b.Fatal(err)
					}
					kept = m
				}
			})
		}
	}
	for _, shape := range shapes {
		b.Run("proto/"+shape.name, func(b *testing.B) {
			encoded := marshal(b, msgApp(1, 0, shape.entries, shape.n))
			b.SetBytes(int64(len(encoded)))
			b.ReportAllocs()
			for b.Loop() {
				m := &raftpb.Message{}
				if err := proto.Unmarshal(encoded, m); err != nil {
					b.Fatal(err)
				}
				kept = m
			}
		})
	}
}

// BenchmarkGroupRows has the heartbeats of a tick of 10,000 groups.
func BenchmarkGroupRows(b *testing.B) {
	const groups = 10_000
	beats, answers := make([]*raftpb.Message, groups), make([]*raftpb.Message, groups)
	for i := range beats {
		beats[i] = groupHeartbeat(1, 2, 17, uint64(i)*7919%2_000_000)
		answers[i] = groupResponse(2, 1, 17)
	}
	for name, ms := range map[string][]*raftpb.Message{"heartbeats": beats, "responses": answers} {
		enc := wire.NewGroupEncoder()
		var batch wire.Batch
		encode := func() {
			batch.Reset()
			for group, m := range ms {
				enc.Append(&batch, uint64(group), m)
			}
			enc.Finish(&batch)
		}
		perRow := func(b *testing.B) {
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*groups), "ns/row")
			b.ReportMetric(float64(batch.Len())/groups, "B/row")
		}
		b.Run("encode/"+name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				encode()
			}
			perRow(b)
		})
		encode()
		var frames bytes.Buffer
		if _, err := batch.WriteTo(&frames); err != nil {
			b.Fatal(err)
		}
		b.Run("decode/"+name, func(b *testing.B) {
			d := wire.NewGroupDecoder(wire.NewReader(&repeat{b: frames.Bytes()}), noLimits)
			b.ReportAllocs()
			for b.Loop() {
				for range ms {
					_, m, err := d.Decode()
					if err != nil {
						b.Fatal(err)
					}
					kept = m
				}
			}
			perRow(b)
		})
	}
}

// BenchmarkGroupAppends has appends of one entry of 64 B, of one group and of many in turn, in their short form.
// BenchmarkEncode/msgappv2/64B and BenchmarkDecode/msgappv2/64B are what they are compared with.
func BenchmarkGroupAppends(b *testing.B) {
	for _, groups := range []int{1, 48, 1000, 4000} {
		ms := make([]*raftpb.Message, groups)
		for i := range ms {
			ms[i] = msgApp(0, 0, 1, 64)
		}
		b.Run(fmt.Sprintf("encode/%d", groups), func(b *testing.B) {
			enc := wire.NewGroupEncoder()
			var batch wire.Batch
			b.ReportAllocs()
			group := 0
			for b.Loop() {
				batch.Reset()
				enc.Append(&batch, uint64(group), ms[group])
				*ms[group].Index++
				enc.Finish(&batch)
				if group++; group == groups {
					group = 0
				}
				if _, err := batch.WriteTo(io.Discard); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("decode/%d", groups), func(b *testing.B) {
			enc := wire.NewGroupEncoder()
			var slots, frames []byte
			for group := range ms {
				slots = append(slots, appendGroupFrames(b, enc, grouped{uint64(group), msgApp(0, 0, 1, 64)})...)
			}
			for group := range ms {
				frames = append(frames, appendGroupFrames(b, enc, grouped{uint64(group), msgApp(0, 1, 1, 64)})...)
			}
			src := io.MultiReader(bytes.NewReader(slots), &repeat{b: bytes.Repeat(frames, 1+(256<<10)/len(frames))})
			d := wire.NewGroupDecoder(wire.NewReader(src), noLimits)
			b.ReportAllocs()
			for b.Loop() {
				_, m, err := d.Decode()
				if err != nil {
					b.Fatal(err)
				}
				kept = m
			}
		})
	}
}
