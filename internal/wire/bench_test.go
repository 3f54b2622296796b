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
