package fair

import "time"

// Wake makes a worker look, even if the queue is empty: its Take returns no items.
func (q *SendQueue) Wake() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.closed {
		q.woken = true
		q.useWorker()
	}
}

// useWorker is called with mu held: it wakes or adds a worker if one is useful.
func (q *SendQueue) useWorker() {
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

// AcquireWorker makes the caller a worker of the queue until ReleaseWorker, so that the link heartbeats of
// many idle connections need no goroutine for each. It returns false if the queue is shut or in use.
func (q *SendQueue) AcquireWorker() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.accepting || q.workers > 0 || q.queued > 0 {
		return false
	}
	q.workers++
	return true
}

// ReleaseWorker ends the caller's role as a worker.
func (q *SendQueue) ReleaseWorker() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.workers--
	q.useWorker()
	q.signalEnd()
}

// wakeIdle is called with mu held: it makes waiting workers look again, find the queue empty, and end.
func (q *SendQueue) wakeIdle() {
	for ; q.waiting > 0; q.waiting-- {
		q.more <- struct{}{}
	}
}

// signalEnd is called with mu held.
func (q *SendQueue) signalEnd() {
	if q.closed && q.workers == 0 && q.ended != nil {
		close(q.ended)
		q.ended = nil
	}
}

// Take returns up to n queued items, of one kind, and, unless these are control messages, none after this many
// bytes of memory; 0 is no limit. It blocks until there are some or Wake was called. Its buf is nil at first, and after
// that the previous result of Take, cleared: Take reuses it. If it returns ok == false the calling worker is no
// longer counted: another may run already, so it must return without touching state that it shares with that one.
func (q *SendQueue) Take(buf []Item, n int, bytes int64) (_ []Item, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if buf == nil {
		buf, q.spare = q.spare, nil
	}
	if buf = buf[:0]; buf == nil {
		buf = []Item{}
	}
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
	}
	q.woken = false
	if q.queued == 0 { // woken
		return buf, true
	}
	if q.cfg.Workers == 1 {
		q.taken = q.emptied.Load()
	}
	limited, l := q.next()
	if !limited {
		bytes = 0
	}
	buf, oldest := l.take(buf, n, bytes, &q.free)
	q.hands = append(q.hands, hand{last: &buf[len(buf)-1], of: l, at: oldest})
	if q.queued -= len(buf); q.queued > 0 {
		q.now = stampOf(time.Since(q.born))
		q.useWorker()
	}
	return buf, true
}

// TrimIfIdle notes ages, ends idle workers and frees buffers if the queue was not used since the last call, and
// then calls f, unless it is nil. No worker runs during f, and f must not block. It frees memory for
// messages that was not needed since the last call in any case.
func (q *SendQueue) TrimIfIdle(f func()) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.noteAges()
	q.free.trim()
	for k := range q.lanes {
		q.lanes[k].ring.trim()
	}
	idle := !q.used && q.workers == q.waiting && q.queued == 0
	q.used = false
	if idle {
		q.wakeIdle()
		q.spare = nil
		if f != nil {
			f()
		}
	}
}
