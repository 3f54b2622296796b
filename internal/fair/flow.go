package fair

// Flow has the outgoing messages of one kind of one replica of one group, in order. The owner embeds it, by value, and
// does not copy it while it holds messages. With the zero value of the other fields it is ready. All messages
// that it holds at a time are in one SendQueue, whose lock guards it, and of one kind.
type Flow struct {
	Group uint64 // for the owner, as Owner; they do not change while the flow holds messages

	// What each message needs is together.
	held   holding
	more   messages // that wait, after the first, which is in the ring
	queued bool     // it is in the ring
	kind   uint8    // queue.Kind of the messages that it holds
	moreN  int32    // messages in more

	Owner   any
	moreOf  holding // what more holds
	deficit int64   // bytes that it may send beside its quantum, from earlier turns
}

// lane has the messages of one kind.
type lane struct {
	account
	ring    ring[Flow]
	deficit int64 // bytes that the first flow may still send at its turn
	queued  int   // messages that wait
	late    lateness
	ahead   uint64 // what was read ahead
}

// push adds a message of a flow that it has accepted.
func (l *lane) push(f *Flow, e entry[Flow], free *nodes) {
	l.queued++
	if f.queued {
		f.more.push(free.get(e.msg, e.size, e.at, e.coalesced))
		f.moreN++
		f.moreOf.add(units(e.coalesced), e.size)
		return
	}
	f.queued = true
	l.ring.push(e)
	if l.ring.n == 1 {
		l.beginTurn()
	}
}

// beginTurn begins the turn of the first flow, if there is one. It does not wait for the memory of most flows.
func (l *lane) beginTurn() {
	if l.deficit = 0; l.ring.n > 0 {
		l.deficit = quantum
		if e := l.ring.head(); e.deferred {
			l.deficit += e.of.deficit
		}
	}
}

// rotate ends the turn of the first flow, which keeps its deficit.
func (l *lane) rotate() {
	e := l.ring.pop()
	e.of.deficit, e.deferred = l.deficit, true
	l.ring.push(e)
	l.beginTurn()
}

// pop removes the first message of the first flow.
func (l *lane) pop(free *nodes) {
	e := l.ring.head()
	f := e.of
	l.queued--
	if f.moreN == 0 {
		l.ring.pop()
		f.queued, f.deficit = false, 0
		l.beginTurn()
		return
	}
	one := f.more.pop()
	e.msg, e.size, e.at, e.coalesced = one.msg, one.size, one.at, one.coalesced // e.deferred is for the next turn
	f.moreN--
	f.moreOf.add(-units(one.coalesced), -one.size)
	free.put(one)
}

// maxPasses is how often flows are passed over in one Take since their next message is larger than their deficit. Then
// messages leave whatever the deficit is: the lock of the queue is held meanwhile.
const maxPasses = 4096

// take appends up to n waiting messages to buf, and none after this many bytes; 0 is no limit. The oldest of them is of that time.
func (l *lane) take(buf []Item, n int, bytes int64, free *nodes) (_ []Item, oldest stamp) {
	limited := bytes > 0
	oldest = l.ring.head().at
	for passes, ahead := 0, len(buf); n > 0 && l.ring.n > 0; {
		if len(buf) == ahead { // and once only, however many flows are passed over
			l.ahead += l.readAhead(min(n, readAhead))
			ahead += readAhead
		}
		e := l.ring.head()
		if l.deficit < e.size {
			l.rotate()
			if passes < maxPasses {
				passes++
				continue
			}
			e = l.ring.head()
			l.deficit = max(l.deficit, e.size)
		}
		buf = append(buf, Item{Flow: e.of, Msg: e.msg, Size: e.size, coalesced: e.coalesced})
		oldest = oldest.earlier(e.at)
		l.deficit -= e.size
		bytes -= e.size
		n--
		l.pop(free)
		if limited && bytes <= 0 {
			break
		}
	}
	return buf, oldest
}

// readAhead is of how many flows memory is read at a time before it is needed.
const readAhead = 32

// readAhead reads what pop needs of the first n flows: so the processor waits for the memory of several at a time.
func (l *lane) readAhead(n int) (sum uint64) {
	for i := range min(n, l.ring.len) {
		if f := l.ring.at(i).of; f != nil {
			sum += uint64(f.moreN)
		}
	}
	return sum
}

// settle is account.settle.
func (l *lane) settle(closed bool) {
	if l.account.settle(closed); l.messages == 0 {
		l.late = 0
	}
}

// detached has the messages that waited in flows, and are not held any more.
type detached struct {
	lists []detachedList
	n     int // messages
}

type detachedList struct {
	first entry[Flow]
	more  messages
}

// detach adds the waiting messages of a flow to d, whatever their number in the same time.
func (l *lane) detach(f *Flow, d *detached, free *nodes) {
	if !f.queued {
		return
	}
	e, first := l.ring.remove(f)
	if first {
		l.beginTurn()
	}
	d.lists = append(d.lists, detachedList{e, f.more})
	n := 1 + int(f.moreN)
	d.n += n
	l.queued -= n
	free.used -= int(f.moreN)
	all := f.moreOf
	all.add(units(e.coalesced), e.size)
	l.releaseAll(&f.held, all, n)
	f.more, f.moreOf, f.moreN, f.queued, f.deficit = messages{}, holding{}, 0, false, 0
}

// items is called without a lock.
func (d *detached) items() []Item {
	if d.n == 0 {
		return nil
	}
	items := make([]Item, 0, d.n)
	for _, l := range d.lists {
		flow := l.first.of
		items = append(items, Item{Flow: flow, Msg: l.first.msg, Size: l.first.size, coalesced: l.first.coalesced})
		for l.more.last != nil {
			one := l.more.pop()
			items = append(items, Item{Flow: flow, Msg: one.msg, Size: one.size, coalesced: one.coalesced})
		}
	}
	return items
}
