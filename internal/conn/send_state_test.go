package conn

import (
	"net"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp/internal/socket"
)

// telling is a connection of another package that tells.
type telling struct {
	net.Conn
	acked, unacked, unsent int64
}

func (c *telling) SendState() (acked, unacked, unsent int64) { return c.acked, c.unacked, c.unsent }

// TestSendStateOfOthers: a connection that tells is asked, and of others nothing is known.
func TestSendStateOfOthers(t *testing.T) {
	for _, c := range []*telling{{acked: 7, unacked: 3, unsent: 1}, {acked: 7, unacked: 3, unsent: 3}, {acked: 7}} {
		s, ok := NewSendGauge(&Metered{Conn: c}).SendState()
		require.True(t, ok)
		require.Equal(t, socket.SendState{Acked: c.acked, Unacked: c.unacked, Unsent: c.unsent, Shut: c.unsent == 3}, s)
	}
	client, server := net.Pipe()
	defer client.Close()
	defer server.Close()
	_, ok := NewSendGauge(client).SendState()
	require.False(t, ok)
	_, ok = (*SendGauge)(nil).SendState()
	require.False(t, ok, "of a response")
}
