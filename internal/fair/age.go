package fair

import (
	"time"

	"github.com/seed-4d73690b/rafthttp/internal/queue"
)

// stamp is when a message was accepted, by the clock of its queue, in milliseconds: it needs no memory of its own beside what
// there is for each message. It wraps around after 49 days, so that only differences are of use.
type stamp uint32

func stampOf(clock time.Duration) stamp { return stamp(clock / time.Millisecond) }

// age returns how long ago a message was accepted.
func (s stamp) age(now stamp) time.Duration { return time.Duration(now-s) * time.Millisecond }

// earlier returns the earlier one of two.
func (s stamp) earlier(o stamp) stamp {
	if int32(o-s) < 0 {
		return o
	}
	return s
}

// oldest returns the age of the oldest message in the ring; 0: there is none. The others of its flow or inbox are younger.
func (r *ring[S]) oldest(now stamp) (oldest time.Duration) {
	for i := range r.len {
		if e := r.at(i); e.of != nil {
			oldest = max(oldest, e.at.age(now))
		}
	}
	return oldest
}

// lateness is when the first message was accepted of those that were the oldest one after another, and old, whenever somebody looked;
// 0: the last one was not old.
type lateness time.Duration

// note takes in the age of the oldest message at this time.
func (l *lateness) note(oldest, clock time.Duration) {
	switch {
	case oldest < queue.Old:
		*l = 0
	case *l == 0:
		*l = max(lateness(clock-oldest), 1)
	}
}

// since returns the time of it; the zero time if nothing is old.
func (l lateness) since(born time.Time) time.Time {
	if l == 0 {
		return time.Time{}
	}
	return born.Add(time.Duration(l))
}

// hand is what a worker has taken from a SendQueue at a time.
type hand struct {
	last *Item // by which its last release is known
	of   *lane
	at   stamp // of the oldest
}

// noteAges is called with mu held: it reads the clock, and finds out how old the messages are. It returns the age of the oldest, and
// since when it has been old.
func (q *SendQueue) noteAges() (oldest time.Duration, since time.Time) {
	clock := time.Since(q.born)
	q.now = stampOf(clock)
	for k := range q.lanes {
		l := &q.lanes[k]
		age := l.ring.oldest(q.now)
		for _, h := range q.hands {
			if h.of == l {
				age = max(age, h.at.age(q.now))
			}
		}
		if l.late.note(age, clock); age > oldest {
			oldest, since = age, l.late.since(q.born)
		}
	}
	return oldest, since
}

// noteAges is called with mu held: it reads the clock, and finds out how long messages of each Share have waited. Those of an inbox
// whose Process blocks are left out, as PoolStatus says that it does.
func (p *Pool) noteAges() {
	p.clock = time.Since(p.born)
	for _, s := range p.waited {
		s.oldest = 0
	}
	for i := range p.run.len {
		if e := p.run.at(i); e.of != nil {
			p.noteAge(e.of.Share, e.at)
		}
	}
	for _, w := range p.workers {
		if w.n == 0 || w.blockedFor(p.clock) > 0 {
			continue
		}
		for i := max(w.calls()-1, 0); i < w.kept; i++ {
			p.noteAge(w.batch[i].Inbox.Share, w.at[i])
		}
	}
	still := p.waited[:0]
	for _, s := range p.waited {
		if s.late.note(s.oldest, p.clock); s.oldest > 0 {
			still = append(still, s)
		} else {
			s.waited = false
		}
	}
	clear(p.waited[len(still):])
	p.waited = still
}

// noteAge is called with mu held, for each message that may be the oldest of a Share.
func (p *Pool) noteAge(s *Share, at stamp) {
	if !s.waited {
		s.waited = true
		p.waited = append(p.waited, s)
	}
	s.oldest = max(s.oldest, at.age(stampOf(p.clock)))
}
