package fair

import (
	"slices"
	"sync/atomic"
	"time"
)

// blockedAfter is how long Process may take before another worker takes the place of its own, if messages wait.
const blockedAfter = time.Millisecond

// quickCalls is how many calls of Process for several inboxes are timed together as long as so many take less than quickTime: reading the
// clock takes longer than a call waits for memory, and the processor does not read memory for the next one meanwhile.
const (
	quickCalls = 8
	quickTime  = 20 * time.Microsecond
)

// turnTime is after how long a worker that has processed the messages of an inbox lets others have the inboxes that it has not
// begun with.
const turnTime = 100 * time.Microsecond

// worker is a goroutine that calls Process. Its fields are guarded by the lock of the pool; batch and n are changed by
// the worker only, which reads them without the lock.
type worker struct {
	batch    []Received    // those of an inbox together; as long as a turn of one inbox needs at first, since there may be hundreds of workers
	at       []stamp       // when each was accepted
	n        int           // messages in batch; 0: it has no turn
	kept     int           // of them, that were not taken back
	released int           // of them
	returned chan struct{} // closed once Process has returned; nil: nobody waits
	turns    uint64        // until now
	seen     uint64        // progress at the last check
	first    uint64        // progress with the first message since it was started
	start    time.Duration // when the turn began, by the clock of the pool
	ahead    uint64        // by ReadAhead; owned by the worker
	blocked  bool          // it made no progress between two checks, and does not count as running

	claimed atomic.Int32 // messages of batch that Process got; n: nobody takes more
	longest atomic.Int64 // call of Process, or quick ones that were timed together, since messages were released, in ns
	began   atomic.Int64 // when Process was called last, or one of up to quickCalls before that, by the clock of the pool, in ns
}

func newWorker() *worker {
	n := min(turnMessages, batchMessages)
	return &worker{batch: make([]Received, n), at: make([]stamp, n)}
}

// current is called with the lock of the pool held: it returns the inbox of the call of Process that runs, or of the last one or the
// first; nil: the worker has no turn.
func (w *worker) current() *Inbox {
	if w.n == 0 {
		return nil
	}
	return w.batch[max(w.calls()-1, 0)].Inbox
}

// calls is called with the lock of the pool held: it returns the number of calls of Process in this turn, with the one that runs.
func (w *worker) calls() int { return min(int(w.claimed.Load()), w.kept) }

// isAhead is called with the lock of the pool held: it reports whether the worker has messages of inboxes after the current one.
func (w *worker) isAhead() bool { return w.kept > 0 && w.batch[w.kept-1].Inbox != w.current() }

// progress changes whenever Process is called.
func (w *worker) progress() uint64 { return w.turns<<8 | uint64(w.claimed.Load()) }

// isStuck reports whether Process has not returned for about blockedAfter: since the last check, or since the worker was
// started, by which it has read the clock.
func (w *worker) isStuck(clock time.Duration) bool {
	now := w.progress()
	return now == w.seen || now == w.first && clock-time.Duration(w.began.Load()) >= blockedAfter/2
}

// takeBack is called with mu held: it takes the messages that a worker has not begun with away from it. It returns those of one
// inbox, which may be nil; the others wait again, before all others.
func (p *Pool) takeBack(w *worker, of *Inbox) (left []Received) {
	i := min(int(w.claimed.Swap(int32(w.n))), w.kept)
	back := w.batch[i:w.kept]
	w.kept = i
	for k := range back {
		if back[k].Inbox == of {
			left = append(left, back[k])
		}
	}
	for k := len(back) - 1; k >= 0; k-- {
		in := back[k].Inbox
		if in != of {
			in.more.pushFront(p.free.get(back[k].Msg, back[k].Size, w.at[i+k], back[k].Coalesced))
			p.waiting++
		}
		if before := i + k - 1; before >= w.released && w.batch[before].Inbox == in {
			continue // more of it follow, or its turn ends when that one is released
		}
		in.worker = nil
		if in != of {
			p.requeue(in, (*ring[Inbox]).pushFront)
		}
	}
	return left
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
			w := newWorker()
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
// A worker that was started takes those of one inbox in any case, so that each has a worker if all block. Later it waits if more
// than Workers run, since workers that were blocked are back.
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
	if w.turns++; started {
		w.first = w.turns<<8 | 1
	}
	inboxes := 1
	if !started {
		inboxes = p.run.n / (2 * p.cfg.Workers)
		if len(w.batch) < batchMessages {
			w.batch, w.at = make([]Received, batchMessages), make([]stamp, batchMessages)
		}
	}
	p.fill(w, inboxes)
	p.clock = time.Since(p.born)
	w.claimed.Store(0)
	w.start = p.clock
	w.began.Store(int64(p.clock))
	p.useWorkers(p.cfg.Workers)
	if w.isAhead() {
		p.check()
	}
	return true
}

// fill is called with mu held, while inboxes wait: it gives a worker messages of up to n of them, each for a turn, but at least of one.
func (p *Pool) fill(w *worker, n int) {
	for i := range min(n, p.run.len, len(w.batch)) { // so that the processor waits for the memory of several at a time
		if in := p.run.at(i).of; in != nil && in.more.last != nil {
			w.ahead++
		}
	}
	for more := true; more; more = n > 0 && p.run.n > 0 && w.n < len(w.batch) {
		n--
		e := p.run.pop()
		in := e.of
		in.worker, in.runnable = w, false
		w.batch[w.n], w.at[w.n] = Received{in, e.msg, e.size, e.coalesced}, e.at
		end := min(w.n+turnMessages, len(w.batch))
		for w.n++; w.n < end && in.more.last != nil; w.n++ {
			one := in.more.pop()
			w.batch[w.n], w.at[w.n] = Received{in, one.msg, one.size, one.coalesced}, one.at
			p.free.put(one)
		}
	}
	w.kept, w.released = w.n, 0
	p.waiting -= w.n
}

// process calls Process for the messages of the worker, unless they are taken back, and returns their number.
func (p *Pool) process(w *worker) int {
	if w.n > 1 && p.cfg.ReadAhead != nil {
		for i := range w.batch[:w.n] {
			w.ahead += p.cfg.ReadAhead(w.batch[i].Inbox)
		}
	}
	timed := 1
	for i := range w.n {
		if wait := p.waitingOffers.Load() > 0; i > 0 && (i >= timed || wait || w.batch[i].Inbox == w.batch[i-1].Inbox) {
			timed = p.timeCalls(w, i, wait)
		}
		if !w.claimed.CompareAndSwap(int32(i), int32(i+1)) {
			return i
		}
		p.cfg.Process(w.batch[i].Inbox, w.batch[i].Msg, w.batch[i].Size)
	}
	return w.n
}

// timeCalls reads the clock between two calls of Process, after n of the turn, and returns after how many it should be read again.
func (p *Pool) timeCalls(w *worker, n int, wait bool) (next int) {
	now := time.Since(p.born)
	if next = n + 1; int64(now)-w.began.Load() < int64(quickTime) {
		next = n + quickCalls
	}
	w.returnedAt(now)
	if wait {
		p.releaseEarly(w, n)
	}
	if now-w.start >= turnTime && w.batch[n].Inbox != w.batch[n-1].Inbox {
		p.endTurn(w)
	}
	w.began.Store(int64(now))
	return next
}

// returnedAt notes how long a call of Process took.
func (w *worker) returnedAt(now time.Duration) {
	if took := int64(now) - w.began.Load(); took > w.longest.Load() {
		w.longest.Store(took)
	}
}

// endTurn lets other workers have the inboxes that a worker has not begun with.
func (p *Pool) endTurn(w *worker) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.takeBack(w, nil)
}

// releaseEarly makes room for the first n messages before the others are processed: Process may be slow.
func (p *Pool) releaseEarly(w *worker, n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.releaseProcessed(w, n)
}

// releaseProcessed is called with mu held: the first n messages of the worker are processed. The turns of inboxes of which the worker
// has no more end. After a slow call there are none of other inboxes: the longest call was of the last one.
func (p *Pool) releaseProcessed(w *worker, n int) {
	n = min(n, w.kept)
	for i := w.released; i < n; i++ {
		one := &w.batch[i]
		in := one.Inbox
		p.processed++
		p.bytes += uint64(one.Size)
		p.release(one)
		took := time.Duration(0)
		if i+1 == n {
			took = time.Duration(w.longest.Swap(0))
		}
		in.processed(took)
		last := i+1 == w.kept || w.batch[i+1].Inbox != in
		if last || i+1 == n {
			p.released(in)
		}
		if last {
			in.worker = nil
			p.requeue(in, (*ring[Inbox]).push)
		}
	}
	w.released = max(w.released, n)
}

// finish is called with mu held: it ends the turn of a worker, after n messages were processed.
func (p *Pool) finish(w *worker, n int) {
	if n > 0 && w.batch[n-1].Inbox.more.last != nil { // or offers need no patience
		w.returnedAt(time.Since(p.born))
	}
	p.releaseProcessed(w, n)
	clear(w.batch[:w.n])
	w.n, w.kept, w.released = 0, 0, 0
	if w.blocked {
		w.blocked = false
		p.running++
	}
	if w.returned != nil {
		close(w.returned)
		w.returned = nil
	}
}

// check is called with mu held, while all workers are busy, or one has messages of several inboxes: it makes checkWorkers run soon.
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
// blocked, and what it has not begun with is for others. If all workers are blocked, and those that take their places are at the
// next check as well, each of the inboxes gets one: if they got one after another they would wait for all groups that block.
func (p *Pool) checkWorkers() {
	p.mu.Lock()
	defer p.mu.Unlock()
	defer p.cfg.Wait.Done()
	p.checking = false
	if p.closed {
		return
	}
	p.clock = time.Since(p.born)
	ahead := false
	for _, w := range p.workers {
		switch {
		case w.n == 0 || w.blocked:
		case w.isStuck(p.clock):
			w.blocked = true
			p.running--
			p.releaseProcessed(w, w.calls()-1)
			p.takeBack(w, nil)
		case w.isAhead() && p.clock-w.start >= blockedAfter: // its calls are not quick any more
			p.takeBack(w, nil)
		case w.isAhead():
			ahead = true
		}
	}
	limit := p.cfg.Workers
	if p.running == 0 {
		if p.clock-p.stood < 3*blockedAfter { // twice in a row: it is not that the machine was busy with something else
			limit = p.cfg.MaxWorkers
		}
		p.stood = p.clock
	}
	p.useWorkers(limit)
	if ahead {
		p.check()
	}
}
