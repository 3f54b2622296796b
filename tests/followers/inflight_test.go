package followers_test

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/bubble"
)

// queueBounds are the fields of a Transport that bound its send queues.
type queueBounds struct {
	bytes    int64
	messages int
	all      int64 // of all queues
}

func TestLimitInflight(t *testing.T) {
	small := queueBounds{4 << 20, 100, 0}
	tests := []struct {
		name     string
		queue    queueBounds
		in, want raft.Config
		lines    int
	}{
		{
			"as etcd sets it", queueBounds{},
			raft.Config{MaxSizePerMsg: 1 << 20, MaxInflightMsgs: 512},
			raft.Config{MaxSizePerMsg: 1 << 20, MaxInflightMsgs: 512, MaxInflightBytes: 32 << 20}, 1,
		},
		{
			"set already", queueBounds{},
			raft.Config{MaxSizePerMsg: 1 << 20, MaxInflightMsgs: 512, MaxInflightBytes: 1 << 30},
			raft.Config{MaxSizePerMsg: 1 << 20, MaxInflightMsgs: 512, MaxInflightBytes: 1 << 30}, 0,
		},
		{
			"a small queue", small,
			raft.Config{MaxSizePerMsg: 1 << 20, MaxInflightMsgs: 512},
			raft.Config{MaxSizePerMsg: 1 << 20, MaxInflightMsgs: 100, MaxInflightBytes: 2 << 20}, 2,
		},
		{
			"large messages", small,
			raft.Config{MaxSizePerMsg: 16 << 20, MaxInflightMsgs: 10},
			raft.Config{MaxSizePerMsg: 16 << 20, MaxInflightMsgs: 10, MaxInflightBytes: 16 << 20}, 2,
		},
		{
			"little memory for all queues", queueBounds{0, 0, 32 << 20},
			raft.Config{MaxSizePerMsg: 1 << 20, MaxInflightMsgs: 10},
			raft.Config{MaxSizePerMsg: 1 << 20, MaxInflightMsgs: 10, MaxInflightBytes: 4 << 20}, 1,
		},
		{
			"messages without a limit", small,
			raft.Config{MaxSizePerMsg: math.MaxUint64, MaxInflightMsgs: 10},
			raft.Config{MaxSizePerMsg: math.MaxUint64, MaxInflightMsgs: 10, MaxInflightBytes: math.MaxUint64}, 2,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			core, logs := observer.New(zap.InfoLevel)
			tr := rafthttp.Transport{SendQueueBytes: tt.queue.bytes, SendQueueMessages: tt.queue.messages, MaxQueuedBytes: tt.queue.all}
			c := tt.in
			tr.LimitInflight(&c) // without a logger
			require.Equal(t, tt.want, c)
			c, tr.Logger = tt.in, zap.New(core)
			tr.LimitInflight(&c)
			require.Equal(t, tt.want, c)
			require.Equal(t, tt.lines, logs.Len())

			c.ID, c.ElectionTick, c.HeartbeatTick, c.Storage = 1, 10, 1, raft.NewMemoryStorage()
			_, err := raft.NewRawNode(&c)
			require.NoError(t, err)
		})
	}
}

// TestNoAdviceForPosts: a pipeline is full after 64 posts, whatever raft's limits are.
func TestNoAdviceForPosts(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		core, logs := observer.New(zap.InfoLevel)
		c := newRaftCluster(t, congestedLine.window, new(rafthttp.Transport).LimitInflight, func(tr *rafthttp.Transport) {
			tr.Logger = zap.New(core)
		})
		c.connect(nearLine, congestedLine)
		c.streams.refuse("msgapp", theLeader, theFollower)
		c.streams.refuse("message", theLeader, theFollower)
		time.Sleep(3 * time.Second)
		require.NoError(t, c.leader().load(t.Context(), 1000, 10<<10, 0))
		time.Sleep(20 * time.Second)
		require.Positive(t, c.leader().drops(theFollower))
		require.Zero(t, logs.FilterMessageSnippet("raft has more appends in flight than the queue holds").Len())
	})
}
