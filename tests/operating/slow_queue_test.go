package operating_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/memnet"
)

// TestQueueThatMovesSlowly: it is not said to stand still, and it is said since when it is so.
func TestQueueThatMovesSlowly(t *testing.T) {
	simulate(t, func(t *testing.T, n *memnet.Network) {
		a := start(t, n, 1, nil)
		b := start(t, n, 2, func(tr *rafthttp.Transport) {
			tr.Raft.(*reports).process = func(context.Context, *raftpb.Message) error {
				time.Sleep(100 * time.Millisecond)
				return nil
			}
		})
		meet(a, b)
		time.Sleep(time.Second)
		for range 30 {
			a.Send([]*raftpb.Message{heartbeat(1, 2)})
		}
		look := func() rafthttp.Problem {
			for range 100 {
				a.Send([]*raftpb.Message{heartbeat(1, 2)})
				time.Sleep(100 * time.Millisecond)
			}
			all := b.Health().Problems
			require.Len(t, all, 1)
			require.Equal(t, "queue_old", all[0].Kind)
			return all[0]
		}
		first := look()
		processed := b.peer(t, 1).Lanes[3].Messages
		second := look()
		require.Greater(t, b.peer(t, 1).Lanes[3].Messages, processed+50, "it moves")
		require.Contains(t, second.Cause, "has a message that has waited for ")
		require.WithinDuration(t, first.Since, second.Since, time.Second, "it has been so since then")
		time.Sleep(time.Minute)
		require.Empty(t, b.Health().Problems)
		again := time.Now()
		for range 30 {
			a.Send([]*raftpb.Message{heartbeat(1, 2)})
		}
		require.WithinDuration(t, again, look().Since, time.Second, "it was empty in between")
	})
}

// TestFullQueueThatMoves: it is said since when it is full, whatever the age of its messages.
func TestFullQueueThatMoves(t *testing.T) {
	simulate(t, func(t *testing.T, n *memnet.Network) {
		a := start(t, n, 1, nil)
		b := start(t, n, 2, func(tr *rafthttp.Transport) {
			tr.ReceiveQueueMessages = 1000
			tr.Raft.(*reports).process = func(context.Context, *raftpb.Message) error {
				time.Sleep(10 * time.Millisecond)
				return nil
			}
		})
		meet(a, b)
		send := func(messages int) {
			for range messages {
				a.Send([]*raftpb.Message{heartbeat(1, 2)})
			}
		}
		for range 2 { // the second time it was empty in between
			time.Sleep(time.Minute)
			require.Empty(t, b.Health().Problems)
			began := time.Now()
			send(1000)
			for range 100 {
				time.Sleep(100 * time.Millisecond)
				send(10)
			}
			time.Sleep(50 * time.Millisecond)
			var since time.Time
			for _, p := range b.Health().Problems {
				if p.Kind == "queue_full" && p.Lane == "control" {
					since = p.Since
				}
			}
			require.WithinDuration(t, began, since, 100*time.Millisecond)
			require.Equal(t, since, b.peer(t, 1).Lanes[3].FullSince)
		}
		time.Sleep(time.Minute)
		require.Zero(t, b.peer(t, 1).Lanes[3].FullSince)
	})
}
