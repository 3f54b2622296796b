package server_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp/examples/kv/internal/api"
	"github.com/seed-4d73690b/rafthttp/examples/kv/internal/server"
)

func TestReadWaitsUntilApplied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := server.NewReader(t.Context(), 4)
		r.Ask = func(id []byte) { r.Answer(id, 6) }
		done := make(chan error, 1)
		go func() { done <- r.Confirm() }()
		for _, index := range []uint64{4, 5} {
			r.Apply(index)
			synctest.Wait()
			require.Empty(t, done)
		}
		r.Apply(7)
		require.NoError(t, <-done)
		require.NoError(t, r.Confirm()) // at once, now
	})
}

func TestReadAsksAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		r := server.NewReader(t.Context(), 4)
		asked := 0
		r.Ask = func(id []byte) {
			switch asked++; asked {
			case 1: // lost
			case 2:
				r.Answer([]byte("of old.."), 3) // to a question of another time
			default:
				r.Answer(id, 4)
			}
		}
		require.NoError(t, r.Confirm())
		require.Equal(t, 3, asked)
		require.Equal(t, 600*time.Millisecond, time.Since(start))
	})
}

func TestReadGivesUp(t *testing.T) {
	for _, tc := range []struct {
		name string
		ask  func(r *server.Reader, id []byte)
		want error
	}{
		{"no answer", func(*server.Reader, []byte) {}, api.ErrNoLeader},
		{"never applied", func(r *server.Reader, id []byte) { r.Answer(id, 9) }, api.ErrTimeout},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := server.NewReader(t.Context(), 4)
				r.Ask = func(id []byte) { tc.ask(r, id) }
				start := time.Now()
				require.ErrorIs(t, r.Confirm(), tc.want)
				require.Equal(t, 5*time.Second, time.Since(start))
			})
		})
	}
}
