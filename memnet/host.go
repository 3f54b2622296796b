package memnet

import (
	"context"
	"net"
	"os"
	"strconv"
	"syscall"
	"time"
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

// DialContext connects to an address "host:port"; network is "tcp", "tcp4" or "tcp6". It takes the delay of both links,
// and hangs while one of them is cut. It fails with ECONNREFUSED if no one listens there, with a *net.DNSError if
// there is no such host, and with the error of ctx when that ends first. The caller closes the connection.
func (h *Host) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := h.dial(ctx, network, address)
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Addr: addr(address), Err: err}
	}
	return c, nil
}

func (h *Host) dial(ctx context.Context, network, address string) (*Conn, error) {
	switch network {
	case "tcp", "tcp4", "tcp6":
	default:
		return nil, net.UnknownNetworkError(network)
	}
	name, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	h.net.mu.Lock()
	to := h.net.hosts[name]
	h.net.mu.Unlock()
	if to == nil {
		return nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
	}
	if err := h.roundTrip(ctx, name); err != nil {
		return nil, err
	}
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	l := to.listeners[port]
	if l == nil {
		return nil, os.NewSyscallError("connect", syscall.ECONNREFUSED)
	}
	client, server := h.net.connect(h, to, addr(net.JoinHostPort(h.name, h.freePort())), l.addr)
	l.offer(server)
	return client, nil
}

// roundTrip waits for the time of a message there and back while neither link is cut.
func (h *Host) roundTrip(ctx context.Context, to string) error {
	arrived := false
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		wait, mended := h.planRoundTrip(to)
		if mended == nil && (arrived || wait == 0) {
			return nil
		}
		var err error
		if arrived, err = sleep(ctx, wait, mended); err != nil {
			return err
		}
	}
}

// planRoundTrip returns how long a round trip takes, or else a channel that is closed when a link that is cut is mended.
func (h *Host) planRoundTrip(to string) (time.Duration, <-chan struct{}) {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	there, back := h.net.link(h.name, to), h.net.link(to, h.name)
	for _, l := range []*Link{there, back} {
		if l.cut() {
			return 0, l.mended
		}
	}
	return there.transit() + back.transit(), nil
}

// sleep waits for d, or, if early is not nil, only until that is closed; slept says whether it was d.
func sleep(ctx context.Context, d time.Duration, early <-chan struct{}) (slept bool, err error) {
	if early != nil {
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-early:
			return false, nil
		}
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false, ctx.Err()
	case <-timer.C:
		return true, nil
	}
}

// PowerLoss ends what runs on the host as [Host.Crash] does, but nobody is told: the other sides of its connections stay
// open, and get ECONNRESET only after they have sent something that reached the host, which does not know the connection
// any more. The host can listen and dial again at once; cut its links for as long as it is to be away.
func (h *Host) PowerLoss() {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	h.net.note("%s loses power", h.name)
	h.eachConn((*Conn).vanish)
	h.closeListeners()
}

// Crash ends what runs on the host: its listeners and connections are closed, what is on its way from them is lost, and
// their peers get ECONNRESET, as soon as the links let that through. The host can listen and dial again at once.
func (h *Host) Crash() {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	h.net.note("%s crashes", h.name)
	h.closeListeners()
	h.eachConn((*Conn).abort)
}

func (h *Host) closeListeners() {
	for _, l := range h.listeners {
		l.close()
	}
}

func (h *Host) eachConn(end func(*Conn)) {
	for _, c := range append([]*Conn(nil), h.net.conns...) {
		if c.host == h.name {
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
