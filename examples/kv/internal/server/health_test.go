package server_test

import (
	"encoding/json"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp/examples/kv/internal/server"
)

// The health endpoint answers 200 while the member can serve, and 503, with the cause, without a majority.
func TestHealth(t *testing.T) {
	c := newCluster(t, 2, func(*server.Config) {})
	put(t, c.client(1), "key", "value")
	type answer struct {
		Healthy   bool
		Leader    uint64
		Transport struct {
			Severity string
			Problems []struct{ Kind string }
		}
	}
	health := func() (code int, a answer) {
		resp, err := http.Get(c.configs[1].ClientURL + "/health")
		require.NoError(t, err)
		defer resp.Body.Close()
		require.NoError(t, json.NewDecoder(resp.Body).Decode(&a))
		return resp.StatusCode, a
	}
	c.await("member 1 to be healthy", func() bool { code, a := health(); return code == 200 && a.Healthy && a.Leader != 0 })
	c.kill(2)
	c.await("member 1 to be unhealthy", func() bool {
		code, a := health()
		return code == 503 && !a.Healthy && a.Transport.Severity == "critical" && a.Transport.Problems[0].Kind == "no_majority"
	})
}
