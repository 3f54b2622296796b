package memnet_test

import (
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp/memnet"
)

// TestSendState: bytes on a slow line are unacknowledged, bytes that are not read are acknowledged, and those that find no
// room are unsent.
func TestSendState(t *testing.T) {
	for name, option := range map[string]memnet.Option{"connections": memnet.WithBuffer(1000), "sockets": memnet.WithSockets(2000, 1000)} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := memnet.New(option)
				ln, err := n.Host("b").Listen("1")
				require.NoError(t, err)
				defer ln.Close()
				c, err := n.Host("a").DialContext(t.Context(), "tcp", "b:1")
				require.NoError(t, err)
				defer c.Close()
				far, err := ln.Accept()
				require.NoError(t, err)
				defer far.Close()
				state := func() [3]int64 {
					acked, unacked, unsent := c.(interface {
						SendState() (acked, unacked, unsent int64)
					}).SendState()
					return [3]int64{acked, unacked, unsent}
				}
				n.Link("a", "b").SetDelay(time.Second)
				_, err = c.Write(make([]byte, 600))
				require.NoError(t, err)
				require.Equal(t, [3]int64{0, 600, 0}, state())
				time.Sleep(2 * time.Second)
				require.Equal(t, [3]int64{600, 0, 0}, state())
				go func() { _, _ = c.Write(make([]byte, 600)) }()
				time.Sleep(2 * time.Second)
				require.Equal(t, [3]int64{1000, 200, 200}, state(), "it is not read")
				_, err = io.CopyN(io.Discard, far, 1200)
				require.NoError(t, err)
				time.Sleep(2 * time.Second)
				require.Equal(t, [3]int64{1200, 0, 0}, state())
			})
		})
	}
}
