package memnet

import (
	"context"
	"net"
	"os"
	"syscall"
	"time"
)

// DialFault is the result of dials, see [Network.DialBlock].
type DialFault int

// The faults of dials.
const (
	DialAllowed DialFault = iota // they succeed, the default
	DialRefused                  // they fail with ECONNREFUSED
	DialHangs                    // they get no answer
)

// DialBlock sets the result of dials from one host to another, like a firewall: those in the other direction, and
// existing connections, are not affected. It is in effect until it is called again; neither [Link.Mend] nor
// [Network.Heal] undoes it. Dials that hang continue when they are allowed.
func (n *Network) DialBlock(from, to string, fault DialFault) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.note("dials from %s to %s: %s", from, to, fault)
	l := n.link(from, to)
	if l.dials == DialHangs {
		close(l.allowed)
	}
	if l.dials = fault; fault == DialHangs {
		l.allowed = make(chan struct{})
	}
}

// String returns the fault in a word.
func (f DialFault) String() string {
	switch f {
	case DialRefused:
		return "refused"
	case DialHangs:
		return "hang"
	default:
		return "allowed"
	}
}

// DialContext connects to an address "host:port"; network is "tcp", "tcp4" or "tcp6". It takes the delay of both links,
// and hangs while one of them is cut. It fails with ECONNREFUSED if no one listens there, with a *net.DNSError if
// there is no such host, and with the error of ctx when that ends first. With [WithSockets] it returns a *[Socket], and
// if the SYN is lost on a cut or lossy link, or finds a full backlog, sends it again after 1 s, like Linux, and later
// at growing intervals; after 131 s it fails with ETIMEDOUT. The caller closes the connection.
func (h *Host) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := h.dial(ctx, network, address)
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Addr: addr(address), Err: err}
	}
	return c, nil
}

func (h *Host) dial(ctx context.Context, network, address string) (net.Conn, error) {
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
	if h.net.sockets {
		return h.handshake(ctx, to, port)
	}
	if err := h.roundTrip(ctx, name); err != nil {
		return nil, err
	}
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	return h.connectTo(to, port)
}

// connectTo connects to a port of a host after its answer has arrived.
func (h *Host) connectTo(to *Host, port string) (net.Conn, error) {
	l := to.listeners[port]
	if l == nil || h.net.link(h.name, to.name).dials == DialRefused {
		return nil, os.NewSyscallError("connect", syscall.ECONNREFUSED)
	}
	client, server := h.net.connect(h, to, addr(net.JoinHostPort(h.name, h.freePort())), l.addr)
	l.offer(server)
	return client, nil
}

// roundTrip waits for the time of a message in both directions while neither link is cut.
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

// planRoundTrip returns the duration of a round trip, or else a channel that is closed when the obstacle is removed.
func (h *Host) planRoundTrip(to string) (time.Duration, <-chan struct{}) {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	there, back := h.net.link(h.name, to), h.net.link(to, h.name)
	if there.dials == DialHangs {
		return 0, there.allowed
	}
	for _, l := range []*Link{there, back} {
		if l.cut() {
			return 0, l.mended
		}
	}
	return there.transit() + back.transit(), nil
}

// sleep waits for d, or, if early is not nil, only until that is closed; slept reports whether it was d.
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

// synTimeouts is how long Linux waits for an answer to each SYN before it sends the next one, or fails: the defaults of
// tcp_syn_linear_timeouts and tcp_syn_retries.
var synTimeouts = [...]time.Duration{
	1 * time.Second, 1 * time.Second, 1 * time.Second, 1 * time.Second, // the linear ones
	1 * time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second, 16 * time.Second, 32 * time.Second, 64 * time.Second,
}

// handshake connects a socket.
func (h *Host) handshake(ctx context.Context, to *Host, port string) (net.Conn, error) {
	var answer time.Time // when the first answer in transit arrives; zero: none
	for _, timeout := range synTimeouts {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		now := time.Now()
		next := now.Add(timeout)
		if at, ok := h.syn(to.name, now); ok && (answer.IsZero() || at.Before(answer)) {
			answer = at
		}
		for !answer.IsZero() && !answer.After(next) {
			if _, err := sleep(ctx, time.Until(answer), nil); err != nil {
				return nil, err
			}
			answer = time.Time{}
			if c, err := h.answered(to, port); c != nil || err != nil {
				return c, err
			}
		}
		if _, err := sleep(ctx, time.Until(next), nil); err != nil {
			return nil, err
		}
	}
	return nil, os.NewSyscallError("connect", syscall.ETIMEDOUT)
}

// syn returns when the answer to a SYN sent now arrives, unless one of both is lost.
func (h *Host) syn(to string, now time.Time) (answer time.Time, ok bool) {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	there, back := h.net.link(h.name, to), h.net.link(to, h.name)
	if there.dials == DialHangs || there.losesSegment() || back.losesSegment() {
		return now, false
	}
	return now.Add(there.flight() + back.flight()), true
}

// answered handles the answer to a SYN. It returns neither a connection nor an error if there was none: links were cut
// meanwhile, or the backlog is full.
func (h *Host) answered(to *Host, port string) (net.Conn, error) {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	there, back := h.net.link(h.name, to.name), h.net.link(to.name, h.name)
	if there.dials == DialHangs || there.cut() || back.cut() {
		return nil, nil
	}
	if l := to.listeners[port]; l != nil && there.dials != DialRefused && l.isFull() {
		return nil, nil
	}
	return h.connectTo(to, port)
}
