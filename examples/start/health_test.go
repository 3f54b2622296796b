package main

import (
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/memnet/rafttest"
)

// The health endpoint answers 200 with a majority of members, with what is wrong beside it, and 503 without one.
func TestHealth(t *testing.T) {
	withoutSync(t)
	synctest.Test(t, func(t *testing.T) {
		c := rafttest.New(t, rafttest.Config{Members: 3})
		members, transports := map[uint64]*member{}, map[uint64]*rafthttp.Transport{}
		for id := uint64(1); id <= 3; id++ {
			log, err := openLog(t.TempDir(), owner{id, clusterID}, true)
			require.NoError(t, err)
			t.Cleanup(func() { _ = log.file.Close() })
			m, err := startMember([]uint64{1, 2, 3}, log, quiet())
			require.NoError(t, err)
			transport := c.Start(id, m).Transport
			members[id], transports[id] = m, transport
			go func() { _ = m.run(t.Context(), transport) }()
		}
		require.NoError(t, members[1].put(t.Context(), "color", "red"))
		transport := transports[1]
		require.NoError(t, transport.WaitActive(t.Context(), 2))
		health := func() (int, string) {
			w := httptest.NewRecorder()
			members[1].handler(transport, prometheus.NewRegistry()).ServeHTTP(w, httptest.NewRequest("GET", "/health", nil))
			return w.Code, w.Body.String()
		}
		code, body := health()
		require.Equal(t, 200, code)
		require.Equal(t, "ok\n", body)
		c.Partition([]uint64{1, 2}, []uint64{3})
		time.Sleep(time.Minute)
		code, body = health()
		require.Equal(t, 200, code)
		require.Contains(t, body, "error\nerror peer_inactive "+types.ID(3).String()+" down: ")
		c.Partition([]uint64{1}, []uint64{2, 3})
		time.Sleep(time.Minute)
		code, body = health()
		require.Equal(t, 503, code)
		require.Contains(t, body, "critical\ncritical no_majority 0 1 of 3 voters active, no majority\n")
	})
}
