package server_test

import (
	"encoding/json"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp/examples/kv/internal/server"
	"github.com/seed-4d73690b/rafthttp/examples/kv/internal/storage"
)

type healthAnswer struct {
	Healthy   bool
	Leader    uint64
	Transport struct {
		Severity string
		Problems []struct{ Kind string }
	}
}

// health asks a member.
func (c *cluster) health(id uint64) (code int, a healthAnswer) {
	resp, err := http.Get(c.configs[id].ClientURL + "/health")
	require.NoError(c.t, err)
	defer resp.Body.Close()
	require.NoError(c.t, json.NewDecoder(resp.Body).Decode(&a))
	return resp.StatusCode, a
}

// The health endpoint answers 200 while the member can serve, and 503, with the cause, without a majority.
func TestHealth(t *testing.T) {
	c := newCluster(t, 2, func(*server.Config) {})
	put(t, c.client(1), "key", "value")
	health := func() (int, healthAnswer) { return c.health(1) }
	c.await("member 1 to be healthy", func() bool { code, a := health(); return code == 200 && a.Healthy && a.Leader != 0 })
	c.kill(2)
	c.await("member 1 to be unhealthy", func() bool {
		code, a := health()
		return code == 503 && !a.Healthy && a.Transport.Severity == "critical" && a.Transport.Problems[0].Kind == "no_majority"
	})
}

// A member that is being added does not vote, and takes no other one out of service, neither before it runs nor after a restart of
// the others.
func TestHealthWhileAMemberIsAdded(t *testing.T) {
	c := newCluster(t, 1)
	put(t, c.client(), "key", "value")
	cfg := c.config(4)
	_, err := c.client(1).AddMember(t.Context(), storage.Member{ID: 4, PeerURL: cfg.PeerURL, ClientURL: cfg.ClientURL})
	require.NoError(t, err)
	inactive := func() bool {
		code, a := c.health(1)
		return code == 200 && a.Healthy && len(a.Transport.Problems) == 1 && a.Transport.Problems[0].Kind == "peer_inactive"
	}
	c.await("member 1 to be healthy beside a learner that does not run", inactive)
	c.kill(1)
	c.start(1)
	c.await("member 1 to be healthy after a restart", inactive)
}
