package promise

import (
	"net"
	"sync"

	"github.com/seed-4d73690b/rafthttp/memnet"
)

// counted is a listener or dialer's connection that counts as open.
type counted struct {
	net.Conn
	once  sync.Once
	close func()
}

// Close implements net.Conn.
func (c *counted) Close() error {
	c.once.Do(c.close)
	return c.Conn.Close()
}

// countedSocket is the same of a socket, whose other methods the library uses: writev, sendfile, timeouts of the system.
type countedSocket struct {
	*memnet.Socket
	once  sync.Once
	close func()
}

// Close implements net.Conn.
func (c *countedSocket) Close() error {
	c.once.Do(c.close)
	return c.Socket.Close()
}

// counting returns a connection of the network that calls closed when it is closed first.
func counting(c net.Conn, closed func()) net.Conn {
	if s, ok := c.(*memnet.Socket); ok {
		return &countedSocket{Socket: s, close: closed}
	}
	return &counted{Conn: c, close: closed}
}

// connWindow is how many bytes of a simple connection may be on their way.
const connWindow = 64 << 10

// window returns how many bytes of one connection may be on their way, and go before what is written next. With sockets all
// that is in the send buffer does: nobody can go before it.
func (p *Plan) window() int { return max(connWindow, p.Sockets.Send) }
