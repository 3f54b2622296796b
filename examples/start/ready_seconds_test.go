package main

import (
	"net/http/httptest"
	"testing"
	"testing/synctest"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp/memnet/rafttest"
)

// How long the Ready loop takes to save and to apply is among the metrics.
func TestReadySeconds(t *testing.T) {
	withoutSync(t)
	synctest.Test(t, func(t *testing.T) {
		c := rafttest.New(t, rafttest.Config{Members: 1})
		log, err := openLog(t.TempDir(), owner{1, clusterID}, true)
		require.NoError(t, err)
		t.Cleanup(func() { _ = log.file.Close() })
		m, err := startMember([]uint64{1}, log, quiet())
		require.NoError(t, err)
		transport := c.Start(1, m).Transport
		go func() { _ = m.run(t.Context(), transport) }()
		require.NoError(t, m.put(t.Context(), "color", "red"))
		registry := prometheus.NewRegistry()
		registry.MustRegister(m.seconds)
		w := httptest.NewRecorder()
		m.handler(transport, registry).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
		for _, step := range []string{"save", "apply"} {
			require.Regexp(t, `(?m)^raft_ready_seconds_count\{step="`+step+`"\} [1-9]`, w.Body.String())
		}
	})
}
