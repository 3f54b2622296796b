package conn

import (
	"net"
	"net/netip"
	"sync"
)

const (
	maxHandshakes           = 256
	maxHandshakesPerAddress = 32
	maxConns                = 2048
	maxConnsPerAddress      = 256
)

// ListenLimits limits the concurrent handshakes and connections of all clients of one listener. Addresses have
// separate limits so that none locks others out; one address is a /64 of IPv6.
type ListenLimits struct {
	Handshakes, HandshakesPerAddress int // TLS handshakes in progress
	Conns, ConnsPerAddress           int // connections that are not streams
}

// DefaultListenLimits are enough for a member of one raft group.
var DefaultListenLimits = ListenLimits{maxHandshakes, maxHandshakesPerAddress, maxConns, maxConnsPerAddress}

// admission limits the handshakes or connections of unauthenticated clients, in total and for
// each address. It is safe for concurrent use.
type admission struct {
	most, each int

	mu     sync.Mutex
	all    int
	byAddr map[string]int
}

func newAdmission(most, each int) *admission {
	return &admission{most: most, each: each, byAddr: map[string]int{}}
}

// enter reports whether there is room for one more from an address. If so, the caller must
// call leave.
func (a *admission) enter(from net.Addr) bool {
	key := addressOf(from)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.all >= a.most || (key != "" && a.byAddr[key] >= a.each) {
		return false
	}
	a.all++
	if key != "" {
		a.byAddr[key]++
	}
	return true
}

func (a *admission) leave(from net.Addr) {
	key := addressOf(from)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.all--
	if key == "" {
		return
	}
	if a.byAddr[key]--; a.byAddr[key] == 0 {
		delete(a.byAddr, key)
	}
}

// addressOf is HostOfAddress for the address of a client. It is empty for a Unix socket.
func addressOf(a net.Addr) string {
	if a.Network() == "unix" {
		return ""
	}
	return HostOfAddress(a.String())
}

// HostOfAddress returns, from the text of a net.Addr, the part of which one client has
// few: an IPv4 address, or the /64 network of an IPv6 address. A name is returned without the
// port, and a text without a port unchanged.
func HostOfAddress(a string) string {
	host, _, err := net.SplitHostPort(a)
	if err != nil {
		return a
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return host
	}
	if ip = ip.Unmap(); ip.Is6() {
		if network, err := ip.WithZone("").Prefix(64); err == nil {
			return network.String()
		}
	}
	return ip.String()
}
