package metrics

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp"
)

// TestEventsDuringPrune: a hook that runs while its member is forgotten leaves no series that nothing forgets again.
func TestEventsDuringPrune(t *testing.T) {
	e := newEvents(false)
	m := e.hold(2) // Observer.Sent has looked up the member
	if e.mu.TryLock() {
		e.mu.Unlock()
		require.Fail(t, "prune has to wait")
	}
	m.lane(e, "message").batch.Observe(1) // and counts
	e.mu.RUnlock()
	e.prune(rafthttp.Status{})
	ch := make(chan prometheus.Metric, 100)
	e.collect(ch)
	require.Empty(t, ch)
}
