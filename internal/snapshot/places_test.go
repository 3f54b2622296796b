package snapshot

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"
)

// TestTurns: who waits is let in in the order in which they came, as far as the shares let them, and those that have given up
// are skipped and hold nothing.
func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		peers := []types.ID{2, 3, 4}
		turns := &turns{ctx: t.Context(), places: newPlaces(4, func() []types.ID { return peers })}
		var in []types.ID
		begin := func(of types.ID) context.CancelFunc {
			ctx, cancel := context.WithCancel(t.Context())
			go func() {
				if turns.acquire(ctx, of, 0, nil) {
					in = append(in, of)
				}
			}()
			synctest.Wait()
			return cancel
		}
		for range 3 {
			begin(2)
		}
		gone := begin(3)
		begin(3)
		begin(4)
		require.Equal(t, []types.ID{2, 2, 3, 4}, in, "a place for each, up to half of them")
		gone() // it has its place
		synctest.Wait()
		turns.release(2)
		synctest.Wait()
		require.Equal(t, []types.ID{2, 2, 3, 4, 2}, in, "all have one: who came first is next")
		begin(5)() // waits, and gives up
		synctest.Wait()
		turns.release(4)
		synctest.Wait()
		require.Equal(t, []types.ID{2, 2, 3, 4, 2}, in, "the last place is peer 4's")
		begin(4)
		require.Equal(t, []types.ID{2, 2, 3, 4, 2, 4}, in)
		turns.release(4)
		peers = peers[:2] // 4 was removed
		turns.release(2)
		synctest.Wait()
		require.Equal(t, []types.ID{2, 2, 3, 4, 2, 4, 3}, in)
		require.Equal(t, 3, turns.count())
		require.Empty(t, turns.waiting)
		for _, of := range []types.ID{2, 3, 3} {
			turns.release(of)
		}
		require.Zero(t, turns.count())
		require.Empty(t, turns.places.taken)
	})
}

// TestTurnsGivenUp: who gives up the moment that it is let in holds no place.
func TestTurnsGivenUp(t *testing.T) {
	turns := &turns{ctx: t.Context(), places: newPlaces(1, func() []types.ID { return nil })}
	quit := make(chan struct{})
	for range 1000 {
		require.True(t, turns.acquire(t.Context(), 2, 0, nil))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan bool)
		go func() { done <- turns.acquire(ctx, 2, 0, quit) }()
		go cancel()
		turns.release(2)
		if <-done {
			turns.release(2)
		}
		require.Zero(t, turns.count())
	}
	close(quit)
	require.False(t, turns.acquire(t.Context(), 2, 0, quit))
}

// TestNoTurnsAtTheEnd: what waits begins no more once the Transport stops, whoever gives back a place.
func TestNoTurnsAtTheEnd(t *testing.T) {
	ctx, end := context.WithCancel(t.Context())
	began := 0
	turns := &turns{ctx: ctx, places: newPlaces(1, func() []types.ID { return nil })}
	for range 3 {
		turns.add(&waiter{of: 2, ready: func() { began++ }})
	}
	turns.release(2)
	require.Equal(t, 2, began)
	end()
	turns.release(2)
	turns.add(&waiter{of: 3, ready: func() { began++ }})
	require.Equal(t, 2, began)
	require.Zero(t, turns.count())
}
