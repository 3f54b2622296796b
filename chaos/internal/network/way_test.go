package network

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestConditionsTogether(t *testing.T) {
	for name, c := range map[string]struct{ a, b, both Conditions }{
		"nothing":      {Conditions{}, Conditions{}, Conditions{}},
		"one":          {Conditions{Cut: true, Rate: 5, Reset: 7}, Conditions{}, Conditions{Cut: true, Rate: 5, Reset: 7}},
		"delays add":   {Conditions{Delay: 1}, Conditions{Delay: 2}, Conditions{Delay: 3}},
		"losses both":  {Conditions{Loss: 0.5}, Conditions{Loss: 0.5}, Conditions{Loss: 0.75}},
		"tighter rate": {Conditions{Rate: 10}, Conditions{Rate: 20}, Conditions{Rate: 10}},
		"sooner reset": {Conditions{Reset: 20}, Conditions{Reset: 10}, Conditions{Reset: 10}},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, c.both, c.a.and(c.b))
			require.Equal(t, c.both, c.b.and(c.a))
		})
	}
}

func TestLinkRemembersItsFaults(t *testing.T) {
	var now Conditions
	l := NewLink(func(c Conditions) { now = c })
	cut := l.Add(Conditions{Cut: true})
	again := l.Add(Conditions{Cut: true})
	late := l.Add(Conditions{Delay: time.Second})
	require.Equal(t, Conditions{Cut: true, Delay: time.Second}, now)
	cut()
	cut() // twice does not take away the other cut
	require.Equal(t, Conditions{Cut: true, Delay: time.Second}, now)
	require.Equal(t, 2, l.Faults())
	again()
	require.Equal(t, Conditions{Delay: time.Second}, now)
	late()
	require.Equal(t, Conditions{}, now)
	require.Zero(t, l.Faults())
}

// arrival is a packet at the far end.
type arrival struct {
	first byte
	after time.Duration
}

// throughWay sends packets of a size under conditions, all at once, and returns what arrives within a minute.
func throughWay(t *testing.T, c Conditions, n, size int) (arrived []arrival, counts Counts) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		w := newWay(1, 2, func(p []byte) {
			require.Len(t, p, size)
			arrived = append(arrived, arrival{p[0], time.Since(start)})
		})
		w.set(c)
		done := make(chan struct{})
		go w.run(done)
		packet := make([]byte, size)
		for i := range n {
			packet[0] = byte(i) // the way must have copied it
			w.send(packet)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		close(done)
		counts = w.count()
	})
	return arrived, counts
}

func TestWay(t *testing.T) {
	arrived, counts := throughWay(t, Conditions{}, 3, 100)
	require.Equal(t, []arrival{{0, 0}, {1, 0}, {2, 0}}, arrived)
	require.Equal(t, Counts{Passed: 3, Bytes: 300}, counts)

	arrived, counts = throughWay(t, Conditions{Cut: true}, 3, 100)
	require.Empty(t, arrived)
	require.Equal(t, Counts{Cut: 3}, counts)

	arrived, _ = throughWay(t, Conditions{Delay: time.Second}, 2, 100)
	require.Equal(t, []arrival{{0, time.Second}, {1, time.Second}}, arrived)

	arrived, _ = throughWay(t, Conditions{Rate: 1000, Delay: time.Second}, 3, 100)
	require.Equal(t, []arrival{{0, 1100 * time.Millisecond}, {1, 1200 * time.Millisecond}, {2, 1300 * time.Millisecond}}, arrived)

	arrived, counts = throughWay(t, Conditions{Rate: 10_000}, 100, 1000)
	require.Len(t, arrived, leastQueue/1000) // more do not fit
	require.Equal(t, uint64(100-leastQueue/1000), counts.Overflowed)

	arrived, counts = throughWay(t, Conditions{Loss: 0.2}, 1000, 100)
	require.Equal(t, uint64(1000-len(arrived)), counts.Lost)
	require.InDelta(t, 200, int(counts.Lost), 60)
}

// What is sent when a delay has ended does not overtake what was delayed.
func TestWayKeepsOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got []byte
		w := newWay(1, 2, func(p []byte) { got = append(got, p...) })
		done := make(chan struct{})
		go w.run(done)
		w.set(Conditions{Delay: time.Second})
		w.send([]byte{1})
		w.set(Conditions{})
		w.send([]byte{2})
		time.Sleep(time.Minute)
		synctest.Wait()
		w.send([]byte{3})
		close(done)
		require.Equal(t, []byte{1, 2, 3}, got)
	})
}
