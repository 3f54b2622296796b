package rafthttp

import (
	"testing"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/internal/queue"
)

// BenchmarkLane is what a send queue costs for each message, beside the message itself: it
// is offered in a run, taken and released.
func BenchmarkLane(b *testing.B) {
	for name, window := range map[string]*appendWindow{"appends": newAppendWindow(time.Hour), "no_window": nil} {
		b.Run(name, func(b *testing.B) {
			const run = 64
			l := newLane(laneConfig{name: name, limits: laneLimits{messages: 4096, bytes: 64 << 20, shared: queue.NewBudget(512<<20, budgetChunk)}, workers: 1})
			l.workers, l.window = 1, window
			l.reopen()
			msgs := make([]*raftpb.Message, run)
			for i := range msgs {
				msgs[i] = &raftpb.Message{
					Type: raftpb.MsgApp.Enum(), To: new(uint64(2)), From: new(uint64(1)), Term: new(uint64(1)), LogTerm: new(uint64(1)),
					Index: new(uint64(i)), Commit: new(uint64(i)), Entries: []*raftpb.Entry{{Term: new(uint64(1)), Index: new(uint64(i)), Data: make([]byte, 64)}},
				}
			}
			var items []item
			b.ReportAllocs()
			for i := 0; i < b.N; i += run {
				for _, m := range msgs {
					*m.Index += run
				}
				if n, _, v, _ := l.offerRun(msgs); n != run {
					b.Fatal(n, v)
				}
				items, _ = l.take(items, run)
				l.release(items, nil)
				clear(items)
			}
		})
	}
}
