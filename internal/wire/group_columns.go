package wire

import (
	"math/bits"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/encoding/protowire"
)

const (
	maxPayload = 64 << 10 // bytes of the payload of a frame of columns

	maxVarint      = 10
	maxColumnsHead = 3 + 1         // count, flags
	maxRow         = 5 * maxVarint // bytes that a row adds to columns that vary
	maxSingles     = 3 * maxVarint // values of the columns that do not
	keepColumn     = keepBuffer    // bytes that a column keeps when it shrinks
	setWords       = 1 << (16 - 6) // of a groupSet
)

// Flags of columns: all rows have the value of the first.
const (
	sameFrom = 1 << iota
	sameTo
	sameTerm
	allFlags = 1<<iota - 1
)

// columns are the rows of a frame that is being collected.
type columns struct {
	hasCommit bool
	rows      int
	group     column
	from      column
	to        column
	term      column
	commit    []byte
}

// fits reports whether the payload stays within maxPayload with the row of m. It reserves
// as much for it as the largest row takes.
func (c *columns) fits(m *raftpb.Message) bool {
	return maxColumnsHead+maxSingles+maxRow+len(c.group.b)+len(c.commit)+
		c.from.with(*m.From, c.rows)+c.to.with(*m.To, c.rows)+c.term.with(*m.Term, c.rows) <= maxPayload
}

// add adds a row, which fits.
func (c *columns) add(group uint64, m *raftpb.Message) {
	c.group.b = appendVarint(c.group.b, zigzag(group-c.group.last))
	c.group.last = group
	c.from.add(*m.From, c.rows)
	c.to.add(*m.To, c.rows)
	c.term.add(*m.Term, c.rows)
	if c.hasCommit {
		c.commit = appendVarint(c.commit, *m.Commit)
	}
	c.rows++
}

// appendFrame appends the length of the payload and the payload to dst, and empties c.
func (c *columns) appendFrame(dst []byte) []byte {
	n := protowire.SizeVarint(uint64(c.rows)) + 1 +
		len(c.group.b) + c.from.size() + c.to.size() + c.term.size() + len(c.commit)
	dst = appendVarint(dst, uint64(n))
	dst = appendVarint(dst, uint64(c.rows))
	dst = append(dst, c.from.flag(sameFrom)|c.to.flag(sameTo)|c.term.flag(sameTerm))
	dst = append(dst, c.group.b...)
	dst = c.from.append(dst)
	dst = c.to.append(dst)
	dst = c.term.append(dst)
	dst = append(dst, c.commit...)
	c.rows, c.commit = 0, c.commit[:0]
	c.group.reset()
	c.from.reset()
	c.to.reset()
	c.term.reset()
	return dst
}

func (c *columns) shrink() {
	for _, b := range []*[]byte{&c.group.b, &c.from.b, &c.to.b, &c.term.b, &c.commit} {
		if cap(*b) > keepColumn {
			*b = nil
		}
	}
}

var zeros [maxPayload]byte // the differences of equal rows

// column is one field of the rows. b is empty while all values are the same.
type column struct {
	last uint64
	b    []byte
}

// with returns how many bytes the column takes before a row with v is added, beside what that row
// takes: if v is the first other value, the rows before it need a byte each.
func (c *column) with(v uint64, rows int) int {
	if len(c.b) == 0 && v != c.last {
		return rows
	}
	return len(c.b)
}

// add adds the value of a row, which has this many before it.
func (c *column) add(v uint64, rows int) {
	if len(c.b) > 0 || v != c.last { // else it costs nothing
		c.addOther(v, rows)
	}
}

func (c *column) addOther(v uint64, rows int) {
	if rows > 0 {
		if len(c.b) == 0 { // the rows before have the same value
			c.b = appendVarint(c.b, zigzag(c.last))
			c.b = append(c.b, zeros[:rows-1]...)
		}
		c.b = appendVarint(c.b, zigzag(v-c.last))
	}
	c.last = v
}

func (c *column) size() int {
	if len(c.b) == 0 {
		return protowire.SizeVarint(c.last)
	}
	return len(c.b)
}

func (c *column) flag(same byte) byte {
	if len(c.b) == 0 {
		return same
	}
	return 0
}

func (c *column) append(dst []byte) []byte {
	if len(c.b) == 0 {
		return appendVarint(dst, c.last)
	}
	return append(dst, c.b...)
}

func (c *column) reset() { c.last, c.b = 0, c.b[:0] }

// groupSet is a set of groups. It may report one that was not added, which has the same
// place as one that was. The zero value is empty.
type groupSet struct {
	places *[setWords]uint64
	used   [setWords / 64]uint64 // a bit for each element of places that is not 0
}

// place returns the bit of group. Neighbors in the numbering of groups have different ones.
func (s *groupSet) place(group uint64) (word, bit uint64) {
	h := group * 0x9e3779b97f4a7c15 >> 48
	return h / 64, 1 << (h % 64)
}

func (s *groupSet) add(group uint64) {
	if s.places == nil {
		s.places = new([setWords]uint64)
	}
	word, bit := s.place(group)
	s.places[word] |= bit
	s.used[word/64] |= 1 << (word % 64)
}

func (s *groupSet) has(group uint64) bool {
	word, bit := s.place(group)
	return s.places != nil && s.places[word]&bit != 0
}

// clear takes time in proportion to what was added.
func (s *groupSet) clear() {
	for i, used := range s.used {
		for ; used != 0; used &= used - 1 {
			s.places[i*64+bits.TrailingZeros64(used)] = 0
		}
		s.used[i] = 0
	}
}

func (s *groupSet) shrink() { s.places = nil }
