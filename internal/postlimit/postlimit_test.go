package postlimit

import (
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"

	"github.com/seed-4d73690b/rafthttp/internal/protocol"
	"github.com/seed-4d73690b/rafthttp/internal/queue"
)

// TestMemoryIsShared: each post has a share, and the bytes beyond the shares are bounded unless they are of one post.
func TestMemoryIsShared(t *testing.T) {
	const share = 100
	l := New(postBytesPart * maxPosts * share)
	one, two := l.Begin(1, true), l.Begin(2, true)
	require.NoError(t, one.Reserve(2*maxPosts*share), "one may be larger than the limit")
	require.NoError(t, two.Reserve(share))
	require.ErrorIs(t, two.Reserve(1), protocol.ErrBusyPosts)
	one.Queued()
	require.NoError(t, two.Reserve(1))
	one.End()
	two.End()
	require.Zero(t, l.beyond)
	require.Empty(t, l.byID)
}

// TestCounts: posts are counted while they are read, then by the kind of their message, each way for members, strangers
// and all.
func TestCounts(t *testing.T) {
	l := New(1 << 30)
	var posts []*Post
	for i := range maxPostsOfOthers {
		posts = append(posts, l.Begin(types.ID(i/maxPostsPerMember+1), false))
	}
	require.Nil(t, l.Begin(1, true), "16 of one member")
	require.Nil(t, l.Begin(100, false), "half of all are for strangers")
	peer := l.Begin(100, true)
	require.NotNil(t, peer)
	for _, p := range posts {
		require.True(t, p.WasRead(queue.Append))
	}
	again := l.Begin(1, false)
	require.False(t, again.WasRead(queue.Append))
	require.True(t, again.WasRead(queue.Control))
	for _, p := range append(posts, peer, again) {
		p.End()
	}
	require.Equal(t, counts{}, l.all)
	require.Equal(t, counts{}, l.others)
}
