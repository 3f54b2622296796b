package wire

import (
	"math/bits"
	"slices"

	"github.com/seed-4d73690b/rafthttp/internal/faultpoint"
)

// maxSlots is the number of slots of a connection.
const maxSlots = 4096

// flow is what a slot stands for: the messages of a group from one replica to another.
type flow struct {
	group, from, to uint64
}

// hash distributes flows over a table of 1<<n places.
func (f flow) hash(shift uint) uint64 {
	h := f.group*0x9e3779b97f4a7c15 ^ f.from*0xc2b2ae3d27d4eb4f ^ f.to*0x165667b19e3779f9
	return (h ^ h>>32) * 0x9e3779b97f4a7c15 >> shift
}

// slot is a flow, and the end of its last MsgApp.
type slot struct {
	flow flow
	pos  position
	used bool   // the encoder: since the hand came by; the decoder: it is defined
	lost bool   // the decoder: a message was skipped that may have changed pos
	next uint16 // the encoder: the next slot with the same hash, plus 1
}

const minHashed = 64 // places of the smallest hash table

// encoderSlots has the slots of the sending side, in a hash table. When all are taken, the hand of
// a clock goes round and takes the first that was not used since it last came by.
type encoderSlots struct {
	list  []slot
	heads []uint16 // the first slot with a hash, plus 1; not shorter than list
	shift uint     // of a hash, for the length of heads
	hand  int
	last  int // found last
}

// find returns the number of the slot of f, if it has one.
func (s *encoderSlots) find(f flow) (int, bool) {
	if s.last < len(s.list) && s.list[s.last].flow == f {
		s.list[s.last].used = true
		return s.last, true
	}
	return s.search(f)
}

func (s *encoderSlots) search(f flow) (int, bool) {
	if len(s.heads) == 0 {
		return 0, false
	}
	for next := s.heads[f.hash(s.shift)]; next > 0; {
		number := int(next) - 1
		sl := &s.list[number]
		if sl.flow == f {
			sl.used = true
			s.last = number
			return number, true
		}
		next = sl.next
	}
	return 0, false
}

// take gives a slot to f, which has none. The position is (0, 0).
func (s *encoderSlots) take(f flow) int {
	number := len(s.list)
	if number < maxSlots && (number == 0 || !faultpoint.Fails(faultpoint.GroupSlot)) {
		s.list = append(s.list, slot{flow: f})
		if number == len(s.heads) {
			s.grow()
		} else {
			s.link(number)
		}
	} else {
		number = s.evict()
		s.list[number] = slot{flow: f}
		s.link(number)
	}
	s.last = number
	return number
}

// evict frees a slot. A flow that sent one message only goes before those
// that sent more.
func (s *encoderSlots) evict() int {
	for s.list[s.hand].used {
		s.list[s.hand].used = false
		s.hand = (s.hand + 1) % len(s.list)
	}
	number := s.hand
	s.hand = (s.hand + 1) % len(s.list)
	at := &s.heads[s.list[number].flow.hash(s.shift)]
	for int(*at) != number+1 {
		at = &s.list[*at-1].next
	}
	*at = s.list[number].next
	return number
}

func (s *encoderSlots) link(number int) {
	head := &s.heads[s.list[number].flow.hash(s.shift)]
	s.list[number].next, *head = *head, uint16(number+1)
}

// grow makes the table four times as large.
func (s *encoderSlots) grow() {
	n := max(minHashed, 4*len(s.heads))
	s.heads, s.shift = make([]uint16, n), 64-uint(bits.TrailingZeros(uint(n)))
	for number := range s.list {
		s.link(number)
	}
}

// decoderSlots has the slots of the receiving side, up to the largest that was defined.
type decoderSlots []slot

// define defines a slot, or redefines it.
func (s *decoderSlots) define(number uint64, f flow) error {
	if number >= maxSlots {
		return errSlot
	}
	if n := int(number) + 1; n > len(*s) {
		*s = slices.Grow(*s, n-len(*s))[:n]
	}
	(*s)[number] = slot{flow: f, used: true}
	return nil
}

// find returns a slot, or nil if it is not defined.
func (s decoderSlots) find(number uint64) *slot {
	if number >= uint64(len(s)) || !s[number].used {
		return nil
	}
	return &s[number]
}
