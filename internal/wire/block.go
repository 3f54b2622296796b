package wire

import (
	"slices"
	"unsafe"

	"go.etcd.io/raft/v3/raftpb"
)

// A raftpb struct has a pointer for each scalar. The blocks hold a struct
// together with the values of its pointers, so that it costs one allocation.

// Fields of few messages are left out: Reject, RejectHint and Vote are allocated
// separately.

type messageBlock struct {
	msg                                    raftpb.Message
	to, from, term, logTerm, index, commit uint64
	typ                                    raftpb.MessageType
}

// oneEntryBlock is a messageBlock with room for one entry: most messages with entries
// have one.
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

// Budget charges, in bytes.
const (
	messageMemory  = uint64(unsafe.Sizeof(messageBlock{})) + 3*8 // the fields that are left out
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

// scalars takes the fields from the start of b that are in the usual order and form,
// and returns the rest. Pointers are stored side by side, so that they share
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

// setVarint: a snapshot has no varint field.
func (s *snapshotBlock) setVarint(uint64, uint64) bool { return false }

// Sizes of the allocations of an arena.
const (
	ownData = 4 << 10 // data of this many bytes has a separate allocation

	burstMessages = 8       // messages of a burst that share an allocation
	burstData     = 128     // data of up to this many bytes shares one with that of other messages
	burstSlab     = 1 << 10 // of this size
)

// arena allocates the parts of one message in a few allocations: blocks for
// its entries, and pieces of memory shared by small data. Messages of a burst share
// theirs with a few others: it is likely that raft keeps messages that arrived together for
// the same time. Each part keeps the complete piece alive, so the size of
// pieces is limited.
type arena struct {
	blocks []entryBlock // not used yet
	slab   []byte       // not used yet
	owned  bool         // the bytes being decoded already belong to the message

	// Shared by messages that arrived together.
	burst    bool            // more messages have arrived already
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

// bytes returns n bytes, with a capacity that makes an append to them copy.
func (a *arena) bytes(n int) []byte {
	switch {
	case n == 0:
		return []byte{}
	case n >= ownData:
		return make([]byte, n)
	case n > len(a.slab):
		// At most 64 times the current need: one small data among large
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

// newMessage returns the block for a message with n expected entries,
// and prepares the arena for them.
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

// next returns an unused element, or a new one, in a burst with others.
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

// reset releases unused parts. A check first is cheaper than clearing a
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

// addEntry adds one entry to m.
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
