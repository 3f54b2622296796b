package socket_test

import (
	"crypto/tls"
	"net"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/seed-4d73690b/rafthttp/internal/socket"
	"github.com/seed-4d73690b/rafthttp/memnet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// encrypted is a connection that has the methods of one of package net, and may make something else of what is written.
type encrypted struct{ *net.TCPConn }

func TestSockets(t *testing.T) {
	for name, tc := range map[string]struct {
		conn                   net.Conn
		socket, buffers, files bool
	}{
		"TCP":                    {&net.TCPConn{}, true, true, true},
		"Unix":                   {&net.UnixConn{}, true, true, false},
		"memnet, socket":         {&memnet.Socket{}, true, true, true},
		"memnet":                 {&memnet.Conn{}, false, false, false},
		"TLS":                    {tls.Client(&net.TCPConn{}, nil), false, false, false},
		"a type that embeds TCP": {encrypted{&net.TCPConn{}}, false, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, tc.socket, socket.Is(tc.conn))
			require.Equal(t, tc.buffers, socket.Buffers(tc.conn) != nil)
			require.Equal(t, tc.files, socket.Files(tc.conn) != nil)
		})
	}
	_, ok := any(&memnet.Socket{}).(socket.UserTimeouter)
	require.True(t, ok)
}
