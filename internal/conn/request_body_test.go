package conn

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp/internal/errs"
)

// TestRequestBodyEnds: a body that brings a byte and stands still ends by the timeout, by its context and by Cut, also where
// no deadline can be set; one that trickles ends at its minimum rate. What ended it stays.
func TestRequestBodyEnds(t *testing.T) {
	const timeout = 5 * time.Second
	stopped, cut := errors.New("stopped"), errors.New("cut")
	for name, tc := range map[string]struct {
		act     func(b *RequestBody, stop context.CancelCauseFunc, client net.Conn)
		want    error
		trickle bool
		after   time.Duration
	}{
		"timeout": {nil, errs.ErrStalled, false, timeout},
		"context": {func(_ *RequestBody, stop context.CancelCauseFunc, _ net.Conn) { stop(stopped) }, stopped, false, time.Second},
		"cut":     {func(b *RequestBody, _ context.CancelCauseFunc, _ net.Conn) { b.Cut(cut) }, cut, false, time.Second},
		"closed":  {func(_ *RequestBody, _ context.CancelCauseFunc, client net.Conn) { client.Close() }, io.EOF, false, time.Second},
		"rate":    {nil, errs.ErrStalled, true, 2 * timeout},
	} {
		for _, bounded := range []bool{true, false} {
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					server, client := net.Pipe()
					defer client.Close()
					limit := server.SetReadDeadline
					if !bounded {
						limit = func(time.Time) error { return errors.ErrUnsupported }
					}
					ctx, stop := context.WithCancelCause(t.Context())
					defer stop(nil)
					b := NewRequestBody(ctx, server, -1, timeout, limit)
					defer b.Release()
					if tc.trickle {
						b.RequireRate(2 * timeout)
					}
					var writer sync.WaitGroup
					defer func() { server.Close(); writer.Wait() }()
					writer.Go(func() {
						for range 100 {
							if _, err := client.Write([]byte("x")); err != nil || !tc.trickle {
								return
							}
							time.Sleep(time.Second)
						}
					})
					begun := time.Now()
					if tc.act != nil {
						time.AfterFunc(tc.after, func() { tc.act(b, stop, client) })
					}
					n, err := int64(0), error(nil)
					for p := make([]byte, 10); err == nil; {
						var m int
						m, err = b.Read(p)
						n += int64(m)
					}
					require.ErrorIs(t, err, tc.want)
					require.InDelta(t, tc.after, time.Since(begun), float64(10*time.Millisecond))
					require.Equal(t, n, b.BytesRead())
					require.GreaterOrEqual(t, n, int64(1))
					require.Equal(t, err, b.Err())
					_, again := b.Read(make([]byte, 1))
					require.Equal(t, err, again)
				})
			})
		}
	}
}
