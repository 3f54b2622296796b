package wire

import (
	"slices"
	"unsafe"

	"go.etcd.io/raft/v3/raftpb"
)

// A raftpb struct has a pointer for each scalar. The blocks hold a struct
// together with what its pointers point to, so that it costs one allocation.

// What few messages have is left out: Reject, RejectHint and Vote are allocated
// where they come.

type messageBlock struct {
	msg                                    raftpb.Message
	to, from, term, logTerm, index, commit uint64
	typ                                    raftpb.MessageType
}

// oneEntryBlock is a messageBlock with room for the one entry that most
// messages with entries have.
type oneEntryBlock struct {
	messageBlock
	slot  [1]*raftpb.Entry
	entry [1]entryBlock
}

type entryBlock struct {
	entry       raftpb.Entry
	term, index uint64
	typ         raftpb.EntryType
}

type snapshotBlock struct {
	snapshot    raftpb.Snapshot
	metadata    raftpb.SnapshotMetadata
	confState   raftpb.ConfState
	index, term uint64
	autoLeave   bool
}

// What a budget is charged for each, in bytes.
const (
	messageMemory  = uint64(unsafe.Sizeof(messageBlock{})) + 3*8 // what is left out
	snapshotMemory = uint64(unsafe.Sizeof(snapshotBlock{}))
	slotMemory     = uint64(unsafe.Sizeof((*raftpb.Entry)(nil)))
	entryMemory    = uint64(unsafe.Sizeof(entryBlock{})) + slotMemory
)

func (m *messageBlock) setVarint(num, v uint64) bool {
	switch num {
	case 1:
		m.typ = raftpb.MessageType(v)
		m.msg.Type = &m.typ
	case 2:
		m.to = v
		m.msg.To = &m.to
	case 3:
		m.from = v
		m.msg.From = &m.from
	case 4:
		m.term = v
		m.msg.Term = &m.term
	case 5:
		m.logTerm = v
		m.msg.LogTerm = &m.logTerm
	case 6:
		m.index = v
		m.msg.Index = &m.index
	case 8:
		m.commit = v
		m.msg.Commit = &m.commit
	case 10:
		m.msg.Reject = new(v != 0)
	case 11:
		m.msg.RejectHint = new(v)
	case 13:
		m.msg.Vote = new(v)
	default:
		return false
	}
	return true
}

// scalars takes the fields from the start of b that are as every encoder writes
// them, and returns the rest. Pointers are stored side by side, so that they share
// the garbage collector's barrier.
func (e *entryBlock) scalars(b []byte) []byte {
	if v, n := usualVarint(b, 1<<3|varint); n > 0 {
		e.typ = raftpb.EntryType(v)
		e.entry.Type = &e.typ
		b = b[n:]
	}
	term, n := usualVarint(b, 2<<3|varint)
	if n == 0 {
		return b
	}
	index, k := usualVarint(b[n:], 3<<3|varint)
	if k == 0 {
		return b
	}
	e.term, e.index = term, index
	e.entry.Term, e.entry.Index = &e.term, &e.index
	return b[n+k:]
}

func (e *entryBlock) setVarint(num, v uint64) bool {
	switch num {
	case 1:
		e.typ = raftpb.EntryType(v)
		e.entry.Type = &e.typ
	case 2:
		e.term = v
		e.entry.Term = &e.term
	case 3:
		e.index = v
		e.entry.Index = &e.index
	default:
		return false
	}
	return true
}

// setVarint: a snapshot has no field that is one.
func (s *snapshotBlock) setVarint(uint64, uint64) bool { return false }

// Sizes of what an arena allocates.
const (
	ownData = 4 << 10 // data of this many bytes has an allocation of its own

	burstMessages = 8       // messages of a burst that share an allocation
	burstData     = 128     // data of up to this many bytes share one with that of other messages
	burstSlab     = 1 << 10 // of this size
)

// arena hands out the parts of one message from a few allocations: blocks for
// its entries, and pieces of memory that small data share. Messages of a burst share
// theirs with a few others: it is likely that raft keeps what came together for
// the same time. What an arena hands out keeps a whole piece alive, therefore the
// pieces are bounded.
type arena struct {
	blocks []entryBlock // not used yet
	slab   []byte       // not used yet
	owned  bool         // what is decoded now is the message's own memory already

	// What messages that came together share.
	burst    bool            // more messages have come already
	messages []messageBlock  // not used yet
	ones     []oneEntryBlock // not used yet
	small    []byte          // not used yet

	// Hints: entries expected, with the next one, and bytes expected after it.
	moreEntries int
	moreData    uint64
}

func (a *arena) nextEntry() *entryBlock {
	if len(a.blocks) == 0 {
		a.blocks = make([]entryBlock, min(max(a.moreEntries, 1), chunkEntries))
	}
	e := &a.blocks[0]
	a.blocks = a.blocks[1:]
	a.moreEntries--
	return e
}

// bytes returns n bytes, capped so that an append to them moves them away.
func (a *arena) bytes(n int) []byte {
	switch {
	case n == 0:
		return []byte{}
	case n >= ownData:
		return make([]byte, n)
	case n > len(a.slab):
		// No more than 64 times what is needed now: one small data among large
		// ones must not take, and keep, a large piece.
		more := min(a.moreData, uint64(63*n), slabBytes)
		if more == 0 {
			return a.lone(n)
		}
		a.slab = make([]byte, min(n+int(more), slabBytes))
	}
	p := a.slab[:n:n]
	a.slab = a.slab[n:]
	return p
}

// lone returns n bytes for the only data of a message.
func (a *arena) lone(n int) []byte {
	if n > burstData || n > len(a.small) && !a.burst {
		return make([]byte, n)
	}
	if n > len(a.small) {
		a.small = make([]byte, burstSlab)
	}
	p := a.small[:n:n]
	a.small = a.small[n:]
	return p
}

// newMessage returns the block for a message for which n entries are expected,
// and readies the arena for them.
func (a *arena) newMessage(n int) *messageBlock {
	a.reset()
	a.moreEntries, a.moreData = n, 0
	if n != 1 {
		return next(&a.messages, a.burst)
	}
	b := next(&a.ones, a.burst)
	b.msg.Entries = b.slot[:0]
	return &b.messageBlock
}

// next returns one of what is not used yet, or a new one, in a burst with others.
func next[T any](unused *[]T, burst bool) *T {
	if len(*unused) == 0 {
		if !burst {
			return new(T)
		}
		*unused = make([]T, burstMessages)
	}
	b := &(*unused)[0]
	*unused = (*unused)[1:]
	return b
}

// calm ends a burst.
func (a *arena) calm() { a.burst, a.messages, a.ones, a.small = false, nil, nil, nil }

// reset lets go of what was not used. To look first is cheaper than to clear a
// pointer while the garbage collector runs.
func (a *arena) reset() {
	if a.blocks != nil {
		a.blocks = nil
	}
	if a.slab != nil {
		a.slab = nil
	}
	a.owned = false
}

// addEntry gives m one more entry.
func (a *arena) addEntry(m *messageBlock) *entryBlock {
	if len(m.msg.Entries) == 0 && cap(m.msg.Entries) == 1 { // only in a oneEntryBlock
		one := (*oneEntryBlock)(unsafe.Pointer(m))
		one.slot[0] = &one.entry[0].entry
		one.msg.Entries = one.slot[:]
		a.moreEntries--
		return &one.entry[0]
	}
	if len(m.msg.Entries) == cap(m.msg.Entries) {
		m.msg.Entries = slices.Grow(m.msg.Entries, max(a.moreEntries, 1))
	}
	e := a.nextEntry()
	m.msg.Entries = append(m.msg.Entries, &e.entry)
	return e
}
