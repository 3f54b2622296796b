package memnet_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp/internal/bubble"
	"github.com/seed-4d73690b/rafthttp/memnet"
)

const (
	sendSize    = 3000
	receiveSize = 5000
)

// withSockets runs a test body in a bubble on a new network with sockets, whose links from a to b and back have delays of
// 2 s and 1 s.
func withSockets(t *testing.T, body func(t *testing.T, n *memnet.Network)) {
	t.Helper()
	bubble.Test(t, func(t *testing.T) {
		n := memnet.New(memnet.WithSockets(sendSize, receiveSize))
		n.Link("a", "b").SetDelay(2 * time.Second)
		n.Link("b", "a").SetDelay(time.Second)
		body(t, n)
	})
}

// took returns how long f takes.
func took(f func()) time.Duration {
	start := time.Now()
	f()
	return time.Since(start)
}

func TestSocketBuffers(t *testing.T) {
	withSockets(t, func(t *testing.T, n *memnet.Network) {
		a, b := connectSockets(t, n)
		require.Zero(t, took(func() { write(t, a, string(make([]byte, sendSize))) }), "into the send buffer")
		require.Equal(t, 3*time.Second, took(func() { write(t, a, "x") }), "there and back")
		require.NoError(t, a.SetWriteDeadline(time.Now().Add(time.Hour)))
		sent, err := a.Write(make([]byte, 1<<20))
		requireFails(t, err, os.ErrDeadlineExceeded, true)
		require.Equal(t, sendSize+receiveSize, sendSize+1+sent, "both buffers")
		require.NoError(t, a.SetWriteDeadline(time.Time{}))

		write(t, b, "the other way")
		requireRead(t, a, "the other way")
		_, err = io.ReadFull(b, make([]byte, 10))
		require.NoError(t, err)
		require.Zero(t, fill(t, a), "the peer does not tell of so little")
		_, err = io.ReadFull(b, make([]byte, receiveSize-10))
		require.NoError(t, err)
		require.Equal(t, 4*time.Second, took(func() { write(t, a, string(make([]byte, sendSize))) }),
			"the news, and the acknowledgement of what is sent then")
	})
}

// TestSocketThroughput: what is sent in a round trip is as much as the smaller of both buffers.
func TestSocketThroughput(t *testing.T) {
	const rounds = 20
	withSockets(t, func(t *testing.T, n *memnet.Network) {
		a, b := connectSockets(t, n)
		d := travelTimeOfMuch(t, a, b, rounds*sendSize)
		require.Equal(t, (rounds-1)*3*time.Second+2*time.Second, d)
	})
}

// TestSocketsOfAByte: the smallest buffers do not get stuck.
func TestSocketsOfAByte(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		a, b := connectSockets(t, memnet.New(memnet.WithTinyBuffers(), memnet.WithSockets(1, 1)))
		want := bytes.Repeat([]byte("0123456789"), 100)
		go func() { _, _ = a.Write(want); _ = a.CloseWrite() }()
		got, err := io.ReadAll(b)
		require.NoError(t, err)
		require.Equal(t, want, got)
	})
}

func TestSocketDefaultBuffers(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		a, _ := connectSockets(t, memnet.New(memnet.WithSockets(0, -1)))
		require.Equal(t, 512<<10, fill(t, a))
	})
}

func TestSocketWaitsWhileCut(t *testing.T) {
	for _, cut := range [][2]string{{"a", "b"}, {"b", "a"}} {
		t.Run(cut[0]+" to "+cut[1], func(t *testing.T) {
			withSockets(t, func(t *testing.T, n *memnet.Network) {
				a, b := connectSockets(t, n)
				n.Link(cut[0], cut[1]).Cut()
				require.Equal(t, sendSize, fill(t, a), "nothing is acknowledged")
				time.Sleep(time.Minute)
				n.Link(cut[0], cut[1]).Mend()
				write(t, a, "goes on")
				require.NoError(t, a.Close())
				got, err := io.ReadAll(b)
				require.NoError(t, err)
				require.Len(t, got, sendSize+len("goes on"))
			})
		})
	}
}

// TestSocketTimeouts: what is not acknowledged is given up, by a socket that was closed sooner.
func TestSocketTimeouts(t *testing.T) {
	tests := map[string]struct {
		set  func(t *testing.T, n *memnet.Network, a *memnet.Socket)
		want time.Duration
	}{
		"the system's":           {func(*testing.T, *memnet.Network, *memnet.Socket) {}, 924600 * time.Millisecond},
		"acknowledgements alone": {func(_ *testing.T, n *memnet.Network, _ *memnet.Socket) { n.Heal(); n.Link("b", "a").Cut() }, 924600 * time.Millisecond},
		"half-open":              {func(_ *testing.T, n *memnet.Network, _ *memnet.Socket) { n.Link("a", "b").HalfOpen(); n.Heal() }, 924600 * time.Millisecond},
		"the user's": {func(t *testing.T, _ *memnet.Network, a *memnet.Socket) {
			require.NoError(t, a.SetUserTimeout(5*time.Second))
		}, 5 * time.Second},
		"the user's, undone": {func(t *testing.T, _ *memnet.Network, a *memnet.Socket) {
			require.NoError(t, a.SetUserTimeout(5*time.Second))
			require.NoError(t, a.SetUserTimeout(0))
		}, 924600 * time.Millisecond},
		"the user's, set while it waits": {func(t *testing.T, _ *memnet.Network, a *memnet.Socket) {
			time.AfterFunc(3*time.Second, func() { _ = a.SetUserTimeout(10 * time.Second) })
		}, 10 * time.Second},
		"of a FIN": {func(t *testing.T, _ *memnet.Network, a *memnet.Socket) {
			require.NoError(t, a.SetUserTimeout(5*time.Second))
			require.NoError(t, a.CloseWrite())
		}, 5 * time.Second},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			withSockets(t, func(t *testing.T, n *memnet.Network) {
				a, b := connectSockets(t, n)
				n.Link("a", "b").Cut()
				tc.set(t, n, a)
				_, _ = a.Write([]byte("lost"))
				start := time.Now()
				_, err := a.Read(make([]byte, 1))
				requireFails(t, err, syscall.ETIMEDOUT, true)
				require.Equal(t, tc.want, time.Since(start))
				_, err = a.Read(make([]byte, 1))
				require.Equal(t, io.EOF, err, "the error is told once")

				n.Heal()
				if name != "acknowledgements alone" {
					requireWaits(t, b)
				}
				require.NoError(t, b.SetReadDeadline(time.Time{}))
				write(t, b, "still there?")
				_, err = io.ReadAll(b)
				if name == "half-open" { // no answer comes back
					requireFails(t, err, syscall.ETIMEDOUT, true)
				} else {
					requireFails(t, err, syscall.ECONNRESET, false)
				}
			})
		})
	}
}

// TestSocketUserTimeoutIsForProgress: a peer that reads a little, or acknowledges late, is no peer that is gone.
func TestSocketUserTimeoutIsForProgress(t *testing.T) {
	withSockets(t, func(t *testing.T, n *memnet.Network) {
		a, b := connectSockets(t, n)
		require.NoError(t, a.SetUserTimeout(5*time.Second))
		failed := make(chan error, 1)
		go func() {
			_, err := a.Write(make([]byte, 100*receiveSize))
			failed <- err
		}()
		buf := make([]byte, receiveSize)
		for range 50 {
			time.Sleep(1900 * time.Millisecond) // what is read goes back for a second
			_, err := b.Read(buf)
			require.NoError(t, err)
		}
		require.Empty(t, failed)
		start := time.Now()
		requireFails(t, <-failed, syscall.ETIMEDOUT, true)
		require.Less(t, time.Since(start), 15*time.Second, "and one that stops to read is")
	})
}

func TestSocketWithoutUserTimeoutWaitsForAReader(t *testing.T) {
	withSockets(t, func(t *testing.T, n *memnet.Network) {
		a, b := connectSockets(t, n)
		require.NoError(t, a.SetWriteDeadline(time.Now().Add(24*time.Hour)))
		_, err := a.Write(make([]byte, 1<<20))
		requireFails(t, err, os.ErrDeadlineExceeded, true)
		require.NoError(t, a.Close())
		got, err := io.Copy(io.Discard, b)
		require.NoError(t, err)
		require.EqualValues(t, sendSize+receiveSize, got)
	})
}

// TestSocketClosedBehindACut: the system sends on for a while, and then forgets it.
func TestSocketClosedBehindACut(t *testing.T) {
	for _, lasts := range []time.Duration{100 * time.Second, 110 * time.Second} {
		t.Run(lasts.String(), func(t *testing.T) {
			withSockets(t, func(t *testing.T, n *memnet.Network) {
				a, b := connectSockets(t, n)
				n.Link("a", "b").Cut()
				write(t, a, "last words")
				require.NoError(t, a.Close())
				time.Sleep(lasts)
				n.Heal()
				if lasts < 102*time.Second {
					got, err := io.ReadAll(b)
					require.NoError(t, err)
					require.Equal(t, "last words", string(got))
					return
				}
				requireWaits(t, b)
				write(t, b, "hello?")
				_, err := b.Read(make([]byte, 1))
				requireFails(t, err, syscall.ECONNRESET, false)
			})
		})
	}
}

// TestResetMeetsACut: nobody sends a reset again, but what comes then is answered with another.
func TestResetMeetsACut(t *testing.T) {
	for name, cut := range map[string]func(n *memnet.Network, reset func()){
		"before": func(n *memnet.Network, reset func()) { n.Link("a", "b").Cut(); reset() },
		"on its way": func(n *memnet.Network, reset func()) {
			reset()
			time.Sleep(time.Second)
			n.Link("a", "b").Cut()
		},
	} {
		t.Run(name, func(t *testing.T) {
			withSockets(t, func(t *testing.T, n *memnet.Network) {
				a, b := connectSockets(t, n)
				write(t, a, "under way")
				cut(n, func() {
					require.NoError(t, a.SetLinger(0))
					require.NoError(t, a.Close())
				})
				n.Heal()
				requireWaits(t, b)
				write(t, b, "still there?")
				require.Equal(t, 3*time.Second, took(func() {
					_, err := b.Read(make([]byte, 1))
					requireFails(t, err, syscall.ECONNRESET, false)
				}))
			})
		})
	}
}

func TestSocketReset(t *testing.T) {
	withSockets(t, func(t *testing.T, n *memnet.Network) {
		a, b := connectSockets(t, n)
		write(t, a, "arrived")
		time.Sleep(3 * time.Second)
		write(t, a, "under way")
		n.Reset("a", "b")
		_, err := a.Read(make([]byte, 1))
		requireFails(t, err, syscall.ECONNRESET, false)
		got, err := io.ReadAll(b)
		requireFails(t, err, syscall.ECONNRESET, false)
		require.Equal(t, "arrived", string(got))
		_, _ = a.Close(), b.Close()
		require.Zero(t, n.Sides())
	})
}

func TestSocketCrash(t *testing.T) {
	withSockets(t, func(t *testing.T, n *memnet.Network) {
		a, b := connectSockets(t, n)
		write(t, b, "lost on its way")
		start := time.Now()
		n.Host("b").Crash()
		_, err := b.Read(make([]byte, 1))
		requireFails(t, err, net.ErrClosed, false)
		_, err = a.Read(make([]byte, 1))
		requireFails(t, err, syscall.ECONNRESET, false)
		require.Equal(t, time.Second, time.Since(start))
	})
}

func TestSocketPowerLoss(t *testing.T) {
	withSockets(t, func(t *testing.T, n *memnet.Network) {
		a, b := connectSockets(t, n)
		write(t, b, "lost on its way")
		n.Host("b").PowerLoss()
		requireFails(t, b.SetDeadline(time.Time{}), net.ErrClosed, false)
		requireWaits(t, a)
		write(t, a, "still there?")
		require.Equal(t, 3*time.Second, took(func() {
			_, err := a.Read(make([]byte, 1))
			requireFails(t, err, syscall.ECONNRESET, false)
		}))
		require.NoError(t, a.Close())
		require.Zero(t, n.Sides())
	})
}

func TestClosedSocketsAreForgotten(t *testing.T) {
	withSockets(t, func(t *testing.T, n *memnet.Network) {
		a, b := connectSockets(t, n)
		write(t, a, "x")
		require.NoError(t, a.Close())
		require.Equal(t, 2, n.Sides(), "b may still read")
		requireRead(t, b, "x")
		require.NoError(t, b.Close())
		require.Zero(t, n.Sides())
	})
}

func TestListenerOfSocketsCloses(t *testing.T) {
	withSockets(t, func(t *testing.T, n *memnet.Network) {
		ln, err := n.Host("b").Listen("80")
		require.NoError(t, err)
		a, err := n.Host("a").DialContext(t.Context(), "tcp", "b:80")
		require.NoError(t, err)
		defer a.Close()
		require.NoError(t, ln.Close())
		require.Equal(t, time.Second, took(func() {
			_, err = a.Read(make([]byte, 1))
			requireFails(t, err, syscall.ECONNRESET, false)
		}))
	})
}

// TestSendFileOfASocket: a file that is shorter ends it, and an error of it is told.
func TestSendFileOfASocket(t *testing.T) {
	withSockets(t, func(t *testing.T, n *memnet.Network) {
		a, b := connectSockets(t, n)
		want := bytes.Repeat([]byte("0123456789"), 1000)
		path := t.TempDir() + "/file"
		require.NoError(t, os.WriteFile(path, want, 0o600))
		f, err := os.Open(path)
		require.NoError(t, err)
		go func() { _, _ = io.CopyN(io.Discard, b, 9000) }()
		sent, err := a.SendFile(f, 9000)
		require.NoError(t, err)
		require.EqualValues(t, 9000, sent)
		sent, err = a.SendFile(f, 1<<40)
		require.NoError(t, err)
		require.EqualValues(t, 1000, sent, "to its end")
		require.NoError(t, f.Close())
		_, err = a.SendFile(f, 1)
		require.ErrorIs(t, err, os.ErrClosed)
	})
}

// TestSendFileReadsWhatItSends: no more than that, whatever ends it.
func TestSendFileReadsWhatItSends(t *testing.T) {
	for name, end := range map[string]func(a, b *memnet.Socket) error{
		"deadline": func(a, _ *memnet.Socket) error { return a.SetWriteDeadline(time.Now().Add(time.Minute)) },
		"over":     func(a, _ *memnet.Socket) error { return a.SetWriteDeadline(time.Unix(1, 0)) },
		"close":    func(a, _ *memnet.Socket) error { time.AfterFunc(time.Minute, func() { _ = a.Close() }); return nil },
		"reset": func(_, b *memnet.Socket) error {
			return errors.Join(b.SetLinger(0), b.Close())
		},
	} {
		t.Run(name, func(t *testing.T) {
			withSockets(t, func(t *testing.T, n *memnet.Network) {
				a, b := connectSockets(t, n)
				path := t.TempDir() + "/file"
				require.NoError(t, os.WriteFile(path, make([]byte, 1<<20), 0o600))
				f, err := os.Open(path)
				require.NoError(t, err)
				defer f.Close()
				require.NoError(t, end(a, b))
				sent, err := a.SendFile(f, 1<<20)
				require.Error(t, err)
				at, err := f.Seek(0, io.SeekCurrent)
				require.NoError(t, err)
				require.Equal(t, at, sent)
			})
		})
	}
}

func TestSocketsDoNotAllocate(t *testing.T) {
	a, b := connectSockets(t, memnet.New(memnet.WithSockets(0, 0)))
	msg, got := make([]byte, 512), make([]byte, 512)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		_, _ = a.Write(msg)
		_, _ = b.Read(got)
	}))
}
