package docs_test

import (
	"regexp"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/memnet/rafttest"
)

// TestProbeIntervals: a peer is probed every 28 s while it answers and every 4 s while it does not, and no document says otherwise.
func TestProbeIntervals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := rafttest.New(t, rafttest.Config{Members: 2})
		one, two := c.Start(1, deaf{}), c.Start(2, deaf{})
		probed := func() rafthttp.PeerStatus { return one.Status().Peers[0] }
		// next waits for the next probe and returns how many there were.
		next := func() uint64 {
			for before := probed().Probes; probed().Probes == before; {
				time.Sleep(100 * time.Millisecond)
			}
			return probed().Probes
		}
		time.Sleep(time.Minute)
		before := next()
		time.Sleep(10*28*time.Second - time.Second)
		require.EqualValues(t, 9, probed().Probes-before)
		time.Sleep(2 * time.Second)
		require.EqualValues(t, 10, probed().Probes-before)
		require.Zero(t, probed().ProbeFailures)

		two.Stop() // its host refuses connections from now on
		time.Sleep(time.Minute)
		before = next()
		time.Sleep(10*4*time.Second - time.Second)
		require.EqualValues(t, 9, probed().Probes-before)
		time.Sleep(2 * time.Second)
		require.EqualValues(t, 10, probed().Probes-before)
	})
	said := regexp.MustCompile(`(?i)prob[^.|\n]{0,60}every (few seconds|[\d.]+ s)|every (few seconds|[\d.]+ s)[^.|\n]{0,30}prob`)
	n := 0
	for _, d := range documents(t) {
		for _, m := range said.FindAllStringSubmatch(read(t, d), -1) {
			require.Contains(t, []string{"28 s", "4 s"}, m[1]+m[2], "%s: %s", d, m[0])
			n++
		}
	}
	require.GreaterOrEqual(t, n, 4)
}
