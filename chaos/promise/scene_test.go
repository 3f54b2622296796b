package promise_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp/chaos/promise"
	"github.com/seed-4d73690b/rafthttp/internal/bubble"
)

// TestScenes plays each scene, in some of its variants, also over sockets. With the race detector, it plays
// two of them: one over sockets, and one that is not the same for all scenes.
func TestScenes(t *testing.T) {
	for i, name := range promise.Scenes() {
		t.Run(name, func(t *testing.T) {
			for _, n := range []int{3, i % 3, (i + 1) % 3, (i + 2) % 3, 4, 5, 6, 7}[:bubble.Runs(8, 2)] {
				p := promise.Plan{Seed: *seed, Length: time.Second, Members: make([]promise.Options, 1), Events: []promise.Event{{Do: promise.Scene, How: name, N: n}}}
				if n%4 == 3 {
					p.Sockets = promise.Buffers{Send: 32 << 10 << (n / 4), Receive: 64 << 10}
				}
				report, v := run(t, p, promise.Config{})
				if v != nil {
					t.Fatal(v)
				}
				require.Equal(t, 1, report.Count["scene "+name])
			}
		})
	}
}
