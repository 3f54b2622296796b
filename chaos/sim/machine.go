package sim

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
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

// marshal returns the state as a database; equal states have equal ones.
func (m *machine) marshal() []byte {
	b, err := json.Marshal(m)
	must(err)
	return b
}

func (m *machine) unmarshal(database []byte) {
	*m = machine{}
	must(json.Unmarshal(database, m))
}

func (m *machine) hash() uint64 {
	h := fnv.New64a()
	_, _ = h.Write(m.marshal())
	return h.Sum64()
}
