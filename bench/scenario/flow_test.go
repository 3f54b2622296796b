package scenario

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp/internal/bubble"
)

func TestArrivalsWakeAtTheTarget(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		s := newSink(1)
		a := &s.arrived[0]
		done := make(chan error, 1)
		go func() { done <- s.wait(a, 5) }()
		for range 4 {
			a.add(1)
			synctest.Wait()
			require.Empty(t, done)
		}
		a.add(3)
		synctest.Wait()
		require.NoError(t, <-done)
		require.NoError(t, s.wait(a, 7), "no waiting for what is there")
	})
}

func TestAFailureEndsWaiting(t *testing.T) {
	s := newSink(2)
	s.Appended(0, 3)
	s.Failed(errors.New("lost one"))
	s.Failed(errors.New("lost another"))
	require.EqualError(t, s.waitAll(3), "lost one")
	require.EqualError(t, s.err(), "lost one")
	s.Appended(1, 4)
	require.NoError(t, s.waitAll(3), "no waiting for what is there")
	require.EqualValues(t, 3, s.slowest())
	require.EqualValues(t, 7, s.total())
}

func TestAStallEndsWaiting(t *testing.T) {
	bubble.Test(t, func(t *testing.T) { // in no time
		s := newSink(1)
		stop := make(chan struct{})
		defer close(stop)
		go s.watch(stop)
		time.Sleep(10 * stallTimeout) // idle is no stall
		require.NoError(t, s.err())
		go func() {
			for range 5 {
				time.Sleep(stallTimeout / 2)
				s.Appended(0, 1)
			}
		}()
		start := time.Now()
		require.ErrorContains(t, s.waitAll(6), "after 5 messages")
		require.GreaterOrEqual(t, time.Since(start), 7*stallTimeout/2, "not while something moves")
	})
}
