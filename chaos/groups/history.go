package groups

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"go.etcd.io/raft/v3/raftpb"
)

// Ids of replicas contain their group and node, and are never used again: group, number and node in decimal digits.
const (
	perNode  = 10
	perGroup = 100000
)

func replicaID(group, number, node uint64) uint64 { return group*perGroup + number*perNode + node }

func nodeOf(replica uint64) uint64 { return replica % perNode }

func groupOf(replica uint64) uint64 { return replica / perGroup }

// group is what all replicas of a group have agreed on.
type group struct {
	id  uint64
	bad func(judge, format string, args ...any)

	mu       sync.Mutex
	hashes   map[uint64]uint64    // of the sequence up to an index
	applied  uint64               // by any replica
	voters   []uint64             // at applied
	removed  map[uint64]bool      // replicas
	proposed map[uint64]time.Time // proposals that were not applied yet
	done     map[uint64]uint64    // index of each proposal
	slowest  time.Duration        // of the proposals since watch
	watched  time.Time

	// The following belong to the controller.
	number  uint64          // of the last replica
	nodes   map[uint64]bool // that the group should be on
	pending uint64          // replica that was created and is not a member yet; 0: none
	dead    map[uint64]bool // replicas whose logs are lost
	changed time.Time       // when a change of the members was proposed last
}

func newGroup(id uint64, bad func(judge, format string, args ...any)) *group {
	return &group{
		id: id, bad: bad, hashes: map[uint64]uint64{1: id}, applied: 1, removed: map[uint64]bool{}, proposed: map[uint64]time.Time{},
		done: map[uint64]uint64{}, nodes: map[uint64]bool{}, dead: map[uint64]bool{},
	}
}

// next returns a replica id that was not used before.
func (g *group) next(node uint64) uint64 {
	g.number++
	return replicaID(g.id, g.number, node)
}

// payload returns the data of a proposal, which its number decides.
func payload(group, n uint64, size int) []byte {
	b := binary.BigEndian.AppendUint64(nil, group)
	b = binary.BigEndian.AppendUint64(b, n)
	b = binary.BigEndian.AppendUint64(b, uint64(size))
	var seed [32]byte
	binary.BigEndian.PutUint64(seed[:], n)
	filler := make([]byte, size)
	_, _ = rand.NewChaCha8(seed).Read(filler)
	return append(b, filler...)
}

// propose notes a proposal.
func (g *group) propose(n uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.proposed[n] = time.Now()
}

// dropped notes that raft has refused a proposal.
func (g *group) dropped(n uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.proposed, n)
}

// apply compares an entry with that of other replicas, and returns the hash of the sequence up to it.
func (g *group) apply(e *raftpb.Entry, before uint64) uint64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	i := e.GetIndex()
	all := sha256.Sum256(append(binary.BigEndian.AppendUint64(nil, before), e.GetData()...))
	sum := binary.BigEndian.Uint64(all[:])
	if known, ok := g.hashes[i]; ok {
		if known != sum {
			g.bad("log", "group %d: two replicas have applied different entries at %d", g.id, i)
		}
		return sum
	}
	if i != g.applied+1 {
		g.bad("log", "group %d: entry %d is applied after %d", g.id, i, g.applied)
	}
	g.hashes[i], g.applied = sum, i
	if e.GetType() == raftpb.EntryNormal && len(e.GetData()) > 0 {
		g.applyProposal(i, e.GetData())
	}
	return sum
}

func (g *group) applyProposal(index uint64, data []byte) {
	if len(data) < 24 {
		g.bad("log", "group %d: entry %d is cut short", g.id, index)
		return
	}
	n, size := binary.BigEndian.Uint64(data[8:]), binary.BigEndian.Uint64(data[16:])
	if size > maxPayload || !bytes.Equal(data, payload(g.id, n, int(size))) {
		g.bad("log", "group %d: entry %d is not what was proposed", g.id, index)
		return
	}
	if at, ok := g.done[n]; ok {
		g.bad("log", "group %d: proposal %d is applied at %d and at %d", g.id, n, at, index)
	}
	g.done[n] = index
	if at, ok := g.proposed[n]; ok && !at.Before(g.watched) {
		g.slowest = max(g.slowest, time.Since(at))
	}
	delete(g.proposed, n)
}

// change notes a change of the members that a replica has applied.
func (g *group) change(index uint64, c *raftpb.ConfChange, voters []uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if c.GetType() == raftpb.ConfChangeRemoveNode {
		g.removed[c.GetNodeId()] = true
	}
	if index == g.applied {
		g.voters = slices.Clone(voters)
	}
}

// members returns the voters that are known.
func (g *group) members() []uint64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.voters)
}

func (g *group) wasRemoved(id uint64) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.removed[id]
}

// indexOf returns the index of a proposal that was applied, or 0.
func (g *group) indexOf(n uint64) uint64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.done[n]
}

// watch begins to measure proposals, and forgets older ones.
func (g *group) watch() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.watched, g.slowest = time.Now(), 0
	clear(g.proposed)
}

// oldest returns for how long the slowest proposal since watch took, or has taken until now.
func (g *group) oldest() time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	slowest := g.slowest
	for _, at := range g.proposed {
		slowest = max(slowest, time.Since(at))
	}
	return slowest
}

// database is the state of a replica at an index.
type database struct {
	Group, Index, Hash uint64
	Removed            []uint64
}

// maxFiller is the size of the largest database without its head.
const maxFiller = 24 << 10

// databaseOf returns a database: its head, and a filler that depends on it.
func databaseOf(d database) []byte {
	head, err := json.Marshal(d)
	must(err)
	b := binary.BigEndian.AppendUint64(nil, uint64(len(head)))
	b = append(b, head...)
	return append(b, filler(d)...)
}

func filler(d database) []byte {
	var seed [32]byte
	binary.BigEndian.PutUint64(seed[:], d.Group)
	binary.BigEndian.PutUint64(seed[8:], d.Index)
	source := rand.NewChaCha8(seed)
	b := make([]byte, source.Uint64()%maxFiller)
	_, _ = source.Read(b)
	return b
}

// parse returns the state in a database.
func parse(b []byte) (d database, err error) {
	if len(b) < 8 || binary.BigEndian.Uint64(b) > uint64(len(b)-8) {
		return d, fmt.Errorf("it is cut short at %d bytes", len(b))
	}
	n := binary.BigEndian.Uint64(b)
	if err := json.Unmarshal(b[8:8+n], &d); err != nil {
		return d, err
	}
	if !bytes.Equal(b[8+n:], filler(d)) {
		return d, fmt.Errorf("its filler of %d bytes is wrong", len(b)-8-int(n))
	}
	return d, nil
}

// install checks a database that a replica installs.
func (g *group) install(index uint64, b []byte) database {
	d, err := parse(b)
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case err != nil:
		g.bad("log", "group %d: the database of snapshot %d: %v", g.id, index, err)
	case d.Group != g.id || d.Index != index:
		g.bad("log", "group %d: the database of snapshot %d is that of group %d at %d", g.id, index, d.Group, d.Index)
	case g.hashes[index] != d.Hash:
		g.bad("log", "group %d: the database of snapshot %d has other contents", g.id, index)
	}
	return d
}

// sorted returns the keys of a set in order.
func sorted(set map[uint64]bool) []uint64 { return slices.Sorted(maps.Keys(set)) }

// must is for errors that mean that the simulation itself is wrong.
func must(err error) {
	if err != nil {
		panic(err)
	}
}
