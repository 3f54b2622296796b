package scenario

import (
	"errors"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
)

func TestArrivalsWakeAtTheTarget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &newArrivals(1)[0]
		done := make(chan error, 1)
		go func() { done <- a.wait(5, nil) }()
		for range 4 {
			a.add(1)
			synctest.Wait()
			require.Empty(t, done)
		}
		a.add(3)
		synctest.Wait()
		require.NoError(t, <-done)
		require.NoError(t, a.wait(7, nil), "no waiting for what is there")
	})
}

func TestWaitingEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // after the time a stall takes, which is none here
		s := newSink(2)
		s.Appended(0, 3)
		require.ErrorContains(t, s.waitAll(3), "only 0 of 3 messages have arrived")
		s.Failed(errors.New("lost one"))
		s.Failed(errors.New("lost another"))
		require.EqualError(t, s.waitAll(3), "lost one")
		require.NoError(t, s.err(), "told once")
		s.Appended(1, 4)
		require.NoError(t, s.waitAll(3))
		require.EqualValues(t, 3, s.slowest())
		require.EqualValues(t, 7, s.total())
	})
}
