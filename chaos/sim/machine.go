package sim

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
)

// machine is the replicated state: lists of numbers, to be appended to.
type machine struct {
	Lists   map[string]string // each number followed by a comma
	Last    map[int]int       // by client: the last number of its commands, so that one that comes twice counts once
	Removed map[uint64]bool   // members that left for good
}

// command is one entry of the log.
type command struct {
	Client int    // 0: the simulation itself
	Seq    int    // of the client, growing
	List   string // empty: forget all lists
}

func (c command) id() string { return fmt.Sprintf("%d.%d", c.Client, c.Seq) }

func (m *machine) apply(c command) {
	if m.Last == nil {
		m.Last = make(map[int]int)
	}
	if c.Seq <= m.Last[c.Client] {
		return
	}
	m.Last[c.Client] = c.Seq
	if c.List == "" {
		m.Lists = nil
		return
	}
	if m.Lists == nil {
		m.Lists = make(map[string]string)
	}
	m.Lists[c.List] += c.id() + ","
}

func (m *machine) remove(id uint64) {
	if m.Removed == nil {
		m.Removed = make(map[uint64]bool)
	}
	m.Removed[id] = true
}

// marshal returns the state as text; equal states have equal ones.
func (m *machine) marshal() []byte {
	b, err := json.Marshal(m)
	must(err)
	return b
}

const (
	maxDatabase = 4 << 20 // bytes, of one database in three
	smallFiller = 8 << 10 // at most, of the others
)

// databaseOf returns the database of a state at an index: the state, and a filler that the index decides, of up to
// maxDatabase bytes, so that it can be seen whether what arrives is what was sent.
func databaseOf(m *machine, index uint64) []byte {
	text := m.marshal()
	database := binary.BigEndian.AppendUint64(nil, uint64(len(text)))
	database = append(database, text...)
	return append(database, filler(index)...)
}

// stateIn returns the state in a database, or what is wrong with that.
func stateIn(database []byte, index uint64) (m machine, err error) {
	if len(database) < 8 || binary.BigEndian.Uint64(database) > uint64(len(database)-8) {
		return m, fmt.Errorf("the database of snapshot %d is cut short: %d bytes", index, len(database))
	}
	n := binary.BigEndian.Uint64(database)
	text, rest := database[8:8+n], database[8+n:]
	if err := json.Unmarshal(text, &m); err != nil {
		return m, fmt.Errorf("the database of snapshot %d: %w", index, err)
	}
	if want := filler(index); !bytes.Equal(rest, want) {
		return m, fmt.Errorf("the database of snapshot %d is not what was sent: %d bytes of filler, sent were %d", index, len(rest), len(want))
	}
	return m, nil
}

func filler(index uint64) []byte {
	var seed [32]byte
	binary.BigEndian.PutUint64(seed[:], index)
	source := rand.NewChaCha8(seed)
	r := rand.New(source)
	size := r.IntN(smallFiller)
	if r.IntN(3) == 0 {
		size = int(smallFiller * math.Pow(maxDatabase/smallFiller, r.Float64()))
	}
	b := make([]byte, size)
	_, _ = source.Read(b)
	return b
}

func (m *machine) hash() uint64 {
	h := fnv.New64a()
	_, _ = h.Write(m.marshal())
	return h.Sum64()
}
