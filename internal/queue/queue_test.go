package queue

import (
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/internal/bubble"
)

// newOpen returns an open queue for 10 messages, with one worker that does nothing with what it takes.
func newOpen() *Queue {
	var q *Queue
	q = New(Config{Name: "test", Limits: Limits{Messages: 10, Bytes: 1 << 20}, Workers: 1, Wait: new(sync.WaitGroup), Work: func() {
		var items []Item
		for ok := true; ok; {
			items, ok = q.Take(items, 10)
			q.Release(items, nil)
			clear(items)
		}
	}})
	q.Open()
	return q
}

// appendOf returns an item with an append of one entry.
func appendOf(index uint64) Item {
	return NewItem(&raftpb.Message{
		Type: raftpb.MsgApp.Enum(), From: new(uint64(1)), Term: new(uint64(1)), Index: new(index),
		Entries: []*raftpb.Entry{{Index: new(index + 1), Term: new(uint64(1))}},
	})
}

// TestAgeAfterIdleness: a message that comes when a worker was set to work, and has not taken
// yet, is not as old as the last work of that worker.
func TestAgeAfterIdleness(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1)) // the worker does not run at once
	offer := func(t *testing.T, q *Queue) { require.Equal(t, Accepted, q.Offer(NewItem(&raftpb.Message{}))) }
	tests := map[string]func(*testing.T, *Queue){
		"nothing":              func(*testing.T, *Queue) {},
		"Wake":                 func(_ *testing.T, q *Queue) { q.Wake() },
		"the caller is worker": func(_ *testing.T, q *Queue) { q.AcquireWorker() },
		"the worker is sent away": func(t *testing.T, q *Queue) {
			offer(t, q)
			synctest.Wait() // there is a worker that waits for more
			q.TrimIfIdle(nil)
			time.Sleep(time.Hour)
			q.TrimIfIdle(nil)
		},
	}
	for name, set := range tests {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				q := newOpen()
				defer q.Close()
				time.Sleep(time.Hour)
				set(t, q)
				offer(t, q)
				require.Zero(t, q.Status().OldestAge)
			})
		})
	}
}

// TestWithheldIsReportedWhenEmptied: a queue that is emptied while appends are withheld has
// raft told of these, whoever empties it, and whether anything was queued.
func TestWithheldIsReportedWhenEmptied(t *testing.T) {
	q, told := newOpen(), 0
	q.TrackAppends(time.Hour, func() { told++ })
	q.AcquireWorker() // nothing is taken
	for i := range uint64(11) {
		require.Equal(t, i == 10, q.Offer(appendOf(i)) == Withheld)
	}
	require.Zero(t, told)
	q.Empty()
	require.Equal(t, 1, told)
	require.Equal(t, Accepted, q.Offer(appendOf(0)), "the window begins anew")
	q.Close()
	require.Equal(t, 1, told)
}
