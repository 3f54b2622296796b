package memnet

import (
	"slices"
	"time"
)

const maxSegment = 16 << 10

// segment is what travels at once: bytes, or a signal behind them.
type segment struct {
	data   []byte
	signal signal
	due    time.Time
}

type signal int

const (
	noSignal    signal = iota
	signalEOF          // no more bytes will come
	signalClose        // the same, and none is read any more
	signalReset
)

// path is one direction of a connection: what is on its way from src to dst. All of it is guarded by the network's mutex.
type path struct {
	link     *Link // the one it takes
	src, dst *Conn
	back     *path // the other direction

	queue []segment // on its way, or held back while the link is cut
	timer *time.Timer

	used    int // bytes written by src and not acknowledged by dst: the window in use
	unacked int // of these, bytes that dst has read, but could not acknowledge because the link back is cut

	lost bool // nothing arrives any more: the connection is half-open
}

// blocked says that nothing gets through.
func (p *path) blocked() bool { return p.lost || p.link.cut() }

func (p *path) room() int { return p.src.net.buffer - p.used }

// send sends data, a copy of it if it does not arrive at once, and then the signal.
func (p *path) send(data []byte, sig signal) {
	p.used += len(data)
	if p.lost {
		return
	}
	if len(p.queue) == 0 && p.link.instant() {
		p.dst.receive(segment{data: data, signal: sig})
		return
	}
	now := time.Now()
	for chunk := range slices.Chunk(slices.Clone(data), maxSegment) {
		p.enqueue(segment{data: chunk}, now)
	}
	if sig != noSignal {
		p.enqueue(segment{signal: sig}, now)
	}
	p.deliver(now)
}

func (p *path) enqueue(s segment, now time.Time) {
	if !p.link.cut() {
		s.due = p.link.arrival(now, len(s.data))
	}
	p.queue = append(p.queue, s)
}

// resend plans anew all that was held back.
func (p *path) resend() {
	now := time.Now()
	for i := range p.queue {
		p.queue[i].due = p.link.arrival(now, len(p.queue[i].data))
	}
	p.deliver(now)
}

// deliver hands over what is due and not behind something that is not, and sets the timer for the next.
func (p *path) deliver(now time.Time) {
	if p.blocked() {
		return
	}
	for len(p.queue) > 0 && !p.queue[0].due.After(now) {
		s := p.queue[0]
		p.queue[0] = segment{} // its bytes are not needed any more
		p.queue = p.queue[1:]
		p.dst.receive(s)
	}
	switch {
	case len(p.queue) == 0:
		p.stop()
	case p.timer == nil:
		p.timer = time.AfterFunc(p.queue[0].due.Sub(now), p.timeout)
	default:
		p.timer.Reset(p.queue[0].due.Sub(now))
	}
}

func (p *path) timeout() {
	p.src.net.mu.Lock()
	defer p.src.net.mu.Unlock()
	p.deliver(time.Now())
}

// acknowledge opens the window by n bytes that dst has taken, or later if the link back is cut.
func (p *path) acknowledge(n int) {
	p.unacked += n
	if p.back.blocked() || p.unacked == 0 {
		return
	}
	p.used -= p.unacked
	p.unacked = 0
	p.src.changed.Broadcast()
}

// discard drops what is on its way.
func (p *path) discard() {
	p.queue = nil
	p.stop()
}

func (p *path) stop() {
	if p.timer != nil {
		p.timer.Stop()
	}
}
