package faultproxy

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const (
	chunkBytes  = 16 << 10 // read at once
	queueChunks = 64       // in transit in each direction of a connection, unless WithInFlight says more
)

// conn is one connection through the proxy: two sockets and a pump for each direction.
type conn struct {
	proxy *Proxy
	pumps [2]*pump
	done  chan struct{} // closed by reset, and by the end of both pumps
	once  sync.Once
}

func newConn(p *Proxy, client, target *net.TCPConn) *conn {
	c := &conn{proxy: p, done: make(chan struct{})}
	c.pumps[0] = &pump{conn: c, dir: p.directions[0], src: client, dst: target, queue: make(chan chunk, p.chunks)}
	c.pumps[1] = &pump{conn: c, dir: p.directions[1], src: target, dst: client, queue: make(chan chunk, p.chunks)}
	for _, s := range []*net.TCPConn{client, target} {
		if p.buffer > 0 {
			_ = s.SetReadBuffer(p.buffer)
			_ = s.SetWriteBuffer(p.buffer)
		}
	}
	for _, pump := range c.pumps {
		pump.plan(pump.dir.planned())
	}
	return c
}

// run returns when the connection has ended and none of its goroutines runs.
func (c *conn) run() {
	var all, ends sync.WaitGroup
	for _, p := range c.pumps {
		all.Go(p.take)
		ends.Go(p.deliver)
	}
	ends.Wait() // ended by both sides, or by reset
	c.once.Do(func() { close(c.done) })
	for _, p := range c.pumps {
		_ = p.src.Close()
	}
	all.Wait()
}

func (c *conn) reset() {
	c.once.Do(func() { close(c.done) })
	for _, p := range c.pumps {
		abort(p.src)
	}
}

// halfOpen closes the far end of a direction.
func (c *conn) halfOpen(direction int) {
	p := c.pumps[direction]
	p.deaf.Store(true)
	c.pumps[1-direction].mute.Store(true)
	_ = p.dst.Close()
}

// chunk is the result of one read.
type chunk struct {
	data  []byte
	taken time.Time
}

// pump forwards bytes from one socket to the other.
type pump struct {
	conn     *conn
	dir      *Direction
	src, dst *net.TCPConn
	queue    chan chunk

	left atomic.Int64 // bytes until the connection is reset; 0: never
	lost atomic.Bool  // bytes were discarded by Cut
	deaf atomic.Bool  // half-open: dst is gone, and bytes are discarded
	mute atomic.Bool  // half-open: src is gone, and dst is not told
}

// plan draws after how many bytes the connection is reset.
func (p *pump) plan(n int64) {
	if n > 0 {
		n = p.conn.proxy.draw(n)
	}
	p.left.Store(max(0, n))
}

// take reads until the end of the stream of src.
func (p *pump) take() {
	defer close(p.queue)
	for {
		if !p.dir.await(false, p.conn.done) {
			return
		}
		buf := make([]byte, chunkBytes)
		n, err := p.src.Read(buf)
		if n > 0 && !p.pass(chunk{buf[:n], time.Now()}) {
			return
		}
		if err != nil {
			if !errors.Is(err, io.EOF) {
				p.broken()
			}
			return
		}
	}
}

// pass gives a chunk to deliver, unless it must be discarded. It returns false when the connection has ended.
func (p *pump) pass(c chunk) bool {
	// A chunk read while the pause began is held back too.
	if !p.dir.await(false, p.conn.done) {
		return false
	}
	_, cut, _ := p.dir.state()
	switch {
	case p.deaf.Load():
		return true
	case cut:
		p.lost.Store(true)
		return true
	}
	select {
	case p.queue <- c:
		return true
	case <-p.conn.done:
		return false
	}
}

// deliver writes until the end of the stream of src, and forwards the end.
func (p *pump) deliver() {
	for c := range p.queue {
		if !p.dir.delayed(c.taken, p.conn.done) || !p.write(c.data) {
			return
		}
	}
	if !p.mute.Load() && !p.deaf.Load() && p.dir.await(true, p.conn.done) {
		_ = p.dst.CloseWrite()
	}
}

// other is the pump of the other direction.
func (p *pump) other() *pump { return p.conn.pumps[1-p.dir.index] }

// write delivers data piece by piece.
func (p *pump) write(data []byte) bool {
	for len(data) > 0 {
		n, ok := p.dir.slowed(len(data), p.conn.done)
		if !ok || !p.dir.await(false, p.conn.done) {
			return false
		}
		if left := p.left.Load(); left > 0 {
			n = min(n, int(left))
		}
		if _, err := p.dst.Write(data[:n]); err != nil && !p.deaf.Load() {
			p.other().broken() // dst has sent a reset
			return false
		}
		data = data[n:]
		if p.left.Load() > 0 && p.left.Add(-int64(n)) <= 0 {
			p.conn.reset()
			return false
		}
	}
	return true
}

// broken resets the connection because src has: once dst can learn of it.
func (p *pump) broken() {
	if !p.mute.Load() && p.dir.await(true, p.conn.done) {
		p.conn.reset()
	}
}
