package memnet

import (
	"math/rand/v2"
	"time"
)

const (
	firstRetransmission = 200 * time.Millisecond
	maxLosses           = 7 // in a row
)

// Link is one direction between two hosts, shared by all connections between them. A change affects later
// writes; bytes in transit arrive as planned, unless the link is cut or its bandwidth changes.
type Link struct {
	net      *Network
	from, to string

	// Guarded by net.mu.
	delay, jitter time.Duration
	loss          float64
	bandwidth     int
	free          time.Time     // when earlier bytes have left, given the bandwidth
	mended        chan struct{} // nil while the link is up; closed when it is mended
	dials         DialFault     // of dials in this direction
	allowed       chan struct{} // closed when dials hang no longer
	paths         []*path
	rand          *rand.Rand
}

// SetDelay sets how long bytes take to arrive. Zero, the default, and below mean no time.
func (l *Link) SetDelay(d time.Duration) { l.set(func() { l.delay = max(0, d) }, "delay %v", d) }

// SetJitter adds a random time from 0 to below d to each delay. The order of bytes in a connection stays.
func (l *Link) SetJitter(d time.Duration) { l.set(func() { l.jitter = max(0, d) }, "jitter %v", d) }

// SetLoss sets the probability, from 0 to 1, that a segment (a Write, or 16 KiB of it) is lost in transit. As in TCP
// that costs time, not bytes: a lost segment is sent again after 200 ms, then 400 ms and so on, and later bytes
// wait for it. The 8th attempt always arrives; use Cut to let nothing through.
func (l *Link) SetLoss(p float64) { l.set(func() { l.loss = p }, "loss %v", p) }

// SetBandwidth sets how many bytes a second the link carries, all connections together. Zero, the default, and below
// mean no limit. Bytes in transit are sent again at the new rate.
func (l *Link) SetBandwidth(bytesPerSecond int) {
	l.set(func() {
		l.bandwidth, l.free = max(0, bytesPerSecond), time.Time{}
		for _, p := range l.paths {
			p.resend()
		}
	}, "%d bytes a second", bytesPerSecond)
}

// Cut makes the link a black hole: nothing arrives any more, including bytes in transit and acknowledgements of bytes
// in the other direction, so that writers on both sides wait once a window is full. Neither side gets an error; dialing
// hangs.
func (l *Link) Cut() { l.set(l.doCut, "cut") }

// Mend undoes Cut: bytes held back are sent again, in order, from now on.
func (l *Link) Mend() { l.set(l.doMend, "mended") }

// HalfOpen makes the existing connections of the link black holes in its direction, permanently: nothing more arrives,
// not even their end, and no acknowledgement of bytes in the other direction. Neither side gets an error. Later
// connections are not affected. This is the effect of a firewall or an address translation that forgets connections; in
// both directions, of another host that is gone permanently.
func (l *Link) HalfOpen() { l.set(l.doHalfOpen, "connections are half-open") }

func (l *Link) set(change func(), event string, args ...any) {
	l.net.mu.Lock()
	defer l.net.mu.Unlock()
	if l.net.events != nil {
		l.net.note("%s to %s: "+event, append([]any{l.from, l.to}, args...)...)
	}
	change()
}

func (l *Link) doHalfOpen() {
	for _, p := range l.paths {
		p.lost = true
		p.discard()
	}
}

func (l *Link) cut() bool { return l.mended != nil }

func (l *Link) doCut() {
	if l.cut() {
		return
	}
	l.mended = make(chan struct{})
	for _, p := range l.paths {
		if p.final {
			p.discard()
		}
		p.stop()
	}
}

func (l *Link) doMend() {
	if !l.cut() {
		return
	}
	close(l.mended)
	l.mended = nil
	l.free = time.Time{}
	for _, p := range l.paths {
		p.dst.acknowledgeable()
		p.resend()
	}
}

// losesSegment draws whether a segment without retransmission is lost.
func (l *Link) losesSegment() bool { return l.cut() || l.loss > 0 && l.rand.Float64() < l.loss }

// instant reports whether bytes arrive at the moment they are written.
func (l *Link) instant() bool {
	return !l.cut() && l.delay == 0 && l.jitter == 0 && l.loss <= 0 && l.bandwidth == 0
}

// arrival returns when a segment of size bytes that is sent now arrives.
func (l *Link) arrival(now time.Time, size int) time.Time {
	return l.departure(now, size).Add(l.transit())
}

// ackArrival returns when an acknowledgement sent now arrives. A lost one has no cost, since the next
// says the same and more.
func (l *Link) ackArrival(now time.Time) time.Time { return l.departure(now, 0).Add(l.flight()) }

// departure returns when a segment of size bytes that is sent now has left, given the bandwidth.
func (l *Link) departure(now time.Time, size int) time.Time {
	if l.bandwidth == 0 {
		return now
	}
	sent := now
	if sent.Before(l.free) {
		sent = l.free
	}
	sent = sent.Add(time.Duration(int64(size) * int64(time.Second) / int64(l.bandwidth)))
	l.free = sent
	return sent
}

// flight returns how long a segment that is not lost is in transit, drawing jitter.
func (l *Link) flight() time.Duration {
	d := l.delay
	if l.jitter > 0 {
		d += time.Duration(l.rand.Int64N(int64(l.jitter)))
	}
	return d
}

// transit returns how long a segment is in transit, drawing jitter and loss.
func (l *Link) transit() time.Duration {
	d := l.flight()
	if l.loss > 0 {
		wait := firstRetransmission
		for range maxLosses {
			if l.rand.Float64() >= l.loss {
				break
			}
			d += wait
			wait *= 2
		}
	}
	return d
}
