package conn

import (
	"net"
	"sync"
	"syscall"

	"github.com/seed-4d73690b/rafthttp/internal/socket"
)

// SendGauge tells how far what was written to a connection has got. It is safe for concurrent use. It does not
// allocate.
type SendGauge struct {
	other socket.SendStater // what is no socket of the system, and tells
	raw   syscall.RawConn   // or a TCP connection of the system

	mu    sync.Mutex
	state socket.SendState
	known bool
	info  tcpInfo
	read  func(fd uintptr) // fills in state and known
}

// NewSendGauge returns one for the TCP connection that c is or wraps, if it is of TLS or of this package; for others one that
// tells nothing.
func NewSendGauge(c net.Conn) *SendGauge {
	g := &SendGauge{raw: rawTCP(c)}
	g.other, _ = below(c).(socket.SendStater)
	g.read = func(fd uintptr) { g.state, g.known = sendState(int(fd), &g.info) }
	return g
}

// SendState returns how far what was written has got; false if the system does not tell, or the connection is closed.
func (g *SendGauge) SendState() (socket.SendState, bool) {
	switch {
	case g == nil:
		return socket.SendState{}, false
	case g.other != nil:
		acked, unacked, unsent := g.other.SendState()
		return socket.SendState{Acked: acked, Unacked: unacked, Unsent: unsent, Shut: unsent > 0 && unsent == unacked}, true
	case g.raw == nil:
		return socket.SendState{}, false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.known = false
	if g.raw.Control(g.read) != nil {
		return socket.SendState{}, false
	}
	return g.state, g.known
}

// SendState returns how far what was written to the stream has got; false if the system does not tell.
func (s *Stream) SendState() (socket.SendState, bool) { return s.gauge.SendState() }
