package server_test

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp/examples/kv/internal/api"
	"github.com/seed-4d73690b/rafthttp/examples/kv/internal/server"
	"github.com/seed-4d73690b/rafthttp/examples/kv/internal/storage"
)

// forgetful passes what a member is asked on, and loses the answers.
func forgetful(t *testing.T, clientURL string) (url string) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		req, err := http.NewRequestWithContext(r.Context(), r.Method, clientURL+r.URL.Path, bytes.NewReader(body))
		if err != nil {
			return
		}
		if resp, err := http.DefaultClient.Do(req); err == nil {
			resp.Body.Close()
		}
		http.Error(w, "lost", http.StatusBadRequest) // which is not tried again
	}))
	t.Cleanup(s.Close)
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	return s.URL
}

// A member that was taken in, and died before it knew, asks again, with its folder, and is taken in. With another folder it is
// not, also while it is a learner: as far as the others know, it may have acknowledged what it has lost.
func TestLearnerLosesItsFolder(t *testing.T) {
	c := newCluster(t, 1)
	put(t, c.client(), "k", "v")
	for _, id := range []uint64{4, 5} {
		cfg := c.config(id)
		cfg.Join = forgetful(t, c.configs[1].ClientURL)
		_, err := server.Start(t.Context(), cfg)
		require.ErrorContains(t, err, "--join: ")
		cfg.Join = c.configs[1].ClientURL
		c.configs[id] = cfg
	}
	c.start(4)
	requireValue(t, c.client(4), "k", "v")

	require.NoError(t, os.RemoveAll(c.configs[5].DataDir))
	for range 2 {
		_, err := server.Start(t.Context(), c.configs[5])
		require.ErrorIs(t, err, api.ErrMemberExists)
		require.ErrorContains(t, err, "--data-dir")
	}

	// It comes back under a new id, with the same command line otherwise, and what was made of its folder by then.
	_, err := c.client(1).RemoveMember(t.Context(), 5)
	require.NoError(t, err)
	cfg := c.configs[5]
	cfg.ID = 6
	c.configs[6] = cfg
	c.start(6)
	requireValue(t, c.client(6), "k", "v")
}

// A member that was added by hand joins once, and then it is the same.
func TestJoiningAfterItWasAdded(t *testing.T) {
	c := newCluster(t, 1)
	cfg := c.config(4)
	added := storage.Member{ID: 4, PeerURL: cfg.PeerURL, ClientURL: cfg.ClientURL}
	for range 2 {
		_, err := c.client(1).AddMember(t.Context(), added)
		require.NoError(t, err)
	}
	cfg.Join = forgetful(t, c.configs[1].ClientURL)
	_, err := server.Start(t.Context(), cfg)
	require.ErrorContains(t, err, "--join: ")
	_, err = c.client(1).AddMember(t.Context(), added)
	require.ErrorIs(t, err, api.ErrMemberExists)

	cfg.Join = c.configs[1].ClientURL
	c.configs[4] = cfg
	c.start(4)
	c.await("the new member to become a voter", func() bool { return c.running[4].Status().Role == "follower" })
}
