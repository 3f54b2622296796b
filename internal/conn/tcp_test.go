package conn

import (
	"crypto/tls"
	"net"
	"testing"

	"github.com/stretchr/testify/require"
)

// foreign is a connection of another package that has a NetConn.
type foreign struct {
	net.Conn
	below net.Conn
}

func (f *foreign) NetConn() net.Conn { return f.below }

// TestBelow: the socket is found below TLS and the types of this package. What another type has below is its own business: it
// may be the connection that many streams share, or nothing, or the connection itself.
func TestBelow(t *testing.T) {
	tcp := &net.TCPConn{}
	for name, c := range map[string]net.Conn{
		"itself": tcp, "accepted": &deadlineConn{Conn: tcp}, "dialled": &Dialed{Conn: tcp}, "metered": &Metered{Conn: tcp},
		"accepted, TLS":            tls.Server(&deadlineConn{Conn: tcp}, nil),
		"dialled, TLS, metered":    &Dialed{Conn: tls.Client(&Metered{Conn: tcp}, nil)},
		"TLS over what is dialled": tls.Client(&Dialed{Conn: tcp}, nil),
	} {
		require.Same(t, tcp, below(c), name)
		require.Same(t, tcp, tcpBelow(c), name)
	}
	itself := &foreign{}
	itself.below = itself
	for _, f := range []*foreign{{below: tcp}, {}, itself} {
		require.Same(t, f, below(f))
		require.Same(t, f, below(&Dialed{Conn: f}))
		require.Nil(t, rawTCP(f))
	}
}
