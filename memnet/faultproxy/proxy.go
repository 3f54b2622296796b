// Package faultproxy is a TCP proxy that behaves like a bad network, separately for each direction: for tests with real
// processes and real sockets. For tests inside one process, package memnet is exact and takes no time.
//
//	p, err := faultproxy.Listen("127.0.0.1:0", "127.0.0.1:2380")
//	defer p.Close()
//	… // have clients dial p.Addr() instead of the target
//	p.ToTarget().Pause()                       // a black hole, one way
//	p.ToClient().SetBandwidth(1)               // a byte a second, the other way
//
// Between members of a raft cluster each stream is dialled by the member that reads it. So a proxy in the peer URL of a
// member is between it and the readers of its streams, and its own inbound streams go through the proxies of the
// others: to isolate it, cut both. To cut one pair only, give each member a separate proxy for each of the others.
//
// It is a proxy, not a wire: it accepts connections and acknowledges bytes also while nothing gets through, as far as its
// buffers and those of the system allow, and dialling it succeeds whatever the target does. Effects of single packets
// (loss, retransmission, the system's own timeouts) need a network namespace and tc.
package faultproxy

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"time"
)

// dialTimeout is how long dialling the target may take.
const dialTimeout = 10 * time.Second

// acceptPause is how long the proxy waits after Accept failed for lack of resources.
const acceptPause = 10 * time.Millisecond

// Proxy forwards connections to one target. Its methods may be called concurrently.
type Proxy struct {
	target     string
	buffer     int
	chunks     int // in transit in each direction of a connection
	ln         net.Listener
	directions [2]*Direction

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu    sync.Mutex
	conns map[*conn]struct{}
	rand  *rand.Rand
}

// Option is an option of [Listen].
type Option func(*Proxy)

// WithSeed seeds random values: after how many bytes [Direction.CutAfter] cuts. The default is 0.
func WithSeed(seed uint64) Option {
	return func(p *Proxy) { p.rand = rand.New(rand.NewPCG(seed, 0)) }
}

// WithSocketBuffers sets the size of the system's buffers of all connections of the proxy, so that a writer waits soon
// when nothing gets through. Below 256 KiB loopback itself, whose segments are of 64 KiB, becomes slow. Zero and below
// mean the system's default.
func WithSocketBuffers(bytes int) Option { return func(p *Proxy) { p.buffer = bytes } }

// WithInFlight sets how many bytes the proxy itself can hold in each direction of a connection. A line that is both fast
// and long needs at least bandwidth × delay, or it carries less than its bandwidth. Below 1 MiB, the default, it means
// 1 MiB.
func WithInFlight(bytes int) Option {
	return func(p *Proxy) { p.chunks = max(queueChunks, (bytes+chunkBytes-1)/chunkBytes) }
}

// Listen listens on a TCP address, such as "127.0.0.1:0", and forwards connections to target, which is dialled for
// each. Close ends it.
func Listen(address, target string, options ...Option) (*Proxy, error) {
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("faultproxy: %w", err)
	}
	p := &Proxy{target: target, ln: ln, conns: make(map[*conn]struct{}), chunks: queueChunks}
	WithSeed(0)(p)
	for _, o := range options {
		o(p)
	}
	for i := range p.directions {
		p.directions[i] = &Direction{proxy: p, index: i, changed: make(chan struct{})}
	}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.wg.Go(p.accept)
	return p, nil
}

// Addr returns the address that the proxy listens on, as "host:port".
func (p *Proxy) Addr() string { return p.ln.Addr().String() }

// ToTarget returns the direction from the clients to the target.
func (p *Proxy) ToTarget() *Direction { return p.directions[0] }

// ToClient returns the direction from the target to the clients.
func (p *Proxy) ToClient() *Direction { return p.directions[1] }

// Connections returns the number of open connections, including half-open ones.
func (p *Proxy) Connections() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.conns)
}

// Reset resets all connections, on both sides: reads and writes there fail with ECONNRESET.
func (p *Proxy) Reset() {
	for _, c := range p.all() {
		c.reset()
	}
}

// Close stops listening, resets all connections, and returns when no goroutine of the proxy runs. Closing again does
// nothing.
func (p *Proxy) Close() error {
	p.cancel()
	err := p.ln.Close()
	p.Reset()
	p.wg.Wait()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

func (p *Proxy) accept() {
	for {
		client, err := p.ln.Accept()
		switch {
		case p.ctx.Err() != nil:
			if err == nil {
				client.Close()
			}
			return
		case err != nil: // lack of descriptors, for example
			select {
			case <-time.After(acceptPause):
			case <-p.ctx.Done():
			}
		default:
			p.wg.Go(func() { p.serve(client.(*net.TCPConn)) })
		}
	}
}

// serve forwards one connection until it ends.
func (p *Proxy) serve(client *net.TCPConn) {
	d := net.Dialer{Timeout: dialTimeout}
	target, err := d.DialContext(p.ctx, "tcp", p.target)
	if err != nil {
		abort(client)
		return
	}
	c := newConn(p, client, target.(*net.TCPConn))
	p.mu.Lock()
	p.conns[c] = struct{}{}
	p.mu.Unlock()
	if p.ctx.Err() != nil { // Close may not have seen it
		c.reset()
	}
	c.run()
	p.mu.Lock()
	delete(p.conns, c)
	p.mu.Unlock()
}

func (p *Proxy) all() (conns []*conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		conns = append(conns, c)
	}
	return conns
}

// draw returns a number from 1 to n.
func (p *Proxy) draw(n int64) int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return 1 + p.rand.Int64N(n)
}

// abort closes a connection with a reset.
func abort(c *net.TCPConn) {
	_ = c.SetLinger(0)
	_ = c.Close()
}
