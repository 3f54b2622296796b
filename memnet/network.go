// Package memnet is a network in memory, for tests of programs that communicate over TCP: hosts with listeners and
// dialers, and between each two of them directed links that can be slow, lossy, narrow or cut.
//
//	n := memnet.New(memnet.WithTranscript(t))  // logs what happened if the test fails
//	ln, err := n.Host("b").Listen("80")        // a net.Listener
//	dial := n.Host("a").DialContext            // fits http.Transport.DialContext
//	n.Link("a", "b").SetDelay(time.Second)     // bytes from a to b take a second, those back take no time
//
// Connections behave like TCP: bytes are never lost, duplicated or reordered, a window limits bytes in transit,
// deadlines and closing work as package net describes, and the errors are those of package net and syscall. A lossy
// link delays bytes, like retransmission. To lose, duplicate or reorder single messages of raft, use package
// memnet/rafttest, which has a layer above the transport for that, and runs complete clusters.
//
// # What can go wrong
//
//   - [Link.SetDelay], [Link.SetJitter], [Link.SetLoss], [Link.SetBandwidth]: a bad link, separately for each direction.
//   - [Link.Cut], [Network.Partition]: a black hole. Bytes are held back until [Link.Mend] or [Network.Heal].
//   - [Link.HalfOpen]: a middlebox that forgets connections. They are black holes permanently, new ones work.
//   - [Network.DialBlock]: dials from one host to another are refused, or hang, independent of the links.
//   - [Network.Reset]: the connections between two hosts break, and both sides know.
//   - [Host.Crash]: a process dies, and its system tells the others.
//   - [Host.PowerLoss]: a machine dies and comes back. The others are told only by resets in answer to later segments.
//   - [WithTinyBuffers]: reads and writes are short.
//   - [WithSockets], [Listener.SetBacklog]: the effects of TCP itself.
//
// There is no real I/O and no goroutine that waits, only timers for bytes in transit. So it works in bubbles of
// testing/synctest, where time passes in no time and arrivals can be compared exactly: make the network inside the bubble.
//
// # Sockets
//
// A [Conn], the default, is simple: one window limits bytes written and not read, acknowledgements take no time,
// closing with unread bytes is closing, and no connection times out. With [WithSockets] each connection is a [Socket],
// with the properties of TCP sockets of Linux: two buffers, delayed acknowledgements, resets, timeouts of connections
// and of dials, full backlogs, and writev and sendfile. Tests of this package run the same scripts on sockets and on
// loopback.
//
// A Socket has no congestion control, no keep-alive and no Nagle's algorithm; its buffers do not grow; and bytes held
// back by a cut link are sent again at the moment it is mended, not up to two minutes later.
package memnet

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"sync"
)

const (
	defaultBuffer       = 64 << 10
	defaultSocketBuffer = 256 << 10
	tinyBuffer          = 61
	tinyRead            = 7
)

// Network is a set of hosts and the links between them. Make one with [New]. All its methods, and those of its hosts,
// links, listeners and connections, may be called concurrently. Only Accept, Read, Write and DialContext block.
type Network struct {
	seed   uint64
	buffer int
	pieces int // the most that a Read returns is drawn from 1 to this; 0: no limit

	sockets                   bool // connections are Sockets
	sendBuffer, receiveBuffer int  // of sockets

	mu     sync.Mutex // guards all below, and all state of hosts, links, listeners and connections
	hosts  map[string]*Host
	links  map[[2]string]*Link
	conns  []side      // those not closed on both sides, in order of creation
	events *transcript // nil: none is kept
}

// Option is an option of [New].
type Option func(*Network)

// WithSeed seeds random values (jitter, loss, and sizes of tiny reads). Each link draws from a separate sequence,
// independent of traffic elsewhere. The seed is 0 by default: runs are alike unless requested otherwise.
func WithSeed(seed uint64) Option { return func(n *Network) { n.seed = seed } }

// WithBuffer sets how many bytes may be written and not yet read in each direction of a connection; a writer waits
// beyond that. Zero and below mean 64 KiB.
func WithBuffer(bytes int) Option {
	return func(n *Network) {
		if bytes > 0 {
			n.buffer = bytes
		}
	}
}

// WithTinyBuffers makes every Read return at most 1 to 7 bytes, drawn at random, and every Write wait after at most 61
// unread bytes: for code that must not depend on how a stream is divided. It is slow.
func WithTinyBuffers() Option {
	return func(n *Network) { n.buffer, n.pieces = tinyBuffer, tinyRead }
}

// WithSockets makes connections behave like TCP sockets of Linux, see [Socket]: DialContext and Accept return a *Socket
// instead of a *[Conn]. send and receive are the sizes of their two buffers in bytes; zero and below mean 256 KiB.
// [WithBuffer] has no effect then.
func WithSockets(send, receive int) Option {
	return func(n *Network) {
		n.sockets, n.sendBuffer, n.receiveBuffer = true, send, receive
		if send <= 0 {
			n.sendBuffer = defaultSocketBuffer
		}
		if receive <= 0 {
			n.receiveBuffer = defaultSocketBuffer
		}
	}
}

// New returns a network without hosts, whose links are instant and unlimited.
func New(options ...Option) *Network {
	n := &Network{buffer: defaultBuffer, hosts: make(map[string]*Host), links: make(map[[2]string]*Link)}
	for _, o := range options {
		o(n)
	}
	return n
}

// Host returns the host with this name, and makes it at the first call. The name is the host part of addresses.
func (n *Network) Host(name string) *Host {
	n.mu.Lock()
	defer n.mu.Unlock()
	h := n.hosts[name]
	if h == nil {
		h = &Host{net: n, name: name, listeners: make(map[string]*Listener), nextPort: firstPort}
		n.hosts[name] = h
	}
	return h
}

// Link returns the directed link for bytes from one host to another; both may be the same, and need not
// exist yet.
func (n *Network) Link(from, to string) *Link {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.link(from, to)
}

func (n *Network) link(from, to string) *Link {
	key := [2]string{from, to}
	l := n.links[key]
	if l == nil {
		hash := fnv.New64a()
		_, _ = hash.Write([]byte(from + "\x00" + to))
		l = &Link{net: n, from: from, to: to, rand: rand.New(rand.NewPCG(n.seed, hash.Sum64()))}
		n.links[key] = l
	}
	return l
}

// Partition cuts the links, in both directions, between hosts of different groups. Links of hosts in no group, and
// links that are already cut, are not changed.
func (n *Network) Partition(groups ...[]string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.note("partition %s", fmt.Sprint(groups))
	for i, group := range groups {
		for j, other := range groups {
			if i == j {
				continue
			}
			for _, from := range group {
				for _, to := range other {
					n.link(from, to).doCut()
				}
			}
		}
	}
}

// Heal mends all links that are cut, by [Network.Partition] or [Link.Cut].
func (n *Network) Heal() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.note("heal")
	for _, l := range n.links {
		l.doMend()
	}
}

// Reset resets all connections between two hosts, on both sides at once, independent of the links: reads and
// writes fail with ECONNRESET.
func (n *Network) Reset(a, b string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.note("reset the connections between %s and %s", a, b)
	for _, c := range n.conns {
		if own, other := c.hosts(); (own == a && other == b) || (own == b && other == a) {
			c.reset()
		}
	}
}

// readSize returns the limit of a Read of up to size bytes. It is called with mu held.
func (n *Network) readSize(size int, l *Link) int {
	if n.pieces == 0 {
		return size
	}
	return min(size, 1+l.rand.IntN(n.pieces))
}
