package fair

import "github.com/seed-4d73690b/rafthttp/internal/queue"

// Flow has the outgoing messages of one kind of one replica of one group, in order. The owner embeds it, by value, and
// does not copy it while it holds messages. With the zero value of the other fields it is ready. All messages
// that it holds at a time are in one SendQueue, whose lock guards it, and of one kind.
type Flow struct {
	Group uint64 // for the owner, as the next; they do not change while the flow holds messages
	Owner any

	next, prev *Flow // in the ring of its kind, while it has waiting messages
	waiting    messages
	held       holding
	waits      holding    // the part of held that no worker has taken
	queued     int32      // messages in waiting
	deficit    int64      // bytes that it may still send at its turn
	kind       queue.Kind // of the messages that it holds
}

// ring has the flows with waiting messages of one kind. The first one has its turn.
type ring struct{ first, last *Flow }

// push adds a flow after the others.
func (r *ring) push(f *Flow) {
	f.prev, f.next = r.last, nil
	if r.last == nil {
		r.first, r.last = f, f
		f.deficit += quantum
		return
	}
	r.last.next = f
	r.last = f
}

// remove removes a flow. If it had its turn the next one has it now.
func (r *ring) remove(f *Flow) {
	first := f.prev == nil
	if first {
		r.first = f.next
	} else {
		f.prev.next = f.next
	}
	if f.next == nil {
		r.last = f.prev
	} else {
		f.next.prev = f.prev
	}
	f.next, f.prev, f.deficit = nil, nil, 0
	if first && r.first != nil {
		r.first.deficit += quantum
	}
}

// rotate ends the turn of the first flow, and returns the next one. The first keeps its deficit.
func (r *ring) rotate() *Flow {
	f := r.first
	if f.next != nil {
		r.first = f.next
		r.first.prev = nil
		f.prev, f.next = r.last, nil
		r.last.next = f
		r.last = f
	}
	r.first.deficit += quantum
	return r.first
}

// maxPasses is how often flows are passed over in one Take since their next message is larger than their deficit. Then
// messages leave whatever the deficit is: the lock of the queue is held meanwhile.
const maxPasses = 4096

// lane has the messages of one kind.
type lane struct {
	account
	ring   ring
	queued int // messages that wait
}

// take appends up to n waiting messages to buf, and none after this many bytes; 0 is no limit.
func (l *lane) take(buf []Item, n int, bytes int64, free *nodes) []Item {
	limited := bytes > 0
	f := l.ring.first
	for passes := 0; n > 0 && f != nil; {
		if f.deficit < f.waiting.first.size {
			if f = l.ring.rotate(); passes < maxPasses {
				passes++
				continue
			}
			f.deficit = max(f.deficit, f.waiting.first.size)
		}
		one := f.waiting.pop()
		buf = append(buf, Item{Flow: f, Msg: one.msg, Size: one.size, units: one.units})
		f.waits.add(-one.units, -one.size)
		f.queued--
		f.deficit -= one.size
		bytes -= one.size
		n--
		l.queued--
		free.put(one)
		if f.waiting.first == nil {
			l.ring.remove(f)
			f = l.ring.first
		}
		if limited && bytes <= 0 {
			break
		}
	}
	return buf
}

// detached has the messages that waited in flows, and are not held any more.
type detached struct {
	lists []detachedList
	n     int // messages
}

type detachedList struct {
	flow  *Flow
	first *node
}

// detach adds the waiting messages of a flow to d, whatever their number in the same time.
func (l *lane) detach(f *Flow, d *detached, free *nodes) {
	if f.waiting.first == nil {
		return
	}
	d.lists = append(d.lists, detachedList{f, f.waiting.first})
	n := int(f.queued)
	d.n += n
	l.queued -= n
	free.used -= n
	l.releaseAll(&f.held, f.waits, n)
	f.waiting, f.waits, f.queued = messages{}, holding{}, 0
	l.ring.remove(f)
}

// items is called without a lock.
func (d *detached) items() []Item {
	if d.n == 0 {
		return nil
	}
	items := make([]Item, 0, d.n)
	for _, l := range d.lists {
		for one := l.first; one != nil; one = one.next {
			items = append(items, Item{Flow: l.flow, Msg: one.msg, Size: one.size, units: one.units})
		}
	}
	return items
}
