package queue

import "time"

// Wake makes a worker look, even if the queue is empty: its Take returns no items.
func (q *Queue) Wake() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.closed {
		q.clock = time.Since(q.born)
		q.woken = true
		q.useWorker()
	}
}

// useWorker is called with mu held: it wakes or adds a worker if one is useful.
func (q *Queue) useWorker() {
	switch {
	case q.queued == 0 && !q.woken:
	case q.waiting > 0:
		q.waiting--
		q.more <- struct{}{}
	case q.workers < q.cfg.Workers:
		q.workers++
		q.cfg.Wait.Go(q.cfg.Work)
	}
}

// AcquireWorker makes the caller a worker of the queue until ReleaseWorker, so that the heartbeats
// of many idle queues need no goroutine for each. It returns false if the queue is
// shut or in use.
func (q *Queue) AcquireWorker() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.accepting || q.workers > 0 || q.queued > 0 {
		return false
	}
	q.clock = time.Since(q.born)
	q.workers++
	return true
}

// ReleaseWorker ends the caller's role as a worker.
func (q *Queue) ReleaseWorker() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.workers--
	q.useWorker()
}

// wakeIdle is called with mu held: it makes waiting workers look again,
// find the queue empty, and end.
func (q *Queue) wakeIdle() {
	q.clock = time.Since(q.born)
	for ; q.waiting > 0; q.waiting-- {
		q.more <- struct{}{}
	}
}

// Take returns up to n queued items, of one kind if ByKind is set, and blocks until there are some
// or Wake was called. Its buf is nil at first, and after that the previous result of Take,
// cleared: Take reuses it. If it returns ok == false the calling worker
// is no longer counted: another may run already, so it must return without
// touching state that it shares with that one.
func (q *Queue) Take(buf []Item, n int) (_ []Item, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if buf == nil {
		buf, q.spare = q.spare, nil
	}
	if buf = buf[:0]; buf == nil {
		buf = []Item{}
	}
	current := false // the goroutine that wakes the only worker has just read the clock
	for q.queued == 0 && !q.woken {
		if !q.used || q.closed {
			q.workers--
			q.spare = buf
			q.signalEnd()
			return nil, false
		}
		q.waiting++
		q.mu.Unlock()
		<-q.more
		q.mu.Lock()
		current = q.cfg.Workers == 1
	}
	q.woken = false
	if !current {
		q.clock = time.Since(q.born)
	}
	if q.queued == 0 { // woken
		return buf, true
	}
	if q.overtaken.Load() != nil {
		q.overtaken.Store(nil) // items taken now were accepted after the snapshot, or are still useful
	}
	if q.cfg.Workers == 1 {
		q.taken = q.emptied.Load()
	}
	f, bytes := q.next()
	f.noteAge(f.oldest().at, q.clock)
	q.hands = append(q.hands, f.hand(f.oldest()))
	buf = f.pop(buf, n, bytes)
	if q.queued -= len(buf); q.queued > 0 {
		q.useWorker()
	}
	return buf, true
}

// TrimIfIdle ends idle workers and frees buffers if the queue was not used since the last call, and
// then calls f, unless it is nil. No worker runs during f, and f must not block.
func (q *Queue) TrimIfIdle(f func()) {
	q.mu.Lock()
	defer q.mu.Unlock()
	idle := !q.used && q.workers == q.waiting && q.queued == 0
	q.used = false
	if idle {
		q.wakeIdle()
		for i := range q.fifos {
			q.fifos[i].items = nil
		}
		q.spare = nil
		if f != nil {
			f()
		}
	}
}
