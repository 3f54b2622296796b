package bubble_test

import (
	"sync"
	"testing"
	"time"

	"github.com/seed-4d73690b/rafthttp/internal/bubble"
)

// TestManyTimersDueAtOnce crashes the race detector within a few runs if it is in
// a bubble with several processors.
func TestManyTimersDueAtOnce(t *testing.T) {
	for range 10 {
		bubble.Test(t, func(*testing.T) {
			var wg sync.WaitGroup
			for range 64 {
				wg.Go(func() {
					for range 50 {
						timer := time.NewTimer(time.Second)
						time.Sleep(time.Second)
						select {
						case <-timer.C:
						default:
						}
						timer.Stop()
					}
				})
			}
			wg.Wait()
		})
	}
}
