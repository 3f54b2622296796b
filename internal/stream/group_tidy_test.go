package stream

import (
	"runtime"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/internal/fair"
	"github.com/seed-4d73690b/rafthttp/internal/queue"
	"github.com/seed-4d73690b/rafthttp/internal/wire"
)

// TestIdleGroupWriterReleasesRows: the memory for the heartbeats of many groups is released once a stream is idle.
func TestIdleGroupWriterReleasesRows(t *testing.T) {
	const rows = 100_000
	var wg sync.WaitGroup
	enc := wire.NewGroupEncoder()
	w := &GroupWriter{lastWritten: &Conn{groups: enc}}
	w.Queue = fair.NewSendQueue(fair.SendConfig{Limits: queue.Limits{Messages: 1, Bytes: 1}, Workers: 1, Work: func() {}, Wait: &wg})
	for i := range uint64(rows) {
		enc.Append(&w.batch, i, &raftpb.Message{
			Type: raftpb.MsgHeartbeat.Enum(), From: new(uint64(1)), To: new(uint64(2)), Term: new(uint64(3)), Commit: new(uint64(1 << 20)),
		})
	}
	enc.Finish(&w.batch)
	w.batch.Shrink()
	before := heapBytes()
	w.Tidy()
	freed := before - heapBytes()
	require.Greater(t, freed, int64(rows)/2)
	runtime.KeepAlive(w)
}

func heapBytes() int64 {
	runtime.GC()
	runtime.GC() // of pools
	var st runtime.MemStats
	runtime.ReadMemStats(&st)
	return int64(st.HeapAlloc)
}
