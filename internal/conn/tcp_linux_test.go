package conn

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestFarConnectionsKeepTheirSendBuffers: over a distance the kernel has to choose.
func TestFarConnectionsKeepTheirSendBuffers(t *testing.T) {
	const unknown = 1<<32 - 1
	for name, tc := range map[string]struct {
		smoothed, least uint32
		near            bool
	}{
		"loopback":                     {30, 20, true},
		"the limit":                    {250, 250, true},
		"over it":                      {251, 251, false},
		"a continent":                  {70_000, 69_000, false},
		"a busy moment on loopback":    {2_000, 40, true},
		"nothing measured":             {0, unknown, false},
		"an old system knows no least": {100, 0, true},
		"the least is not known yet":   {100, unknown, true},
		"far, the least is not known":  {10_000, unknown, false},
		"far, on an old system":        {10_000, 0, false},
	} {
		t.Run(name, func(t *testing.T) { require.Equal(t, tc.near, streamBuffer().isFor(tc.smoothed, tc.least)) })
	}
}

// TestLeastRTT: what was not measured is not known, and no hour.
func TestLeastRTT(t *testing.T) {
	require.Zero(t, leastRTT(0))
	require.Zero(t, leastRTT(1<<32-1))
	require.Equal(t, 40*time.Microsecond, leastRTT(40))
}
