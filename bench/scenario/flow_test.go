package scenario

import (
	"errors"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
)

func TestArrivalsWakeAtTheTarget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
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

func TestWaitingEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // after the time a stall takes, which is none here
		s := newSink(2)
		s.Appended(0, 3)
		require.ErrorContains(t, s.waitAll(3), "only 0 of 3 messages have arrived")
		s.Failed(errors.New("lost one"))
		s.Failed(errors.New("lost another"))
		require.EqualError(t, s.waitAll(3), "lost one")
		require.EqualError(t, s.err(), "lost one")
		s.Appended(1, 4)
		require.NoError(t, s.waitAll(3), "no waiting for what is there")
		require.EqualValues(t, 3, s.slowest())
		require.EqualValues(t, 7, s.total())
	})
}
