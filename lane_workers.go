package rafthttp

import "time"

// kick has a worker look, even if nothing is queued.
func (l *lane) kick() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed {
		l.clock = time.Since(l.born)
		l.kicked = true
		l.start()
	}
}

// start is called with mu held: it wakes or adds a worker if one is of use.
func (l *lane) start() {
	switch {
	case l.queued == 0 && !l.kicked:
	case l.waiting > 0:
		l.waiting--
		l.more <- struct{}{}
	case l.workers < l.cfg.workers:
		l.workers++
		l.cfg.wg.Go(l.cfg.work)
	}
}

// enlist makes the caller the lane's worker until discharge, so that what is due
// on many idle lanes needs no goroutine for each. It reports false if the lane is
// shut or in use.
func (l *lane) enlist() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.open || l.workers > 0 || l.queued > 0 {
		return false
	}
	l.clock = time.Since(l.born)
	l.workers++
	return true
}

func (l *lane) discharge() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.workers--
	l.start()
}

// dismiss is called with mu held: it has the workers that wait look again, to
// find that there is nothing.
func (l *lane) dismiss() {
	l.clock = time.Since(l.born)
	for ; l.waiting > 0; l.waiting-- {
		l.more <- struct{}{}
	}
}

// take returns up to n queued items of one kind, and waits until there are some or a worker
// is to look anyway. Its buf is nil at first, and after that what take returned
// before, cleared: take uses it again. If it returns ok == false the calling worker
// is no longer counted: another may run already, so it must return without
// touching what it shares with that one.
func (l *lane) take(buf []item, n int) (_ []item, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if buf == nil {
		buf, l.spare = l.spare, nil
	}
	if buf = buf[:0]; buf == nil {
		buf = []item{}
	}
	current := false // whoever wakes the only worker has just read the clock
	for l.queued == 0 && !l.kicked {
		if !l.used || l.closed {
			l.workers--
			l.spare = buf
			l.tellEnd()
			return nil, false
		}
		l.waiting++
		l.mu.Unlock()
		<-l.more
		l.mu.Lock()
		current = l.cfg.workers == 1
	}
	l.kicked = false
	if !current {
		l.clock = time.Since(l.born)
	}
	if l.queued == 0 { // kicked
		return buf, true
	}
	if l.overtaken.Load() != nil {
		l.overtaken.Store(nil) // what is taken now was accepted after the snapshot, or is still of use
	}
	if l.cfg.workers == 1 {
		l.taken = l.emptied.Load()
	}
	q, bytes := l.next()
	l.hands = append(l.hands, q.oldest())
	buf = q.pop(buf, n, bytes)
	if l.queued -= len(buf); l.queued > 0 {
		l.start()
	}
	return buf, true
}

// whileIdle calls f, unless it is nil, if the lane did nothing since the last call, and gives back
// the memory of its queue. No worker runs during f, and f must not block.
func (l *lane) whileIdle(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	idle := !l.used && l.workers == l.waiting && l.queued == 0
	l.used = false
	if idle {
		l.dismiss()
		for i := range l.queues {
			l.queues[i].items = nil
		}
		l.spare = nil
		if f != nil {
			f()
		}
	}
}
