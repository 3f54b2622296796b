package testmember

import (
	"flag"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/bubble"
	"github.com/seed-4d73690b/rafthttp/memnet"
)

// Connected returns two simulated members with all streams up.
func Connected(t *testing.T, n *memnet.Network) (a, b *Member) {
	t.Helper()
	a, b = StartSimulated(t, n, 1, nil), StartSimulated(t, n, 2, nil)
	Connect(t, a, b)
	Within(t, time.Second, func() bool { return a.ActivePeers() == 1 && b.ActivePeers() == 1 })
	return a, b
}

// The timeouts of connections, as by default.
const (
	ReadTimeout  = rafthttp.DefaultConnReadTimeout
	WriteTimeout = rafthttp.DefaultConnWriteTimeout
)

// overSockets has all tests on a network in memory use one whose connections are like sockets.
var overSockets = flag.Bool("oversockets", false, "run tests on networks in memory over sockets of theirs, with buffers of 64 KiB")

// NewNetwork returns a network in memory for a test of the transport.
func NewNetwork(options ...memnet.Option) *memnet.Network {
	if *overSockets {
		options = append(options, memnet.WithSockets(64<<10, 64<<10))
	}
	return memnet.New(options...)
}

// Simulate runs a test body in a bubble, where time passes in no time, on a network in memory.
func Simulate(t *testing.T, body func(t *testing.T, n *memnet.Network)) {
	t.Helper()
	bubble.Test(t, func(t *testing.T) { body(t, NewNetwork()) })
}

// HostOf is the host of a simulated member.
func HostOf(id types.ID) string { return "m" + id.String() }

// URLOf is the peer URL of a simulated member.
func URLOf(id types.ID) string { return "http://" + HostOf(id) + ":2380" }

// StartSimulated runs a member on a host of its own.
func StartSimulated(t *testing.T, n *memnet.Network, id types.ID, tune func(*rafthttp.Transport)) *Member {
	t.Helper()
	ln, err := n.Host(HostOf(id)).Listen("2380")
	require.NoError(t, err)
	return StartOn(t, ln, id, func(tr *rafthttp.Transport) {
		tr.DialContext = n.Host(HostOf(id)).DialContext
		if tune != nil {
			tune(tr)
		}
	})
}

// RefusingURL is the address of a peer where nobody listens.
const RefusingURL = "http://127.0.0.1:1"

// SilentHost makes a host that exists and refuses connections, and returns its URLs.
func SilentHost(n *memnet.Network, id types.ID) []string {
	n.Host(HostOf(id))
	return []string{URLOf(id)}
}
