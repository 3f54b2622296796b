package network

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

const (
	queueBytes  = 4 << 20                // under way on a way that is slow but not narrow
	narrowQueue = 200 * time.Millisecond // of bytes under way on one that is narrow, and at least 16 KiB
	leastQueue  = 16 << 10
)

// Counts are what became of packets.
type Counts struct{ Passed, Bytes, Cut, Lost, Overflowed uint64 }

// way is one direction between two ports of a switch: it writes packets to the far one, or does not.
type way struct {
	write func(packet []byte)
	now   atomic.Pointer[Conditions]

	mu     sync.Mutex
	rand   *rand.Rand
	free   time.Time // when what was sent before has left, given the rate
	bytes  int       // under way
	queue  []delayed
	wake   chan struct{} // holds one value while the queue may have something new
	counts Counts
}

type delayed struct {
	packet []byte
	due    time.Time
}

func newWay(seed, index uint64, write func([]byte)) *way {
	w := &way{write: write, rand: rand.New(rand.NewPCG(seed, index)), wake: make(chan struct{}, 1)}
	w.now.Store(&Conditions{})
	return w
}

// send takes a packet, which the caller may use again when it returns.
func (w *way) send(packet []byte) {
	w.mu.Lock()
	c := w.now.Load()
	switch {
	case c.Cut:
		w.counts.Cut++
		w.mu.Unlock()
		return
	case c.Loss > 0 && w.rand.Float64() < c.Loss:
		w.counts.Lost++
		w.mu.Unlock()
		return
	case c.Delay == 0 && c.Rate == 0 && len(w.queue) == 0:
		w.passed(len(packet))
		w.mu.Unlock()
		w.write(packet)
		return
	}
	defer w.mu.Unlock()
	limit, due := queueBytes, time.Now()
	if c.Rate > 0 {
		limit = max(leastQueue, int(float64(c.Rate)*narrowQueue.Seconds()))
	}
	if w.bytes+len(packet) > limit {
		w.counts.Overflowed++
		return
	}
	if c.Rate > 0 {
		if due.Before(w.free) {
			due = w.free
		}
		due = due.Add(time.Duration(len(packet)) * time.Second / time.Duration(c.Rate))
		w.free = due
	}
	w.bytes += len(packet)
	w.queue = append(w.queue, delayed{append([]byte(nil), packet...), due.Add(c.Delay)})
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func (w *way) passed(n int) {
	w.counts.Passed++
	w.counts.Bytes += uint64(n)
}

// run delivers what is delayed until done closes.
func (w *way) run(done <-chan struct{}) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		w.mu.Lock()
		var first *delayed
		if len(w.queue) > 0 {
			first = &w.queue[0]
		}
		w.mu.Unlock()
		if first == nil {
			select {
			case <-w.wake:
				continue
			case <-done:
				return
			}
		}
		timer.Reset(time.Until(first.due))
		select {
		case <-timer.C:
		case <-done:
			return
		}
		w.write(first.packet)
		w.mu.Lock()
		w.bytes -= len(first.packet)
		w.passed(len(first.packet))
		w.queue[0] = delayed{}
		w.queue = w.queue[1:] // only now, so that nothing overtakes it
		w.mu.Unlock()
	}
}

func (w *way) count() Counts {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.counts
}

func (w *way) set(c Conditions) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now.Store(&c)
	w.free = time.Time{}
}
