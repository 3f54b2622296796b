package fair

import (
	"slices"
	"sync/atomic"
	"time"
)

// blockedAfter is how long Process may take before another worker takes the place of its own, if messages wait.
const blockedAfter = time.Millisecond

// worker is a goroutine that calls Process. Its fields are guarded by the lock of the pool; batch and n are changed by
// the worker only, which reads them without the lock.
type worker struct {
	in       *Inbox // that has its turn; nil: none
	batch    [turnMessages]Received
	n        int           // messages in batch
	released int           // of them
	returned chan struct{} // closed once Process has returned; nil: nobody waits
	turns    uint64        // until now
	seen     uint64        // progress at the last check
	first    uint64        // progress with the first message since it was started
	blocked  bool          // it made no progress between two checks, and does not count as running

	claimed atomic.Int32 // messages of batch that Process got; n: nobody takes more
	began   atomic.Int64 // when Process was called last, by the clock of the pool, in ns
}

// progress changes whenever Process is called.
func (w *worker) progress() uint64 { return w.turns<<8 | uint64(w.claimed.Load()) }

// isStuck reports whether Process has not returned for about blockedAfter: since the last check, or since the worker was
// started, by which it has read the clock.
func (w *worker) isStuck(clock time.Duration) bool {
	now := w.progress()
	return now == w.seen || now == w.first && clock-time.Duration(w.began.Load()) >= blockedAfter/2
}

// unclaimed takes the messages that the worker has not begun with away from it.
func (w *worker) unclaimed() []Received {
	return w.batch[w.claimed.Swap(int32(w.n)):w.n]
}

// useWorkers is called with mu held: it wakes or adds workers for the inboxes that wait, while fewer than limit are running. If
// some still wait it checks whether workers are blocked.
func (p *Pool) useWorkers(limit int) {
	for p.run.n > p.starting {
		switch {
		case p.running >= limit:
			p.check()
			return
		case p.idle > 0:
			p.wakeIdle()
		case len(p.workers) < p.cfg.MaxWorkers:
			w := new(worker)
			p.workers = append(p.workers, w)
			p.cfg.Wait.Go(func() { p.work(w) })
		default:
			return // nothing can be done about blocked workers
		}
		p.running++
		p.starting++
	}
}

// wakeIdle is called with mu held.
func (p *Pool) wakeIdle() {
	p.idle--
	p.leastIdle = min(p.leastIdle, p.idle)
	p.more <- struct{}{}
}

// endIdle is called with mu held: it ends n idle workers.
func (p *Pool) endIdle(n int) {
	for range n {
		p.wakeIdle()
		p.ending++
	}
}

// work is a worker.
func (p *Pool) work(w *worker) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.starting--
	p.clock = time.Since(p.born)
	for p.next(w) {
		p.mu.Unlock()
		n := p.process(w)
		p.mu.Lock()
		p.finish(w, n)
	}
	i := slices.Index(p.workers, w)
	p.workers = slices.Delete(p.workers, i, i+1)
	p.useWorkers(p.cfg.Workers) // for an inbox that came while MaxWorkers existed, and this one was to end
}

// next is called with mu held: it waits for an inbox, and takes messages. It returns false if the worker is to end.
// A worker that was started takes some in any case; later it waits if more than Workers run, since workers that were blocked
// are back.
func (p *Pool) next(w *worker) bool {
	started := w.turns == 0
	for ; p.run.n == 0 || !started && p.running > p.cfg.Workers; started = true {
		p.running--
		if p.closed {
			return false
		}
		p.useWorkers(p.cfg.Workers)
		p.idle++
		p.mu.Unlock()
		<-p.more
		p.mu.Lock()
		if p.ending > 0 {
			p.ending--
			return false
		}
		p.starting--
		p.clock = time.Since(p.born)
	}
	in := p.run.first
	p.run.remove(in)
	in.worker, w.in = w, in
	if w.turns++; started {
		w.first = w.turns<<8 | 1
	}
	for w.n = 0; w.n < turnMessages && in.waiting.first != nil; w.n++ {
		one := in.waiting.pop()
		w.batch[w.n] = Received{in, one.msg, one.size, one.units}
		p.free.put(one)
	}
	p.waiting -= w.n
	if !p.checking { // which reads the clock
		p.clock = time.Since(p.born)
	}
	w.released = 0
	w.claimed.Store(0)
	w.began.Store(int64(p.clock))
	p.useWorkers(p.cfg.Workers)
	return true
}

// process calls Process for the messages of the worker, unless they are taken away from it, and returns their number.
func (p *Pool) process(w *worker) int {
	for i := range w.n {
		if i > 0 {
			if p.waitingOffers.Load() > 0 {
				p.releaseEarly(w, i)
			}
			w.began.Store(int64(time.Since(p.born)))
		}
		if !w.claimed.CompareAndSwap(int32(i), int32(i+1)) {
			return i
		}
		p.cfg.Process(w.in, w.batch[i].Msg, w.batch[i].Size)
	}
	return w.n
}

// releaseEarly makes room for the first n messages before the others are processed: Process may be slow.
func (p *Pool) releaseEarly(w *worker, n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.releaseProcessed(w, n)
}

// releaseProcessed is called with mu held.
func (p *Pool) releaseProcessed(w *worker, n int) {
	done := w.batch[w.released:n]
	w.released = n
	p.processed += uint64(len(done))
	for i := range done {
		p.bytes += uint64(done[i].Size)
	}
	p.release(w.in, done)
}

// finish is called with mu held: it ends the turn of an inbox, after n messages were processed.
func (p *Pool) finish(w *worker, n int) {
	in := w.in
	p.releaseProcessed(w, n)
	clear(w.batch[:w.n])
	w.n, w.in, in.worker = 0, nil, nil
	if w.blocked {
		w.blocked = false
		p.running++
	}
	if w.returned != nil {
		close(w.returned)
		w.returned = nil
	}
	if in.waiting.first != nil {
		p.run.push(in)
	}
}

// check is called with mu held, while all workers are busy: it makes checkWorkers run soon.
func (p *Pool) check() {
	if p.checking || p.closed {
		return
	}
	p.checking = true
	p.clock = time.Since(p.born)
	for _, w := range p.workers {
		w.seen = w.progress()
	}
	p.cfg.Wait.Add(1)
	if p.timer == nil {
		p.timer = time.AfterFunc(blockedAfter, p.checkWorkers)
	} else {
		p.timer.Reset(blockedAfter)
	}
}

// checkWorkers runs once in a while as long as inboxes wait for workers: a worker that made no progress meanwhile is
// blocked. If all workers are blocked each of the inboxes gets one: if they got one after another they would wait for all
// groups that block.
func (p *Pool) checkWorkers() {
	p.mu.Lock()
	defer p.mu.Unlock()
	defer p.cfg.Wait.Done()
	p.checking = false
	if p.closed {
		return
	}
	p.clock = time.Since(p.born)
	for _, w := range p.workers {
		if w.in != nil && !w.blocked && w.isStuck(p.clock) {
			w.blocked = true
			p.running--
		}
	}
	limit := p.cfg.Workers
	if p.running == 0 {
		limit = p.cfg.MaxWorkers
	}
	p.useWorkers(limit)
}
