package queue

import (
	"testing"
	"time"

	"go.etcd.io/raft/v3/raftpb"
)

// BenchmarkLane is what a send queue costs for each message, beside the message itself: it
// is offered in a run, taken and released.
func BenchmarkLane(b *testing.B) {
	for name, window := range map[string]*appendWindow{"appends": newAppendWindow(time.Hour), "no_window": nil} {
		b.Run(name, func(b *testing.B) {
			const run = 64
			l := New(Config{Name: name, Limits: Limits{Messages: 4096, Bytes: 64 << 20, Shared: NewBudget(512 << 20)}, Workers: 1})
			l.workers, l.window = 1, window
			l.Open()
			msgs := make([]*raftpb.Message, run)
			for i := range msgs {
				msgs[i] = &raftpb.Message{
					Type: raftpb.MsgApp.Enum(), To: new(uint64(2)), From: new(uint64(1)), Term: new(uint64(1)), LogTerm: new(uint64(1)),
					Index: new(uint64(i)), Commit: new(uint64(i)), Entries: []*raftpb.Entry{{Term: new(uint64(1)), Index: new(uint64(i)), Data: make([]byte, 64)}},
				}
			}
			var items []Item
			b.ReportAllocs()
			for i := 0; i < b.N; i += run {
				for _, m := range msgs {
					*m.Index += run
				}
				if n, _, v, _ := l.OfferRun(msgs); n != run {
					b.Fatal(n, v)
				}
				items, _ = l.Take(items, run)
				l.Release(items, nil)
				clear(items)
			}
		})
	}
}
