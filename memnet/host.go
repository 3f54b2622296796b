package memnet

import (
	"net"
	"os"
	"slices"
	"strconv"
	"syscall"
)

const (
	firstPort = 32768
	lastPort  = 65535
)

// Host is one machine of a [Network].
type Host struct {
	net  *Network
	name string

	// Guarded by net.mu.
	listeners map[string]*Listener // by port
	nextPort  int
}

// Listen listens on a port, such as "2380"; an empty port or "0" picks a free one. It fails with EADDRINUSE if there is
// a listener already. The caller closes the listener, which frees the port.
func (h *Host) Listen(port string) (net.Listener, error) {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	if port == "" || port == "0" {
		port = h.freePort()
	}
	a := addr(net.JoinHostPort(h.name, port))
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return nil, &net.OpError{Op: "listen", Net: "tcp", Addr: a, Err: &net.AddrError{Err: "invalid port", Addr: port}}
	}
	if h.listeners[port] != nil {
		return nil, &net.OpError{Op: "listen", Net: "tcp", Addr: a, Err: os.NewSyscallError("bind", syscall.EADDRINUSE)}
	}
	l := newListener(h, port, a)
	h.listeners[port] = l
	return l, nil
}

// PowerLoss ends everything on the host like [Host.Crash], but no other host is told: the other sides of its
// connections stay open, and get ECONNRESET only after they have sent something that reached the host, which no longer
// knows the connection. The host can listen and dial again at once; cut its links while it should be away.
func (h *Host) PowerLoss() {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	h.net.note("%s loses power", h.name)
	h.eachConn(side.vanish)
	h.closeListeners()
}

// Crash ends everything on the host: its listeners and connections are closed, bytes in transit from them are lost, and
// their peers get ECONNRESET, as soon as the links let that through. The host can listen and dial again at once.
func (h *Host) Crash() {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	h.net.note("%s crashes", h.name)
	h.closeListeners()
	h.eachConn(side.abort)
}

func (h *Host) closeListeners() {
	for _, l := range h.listeners {
		l.close()
	}
}

func (h *Host) eachConn(end func(side)) {
	for _, c := range slices.Clone(h.net.conns) {
		if own, _ := c.hosts(); own == h.name {
			end(c)
		}
	}
}

// freePort returns a port that no listener has.
func (h *Host) freePort() string {
	for {
		port := strconv.Itoa(h.nextPort)
		if h.nextPort++; h.nextPort > lastPort {
			h.nextPort = firstPort
		}
		if h.listeners[port] == nil {
			return port
		}
	}
}
