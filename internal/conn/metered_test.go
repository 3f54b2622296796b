package conn

import (
	"io"
	"net"
	"os"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// TestPieces: a piece grows on a line that is quick, is fitted to one that is not, and never takes longer than a timeout on one
// that moves a little of it.
func TestPieces(t *testing.T) {
	const timeout = 5 * time.Second
	send := func(p *Pieces, total, rate int) (longest time.Duration) {
		for total > 0 {
			n := p.Next(total)
			total -= n
			took := time.Duration(float64(n) / float64(rate) * float64(time.Second))
			p.Took(n, took, timeout)
			longest = max(longest, took)
		}
		return longest
	}
	for _, rate := range []int{200, 1 << 10, 5 << 10, 50 << 10, 100 << 20} {
		var p Pieces
		require.Equal(t, minPiece, p.Next(1<<20))
		require.Less(t, send(&p, 4<<20, rate), timeout, "at %d bytes a second", rate)
		if rate == 100<<20 {
			require.Equal(t, MaxPiece, p.Next(1<<20))
			require.Equal(t, 7, p.Next(7))
			require.Greater(t, send(&p, 1<<20, 4<<10), 2*WriteTime(timeout), "the first")
			require.Less(t, send(&p, 1<<20, 4<<10), 2*WriteTime(timeout))
		}
	}
}

// TestMeteredWrites: what a connection takes counts while it takes it, and a deadline that is set ends a write, before it begins
// or meanwhile, as that of the connection below does.
func TestMeteredWrites(t *testing.T) {
	for _, tells := range []bool{false, true} {
		t.Run(map[bool]string{false: "in pieces", true: "in steps"}[tells], func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const size, timeout = 16 << 10, 5 * time.Second
				a, b := net.Pipe()
				defer b.Close()
				var moved atomic.Int64
				m := &Metered{Conn: a, moved: &moved, timeout: timeout, partial: tells}
				defer m.Close()
				quit, stopped := make(chan struct{}), make(chan struct{})
				go func() {
					defer close(stopped)
					for {
						select {
						case <-quit:
							return
						case <-time.After(100 * time.Millisecond):
						}
						if n, err := io.ReadFull(b, make([]byte, 100)); n == 0 || err != nil {
							return
						}
					}
				}()
				last, longest := time.Now(), time.Duration(0)
				done := make(chan struct{})
				go func() {
					defer close(done)
					for seen := int64(0); seen >= 0; time.Sleep(50 * time.Millisecond) {
						select {
						case <-stopped:
							return
						default:
						}
						if now := moved.Load(); now != seen {
							seen, last = now, time.Now()
						}
						longest = max(longest, time.Since(last))
					}
				}()
				n, err := m.Write(make([]byte, size-size%100))
				require.NoError(t, err)
				require.Equal(t, size-size%100, n)
				close(quit)
				<-done
				require.Less(t, longest, 2*WriteTime(timeout), "the whole takes 16 s")

				require.NoError(t, m.SetDeadline(time.Now().Add(3*time.Second)))
				start := time.Now()
				_, err = m.Write(make([]byte, size))
				require.ErrorIs(t, err, os.ErrDeadlineExceeded)
				require.Equal(t, 3*time.Second, time.Since(start))
				_, err = m.Write(make([]byte, size))
				require.ErrorIs(t, err, os.ErrDeadlineExceeded)
				require.Equal(t, 3*time.Second, time.Since(start))

				require.NoError(t, m.SetDeadline(time.Time{}))
				time.AfterFunc(7*time.Second, func() { _ = m.SetWriteDeadline(time.Now()) })
				_, err = m.Write(make([]byte, size))
				require.ErrorIs(t, err, os.ErrDeadlineExceeded)
				require.Equal(t, 10*time.Second, time.Since(start))
			})
		})
	}
}
