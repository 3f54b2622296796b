package conn

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
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
		for _, fails := range []error{nil, errors.ErrUnsupported, os.ErrNoDeadline, errors.New("not here")} {
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					server, client := net.Pipe()
					defer client.Close()
					limit := server.SetReadDeadline
					if fails != nil {
						limit = func(time.Time) error { return fails }
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

// TestRequestBodyRests: a reader may rest between two Reads for longer than the timeout. With RemoveDeadlines, which is for HTTP/2,
// there is no deadline meanwhile, but what has ended the body stays.
func TestRequestBodyRests(t *testing.T) {
	var set time.Time
	limit := func(at time.Time) error { set = at; return nil }
	for _, transient := range []bool{false, true} {
		ctx, stop := context.WithCancelCause(t.Context())
		b := NewRequestBody(ctx, strings.NewReader("body"), 4, time.Minute, limit)
		if transient {
			b.RemoveDeadlines()
		}
		_, err := b.Read(make([]byte, 1))
		require.NoError(t, err)
		require.Equal(t, transient, set.IsZero())
		b.Cut(errors.New("cut"))
		require.False(t, set.IsZero())
		_, err = b.Read(make([]byte, 1))
		require.Error(t, err)
		require.False(t, set.IsZero())
		stop(nil)
		b.Release()
	}
}

// TestRequestIsNotTouchedAfterRelease: neither by an interruption that is under way, nor by a Cut that comes late.
func TestRequestIsNotTouchedAfterRelease(t *testing.T) {
	for range 1000 {
		ctx, stop := context.WithCancelCause(t.Context())
		var released, touched atomic.Bool
		b := NewRequestBody(ctx, strings.NewReader("x"), 1, time.Minute, func(time.Time) error {
			for range 10 {
				runtime.Gosched()
			}
			if released.Load() {
				touched.Store(true)
			}
			return nil
		})
		var stopping sync.WaitGroup
		stopping.Go(func() { stop(errors.New("stop")) })
		b.Release()
		released.Store(true)
		b.Cut(errors.New("cut"))
		stopping.Wait()
		require.False(t, touched.Load())
	}
}
