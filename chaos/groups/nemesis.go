package groups

import (
	"slices"
	"time"

	"github.com/seed-4d73690b/rafthttp/internal/queue"
	"github.com/seed-4d73690b/rafthttp/memnet"
	"github.com/seed-4d73690b/rafthttp/memnet/rafttest"
)

const (
	calm      = 5 * time.Second  // at most, between faults
	faultTime = 15 * time.Second // at most, that a fault lasts
	awayTime  = 20 * time.Second // at most, that a node is away whose logs are lost
)

// undo ends a fault at its time.
type undo struct {
	due  time.Time
	name string
	do   func()
}

// fault begins a fault, and returns a function that ends it, or nil if it ends by itself.
type fault struct {
	name  string
	begin func(*simulation) (end func())
}

// faults are those of the network, of nodes, and of groups.
var faults = slices.Concat([]fault{
	{"one-way cut", (*simulation).cutOneWay},
	{"partition", (*simulation).partition},
	{"isolated node", (*simulation).isolatedNode},
	{"crash", func(s *simulation) func() { return s.crash((*rafttest.Member).Crash) }},
	{"loss of power", func(s *simulation) func() { return s.crash((*rafttest.Member).PowerLoss) }},
	{"restart", func(s *simulation) func() { return s.crash((*rafttest.Member).Stop) }},
	{"slow link", (*simulation).slowLink},
	{"loss", (*simulation).loss},
	{"narrow link", (*simulation).narrowLink},
	{"half-open", (*simulation).halfOpen},
	{"reset", (*simulation).reset},
	{"transfer", (*simulation).transfer},
}, []fault{
	{"blocked group", func(s *simulation) func() { return s.block(s.group()) }},
	{"flood", func(s *simulation) func() { return s.startFlood(s.group()) }},
	{"move", func(s *simulation) func() { return s.move(s.group()) }},
	{"move", func(s *simulation) func() { return s.move(s.group()) }},
	{"size", func(s *simulation) func() { return s.resize(s.group()) }},
})

// rage draws faults for a time. It begins with all groups settled, which the loss of a disk needs.
func (s *simulation) rage(d time.Duration) {
	var next time.Time
	end := time.Now().Add(d)
	if s.rand.IntN(2) == 0 {
		s.wipe()
	}
	for time.Now().Before(end) {
		if !time.Now().Before(next) {
			f := faults[s.rand.IntN(len(faults))]
			s.begin(f.name, s.upTo(faultTime), f.begin(s))
			next = time.Now().Add(s.upTo(calm))
		}
		s.step()
		s.undoDue()
	}
}

// begin notes a fault that has begun.
func (s *simulation) begin(name string, lasts time.Duration, end func()) {
	s.c.Network().Note("--- %s begins", name)
	s.report.Faults[name]++
	if end != nil {
		s.undos = append(s.undos, undo{time.Now().Add(lasts), name, end})
	}
}

func (s *simulation) undoDue() {
	var due []undo
	s.undos = slices.DeleteFunc(s.undos, func(u undo) bool {
		if u.due.After(time.Now()) {
			return false
		}
		due = append(due, u)
		return true
	})
	for _, u := range due {
		s.c.Network().Note("--- %s ends", u.name)
		u.do()
	}
}

// mend ends all faults.
func (s *simulation) mend() {
	for _, u := range s.undos {
		u.do()
	}
	s.undos = nil
	s.c.Network().Note("--- all faults end")
	s.c.Heal()
	for id := range uint64(nodes) {
		s.restart(id + 1)
	}
}

func (s *simulation) upTo(d time.Duration) time.Duration {
	return time.Duration(s.rand.Int64N(int64(d)))
}

func (s *simulation) node() uint64 { return uint64(s.rand.IntN(nodes)) + 1 }

// pair returns two nodes.
func (s *simulation) pair() (a, b uint64) {
	p := s.rand.Perm(nodes)
	return uint64(p[0]) + 1, uint64(p[1]) + 1
}

func (s *simulation) link() *memnet.Link { return s.c.Link(s.pair()) }

// eachLinkOf calls do for both directions between a node and each other.
func (s *simulation) eachLinkOf(id uint64, do func(a, b uint64)) {
	for other := range uint64(nodes) {
		if other+1 != id {
			do(id, other+1)
			do(other+1, id)
		}
	}
}

func (s *simulation) cutOneWay() func() {
	l := s.link()
	l.Cut()
	return l.Mend
}

func (s *simulation) partition() func() {
	p := s.rand.Perm(nodes)
	k := 1 + s.rand.IntN(nodes-1)
	each := func(do func(*memnet.Link)) {
		for _, a := range p[:k] {
			for _, b := range p[k:] {
				do(s.c.Link(uint64(a)+1, uint64(b)+1))
				do(s.c.Link(uint64(b)+1, uint64(a)+1))
			}
		}
	}
	each((*memnet.Link).Cut)
	return func() { each((*memnet.Link).Mend) }
}

func (s *simulation) isolatedNode() func() {
	id := s.node()
	s.eachLinkOf(id, func(a, b uint64) { s.c.Link(a, b).Cut() })
	return func() { s.eachLinkOf(id, func(a, b uint64) { s.c.Link(a, b).Mend() }) }
}

// crash ends a node until it is started again on its disks.
func (s *simulation) crash(how func(*rafttest.Member)) func() {
	id := s.node()
	s.end(id, how)
	return func() { s.restart(id) }
}

func (s *simulation) restart(id uint64) {
	if s.nodes[id] == nil {
		s.start(id)
	}
}

// wipe ends a node, whose disks are lost: its replicas are replaced by new ones. All groups must be settled: a group
// must not lose two of its disks.
func (s *simulation) wipe() {
	id := s.node()
	s.end(id, (*rafttest.Member).Crash)
	for g, d := range s.disks[id] {
		s.groups[g].dead[d.id] = true
		s.report.Lost++
	}
	clear(s.disks[id])
	s.begin("lost disks", s.upTo(awayTime), func() { s.restart(id) })
}

func (s *simulation) slowLink() func() {
	l := s.link()
	l.SetDelay(s.upTo(time.Second))
	l.SetJitter(s.upTo(100 * time.Millisecond))
	return func() { l.SetDelay(0); l.SetJitter(0) }
}

func (s *simulation) loss() func() {
	l, p := s.link(), 0.01+0.29*s.rand.Float64()
	l.SetLoss(p)
	return func() { l.SetLoss(0) }
}

func (s *simulation) narrowLink() func() {
	l := s.link()
	l.SetBandwidth(1 << (4 + s.rand.IntN(13)))
	return func() { l.SetBandwidth(s.bandwidth) }
}

// halfOpen ends with a reset: a connection that only loses its acknowledgements would go on until its window is full, long
// after all faults.
func (s *simulation) halfOpen() func() {
	a, b := s.pair()
	s.c.Link(a, b).HalfOpen()
	return func() { s.c.Network().Reset(rafttest.Host(a), rafttest.Host(b)) }
}

func (s *simulation) reset() func() {
	a, b := s.pair()
	s.c.Network().Reset(rafttest.Host(a), rafttest.Host(b))
	return nil
}

// transfer has some groups change their leader.
func (s *simulation) transfer() func() {
	for range 10 {
		g := s.group()
		if r := s.leader(g); r != nil {
			members := g.members()
			r.do(func() { r.raft.TransferLeader(members[s.rand.IntN(len(members))]) })
		}
	}
	return nil
}

// block has a replica of a group block in Process, for one kind of messages.
func (s *simulation) block(g *group) func() {
	k := queue.Kind(s.rand.IntN(int(queue.Kinds)))
	members := g.members()
	if r := s.replicaOf(g.id, nodeOf(members[s.rand.IntN(len(members))])); r != nil {
		return r.gate.shut(k)
	}
	return nil
}

// startFlood has all replicas of a group propose more than the network can carry.
func (s *simulation) startFlood(g *group) func() {
	s.floods[g.id] = true
	return func() { delete(s.floods, g.id) }
}

const (
	floodProposals = 20 // of a replica in a tick
	floodTime      = 3 * time.Second
)

func (s *simulation) flood() {
	for _, id := range sorted(s.floods) {
		for on := range uint64(nodes) {
			if r := s.replicaOf(id, on+1); r != nil {
				for range floodProposals {
					s.propose(r, s.rand.IntN(maxPayload))
				}
			}
		}
	}
}

// move has a replica of a group replaced by one on another node.
func (s *simulation) move(g *group) func() {
	with, without := s.nodesOf(g)
	delete(g.nodes, with[s.rand.IntN(len(with))])
	g.nodes[without[s.rand.IntN(len(without))]] = true
	return nil
}

// resize adds a replica to a group of three, or removes one of a larger group.
func (s *simulation) resize(g *group) func() {
	with, without := s.nodesOf(g)
	if len(with) > replicas {
		delete(g.nodes, with[s.rand.IntN(len(with))])
	} else {
		g.nodes[without[s.rand.IntN(len(without))]] = true
	}
	return nil
}

// nodesOf returns the nodes where a group should live, and the others.
func (s *simulation) nodesOf(g *group) (with, without []uint64) {
	for id := range uint64(nodes) {
		if g.nodes[id+1] {
			with = append(with, id+1)
		} else {
			without = append(without, id+1)
		}
	}
	return with, without
}
