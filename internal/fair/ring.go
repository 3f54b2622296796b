package fair

import (
	"math/bits"

	"go.etcd.io/raft/v3/raftpb"
)

// entry is a Flow or an Inbox that waits for its turn, and its first message. The others are in its list: most have one
// message only, which is found without reading the flow.
type entry[S any] struct {
	of        *S // nil: it was removed
	msg       *raftpb.Message
	size      int64
	at        stamp
	coalesced bool
	deferred  bool // the flow has a deficit from earlier turns
}

// ring has flows or inboxes in the order of their turns, each once. It is an array, so that a processor reads the next ones
// while it waits for the memory of the first. The first entry is not a removed one.
type ring[S any] struct {
	buf   []entry[S] // the length is a power of two, or 0
	first int        // in buf
	len   int        // entries, with those that were removed
	n     int        // entries that were not
	most  int        // of len, since the last trim
}

const minRing = 16

// at returns the entry i places after the first.
func (r *ring[S]) at(i int) *entry[S] { return &r.buf[(r.first+i)&(len(r.buf)-1)] }

// head returns the first entry of a ring that is not empty.
func (r *ring[S]) head() *entry[S] { return &r.buf[r.first] }

// push adds an entry after the others.
func (r *ring[S]) push(e entry[S]) {
	r.makeRoom()
	*r.at(r.len) = e
	r.added()
}

// pushFront adds an entry before the others.
func (r *ring[S]) pushFront(e entry[S]) {
	r.makeRoom()
	r.first = (r.first - 1) & (len(r.buf) - 1)
	*r.head() = e
	r.added()
}

func (r *ring[S]) added() {
	r.len++
	r.n++
	r.most = max(r.most, r.len)
}

func (r *ring[S]) makeRoom() {
	if r.len == len(r.buf) {
		r.resize(max(minRing, 2*r.n))
	}
}

// pop removes the first entry, and returns it.
func (r *ring[S]) pop() entry[S] {
	e := *r.head()
	*r.head() = entry[S]{}
	r.n--
	r.skip()
	return e
}

// skip removes the first entry, which is empty, and removed ones after it.
func (r *ring[S]) skip() {
	for r.first, r.len = (r.first+1)&(len(r.buf)-1), r.len-1; r.len > 0 && r.head().of == nil; r.len-- {
		r.first = (r.first + 1) & (len(r.buf) - 1)
	}
}

// remove removes the entry of a flow or inbox that is in the ring, and returns it, and whether it was the first. That it has to be
// found takes a few microseconds for thousands, and happens only when a replica is removed.
func (r *ring[S]) remove(of *S) (_ entry[S], first bool) {
	if r.head().of == of {
		return r.pop(), true
	}
	i := 1
	for r.at(i).of != of {
		i++
	}
	e := *r.at(i)
	*r.at(i) = entry[S]{}
	r.n--
	return e, false
}

// resize gives the ring room for n entries, and drops those that were removed.
func (r *ring[S]) resize(n int) {
	buf, k := make([]entry[S], 1<<bits.Len(uint(n-1))), 0
	for i := range r.len {
		if e := r.at(i); e.of != nil {
			buf[k] = *e
			k++
		}
	}
	r.buf, r.first, r.len = buf, 0, k
}

// trim frees memory that was not needed since the last call.
func (r *ring[S]) trim() {
	switch {
	case r.most == 0:
		r.buf, r.first = nil, 0
	case len(r.buf) > max(minRing, 2*r.most):
		r.resize(max(minRing, r.most))
	}
	r.most = r.len
}
