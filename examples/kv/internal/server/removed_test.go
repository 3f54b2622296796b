package server_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp/examples/kv/internal/server"
	"github.com/seed-4d73690b/rafthttp/examples/kv/internal/storage"
)

// A member that is away when it is removed never applies that: the others talk to it no more, but tell it. It does not start
// with that folder again, also when nobody is there to tell it.
func TestRemovedWhileAway(t *testing.T) {
	c := newCluster(t, 3)
	away := c.follower()
	c.kill(away)
	_, err := c.client().RemoveMember(t.Context(), away)
	require.NoError(t, err)
	c.await("the others to apply it", func() bool {
		for _, s := range c.running {
			if len(s.Status().Members) > 2 {
				return false
			}
		}
		return true
	})
	told := c.start(away)
	select {
	case <-told.Done():
	case <-time.After(patience):
		t.Fatal("it is not told")
	}
	require.ErrorIs(t, told.Err(), server.ErrRemoved)
	delete(c.running, away)
	for id := range c.running {
		c.kill(id)
	}

	st, err := storage.Open(c.configs[away].DataDir, storage.Options{})
	require.NoError(t, err)
	require.Empty(t, st.Data.Membership().Removed)
	require.NoError(t, st.Close())
	for range 2 {
		_, err = server.Start(t.Context(), c.configs[away])
		require.ErrorIs(t, err, server.ErrRemoved)
		require.ErrorContains(t, err, "--data-dir: "+c.configs[away].DataDir)
	}
}
