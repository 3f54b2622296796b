package server_test

import (
	"io"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp/examples/kv/internal/server"
)

// How long the Ready loop takes to save and to apply is among the metrics, with either loop.
func TestReadySeconds(t *testing.T) {
	for _, async := range []bool{false, true} {
		c := newCluster(t, 1, func(cfg *server.Config) { cfg.AsyncStorageWrites = async })
		put(t, c.client(1), "key", "value")
		resp, err := http.Get(c.configs[1].ClientURL + "/metrics")
		require.NoError(t, err)
		text, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		for _, step := range []string{"save", "apply"} {
			require.Regexp(t, `(?m)^raft_ready_seconds_count\{step="`+step+`"\} [1-9]`, string(text))
		}
	}
}
