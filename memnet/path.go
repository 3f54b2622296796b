package memnet

import (
	"slices"
	"time"
)

const maxSegment = 16 << 10

// segment is the unit of transit: bytes, or a signal after them.
type segment struct {
	data   []byte
	signal signal
	ack    ack // with signalAck
	due    time.Time
}

// ack says what a socket has received of the stream of its peer: so many bytes, and the end; and that the peer may send
// up to limit.
type ack struct {
	received, limit int64
	end             bool
}

type signal int

const (
	noSignal    signal = iota
	signalEOF          // no more bytes will come
	signalClose        // the same, and none is read any more
	signalReset
	signalAck // only of sockets: others acknowledge by a call
)

// path is one direction of a connection: the segments in transit to dst. All of it is guarded by the network's mutex.
type path struct {
	net  *Network
	link *Link // the one it takes
	dst  side
	back *path // the other direction

	queue []segment // in transit, or held back while the link is cut
	timer *time.Timer

	lost  bool // nothing arrives any more: the connection is half-open
	final bool // the sender is gone: segments lost now are not sent again
}

// blocked reports whether nothing gets through.
func (p *path) blocked() bool { return p.lost || p.link.cut() }

// send sends data, a copy of it if it does not arrive at once, and then the signal.
func (p *path) send(data []byte, sig signal) {
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

// acknowledge sends an acknowledgement. One that is already in transit, and arrives no earlier, is updated instead.
func (p *path) acknowledge(a ack) {
	s := segment{signal: signalAck, ack: a}
	switch {
	case p.lost:
		return
	case len(p.queue) == 0 && p.link.instant():
		p.dst.receive(s)
		return
	}
	now := time.Now()
	if !p.link.cut() {
		s.due = p.link.ackArrival(now)
	}
	if last := len(p.queue) - 1; last >= 0 && p.queue[last].signal == signalAck && !p.queue[last].due.Before(s.due) {
		p.queue[last].ack = a
		return
	}
	p.queue = append(p.queue, s)
	p.deliver(now)
}

// reset sends a reset, the last segment. It is not sent again if it is lost.
func (p *path) reset() {
	if !p.blocked() {
		p.send(nil, signalReset)
	}
	p.finish()
}

// finish notes that the sender is gone.
func (p *path) finish() {
	p.final = true
	if p.link.cut() {
		p.discard()
	}
}

func (p *path) enqueue(s segment, now time.Time) {
	if !p.link.cut() {
		s.due = p.link.arrival(now, len(s.data))
	}
	p.queue = append(p.queue, s)
}

// resend plans again all segments held back.
func (p *path) resend() {
	now := time.Now()
	for i := range p.queue {
		s := &p.queue[i]
		if s.signal == signalAck {
			s.due = p.link.ackArrival(now)
		} else {
			s.due = p.link.arrival(now, len(s.data))
		}
	}
	p.deliver(now)
}

// deliver delivers segments that are due and not behind one that is not, and sets the timer for the next.
func (p *path) deliver(now time.Time) {
	if p.blocked() {
		return
	}
	for len(p.queue) > 0 && !p.queue[0].due.After(now) {
		s := p.queue[0]
		p.queue[0] = segment{} // its bytes are no longer needed
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
	p.net.mu.Lock()
	defer p.net.mu.Unlock()
	p.deliver(time.Now())
}

// discard drops the segments in transit.
func (p *path) discard() {
	p.queue = nil
	p.stop()
}

func (p *path) stop() {
	if p.timer != nil {
		p.timer.Stop()
	}
}
