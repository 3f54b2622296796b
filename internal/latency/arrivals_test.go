package latency

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestPendingOfProcess: what Process has is compared with samples, so it is divided as they are.
func TestPendingOfProcess(t *testing.T) {
	for name, c := range map[string]struct {
		oldest, took time.Duration
		messages     int
		want         Times
		slow         bool
	}{
		"nothing":                  {0, time.Hour, 0, Times{}, false},
		"a batch":                  {1280 * ms, 1280 * ms, 64, Times{}, false},
		"a batch that waited":      {2000 * ms, 1280 * ms, 64, Times{Receive: 720 * ms, Process: 20 * ms}, true},
		"one message":              {2000 * ms, 1900 * ms, 1, Times{Receive: 100 * ms, Process: 1900 * ms}, true},
		"Process has none":         {2000 * ms, time.Hour, 0, Times{Receive: 2000 * ms}, true},
		"what it had is processed": {ms, 1280 * ms, 1, Times{}, false},
	} {
		t.Run(name, func(t *testing.T) {
			var a Arrivals
			_, v := a.Read(start, c.oldest, c.took, c.messages)
			require.Equal(t, c.want, v.Recent)
			require.Equal(t, c.slow, v.Slow)
		})
	}
	var a Arrivals
	a.Processed(100*ms, 640*ms, 64, start)
	all, v := a.Read(start, 0, 0, 0)
	require.EqualValues(t, 1, all.Process.Count)
	require.Equal(t, Times{Receive: 100 * ms, Process: 10 * ms}, v.Recent)
}
