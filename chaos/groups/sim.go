package groups

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/raft/v3"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/memnet/rafttest"
)

const (
	nodes    = 5
	groups   = 50
	replicas = 3 // of a group

	tick           = 100 * time.Millisecond
	electionTicks  = 20
	heartbeatTicks = 3

	rageTime     = 40 * time.Second                                          // of faults of the network and of nodes
	isolatedTime = 10 * time.Second                                          // of faults of single groups
	connectTime  = 2*rafthttp.DefaultConnReadTimeout + 2500*time.Millisecond // until lost connections are noticed and replaced
	recoverTime  = 30 * time.Second                                          // until all groups must have recovered
	proposalTime = 2 * time.Second                                           // for a proposal of a group without a fault
	perStep      = 5                                                         // proposals in a tick, of all groups together
)

// bandwidths are what links have in bytes a second, unless a fault makes them narrower.
var bandwidths = [...]int{0, 1 << 20, 4 << 20}

// Config says what is simulated.
type Config struct {
	Seed     uint64
	Duration time.Duration // simulated time, rounded up to whole eras
}

// node is a running process: a Transport, and the replicas on it.
type node struct {
	id     uint64
	member *rafttest.Member
	stop   chan struct{}
	ended  chan struct{} // the ticker

	mu       sync.Mutex
	replicas map[uint64]*replica // by group
}

// simulation is one set of nodes over time. Its methods run on the goroutine of Run unless they say otherwise.
type simulation struct {
	t         testing.TB
	rand      *rand.Rand
	c         *rafttest.Cluster
	cfg       Config
	report    Report
	undos     []undo
	floods    map[uint64]bool // groups
	bandwidth int
	began     time.Time
	last      uint64 // number of the last proposal

	groups map[uint64]*group
	nodes  map[uint64]*node            // that run
	disks  map[uint64]map[uint64]*disk // by node and group

	mu    sync.Mutex
	wrong string // the first violation; empty: none
}

// Run simulates in a bubble of testing/synctest. It fails t for the first violation.
func Run(t testing.TB, cfg Config) Report {
	t.Helper()
	s := &simulation{
		t: t, rand: rand.New(rand.NewPCG(cfg.Seed, 3)), cfg: cfg, floods: map[uint64]bool{}, began: time.Now(),
		groups: map[uint64]*group{}, nodes: map[uint64]*node{}, disks: map[uint64]map[uint64]*disk{},
	}
	s.report.Faults = map[string]int{}
	s.bandwidth = bandwidths[s.rand.IntN(len(bandwidths))]
	s.c = rafttest.New(t, rafttest.Config{Seed: cfg.Seed, Tune: s.tune, TLS: cfg.Seed%4 == 0})
	t.Cleanup(func() {
		for _, n := range s.running() {
			s.end(n.id, (*rafttest.Member).Stop)
		}
	})
	s.create()
	for id := range uint64(nodes) {
		s.start(id + 1)
	}
	s.settle()
	for time.Since(s.began) < cfg.Duration {
		s.era()
	}
	s.report.Simulated = time.Since(s.began)
	for _, n := range s.running() {
		s.end(n.id, (*rafttest.Member).Stop)
	}
	s.check()
	return s.report
}

// create makes the groups, and the disks of their first members.
func (s *simulation) create() {
	for id := range uint64(nodes) {
		s.disks[id+1] = map[uint64]*disk{}
		s.eachLinkOf(id+1, func(a, b uint64) { s.c.Link(a, b).SetBandwidth(s.bandwidth) })
	}
	for i := range uint64(groups) {
		g := newGroup(i+1, s.violated)
		s.groups[g.id] = g
		for _, n := range s.rand.Perm(nodes)[:replicas] {
			on := uint64(n) + 1
			g.nodes[on] = true
			g.voters = append(g.voters, g.next(on))
		}
		for _, id := range g.voters {
			d := newDisk(id)
			d.bootstrap(g, g.voters)
			s.disks[nodeOf(id)][g.id] = d
		}
	}
}

// tune gives a Transport its options.
func (s *simulation) tune(_ uint64, t *rafthttp.Transport) {
	t.Raft = rafthttp.NoRaft{}
	t.MaxSnapshots = 1 + s.rand.IntN(8)
	t.SendQueueMessages = 512 << s.rand.IntN(4)
	t.ReceiveQueueMessages = t.SendQueueMessages
}

// start runs a node with the replicas on its disks.
func (s *simulation) start(id uint64) {
	n := &node{id: id, stop: make(chan struct{}), ended: make(chan struct{}), replicas: map[uint64]*replica{}}
	n.member = s.c.Start(id, rafthttp.NoRaft{})
	for _, g := range slices.Sorted(maps.Keys(s.disks[id])) {
		n.replicas[g] = s.startReplica(n.member.Transport, s.groups[g], s.disks[id][g])
	}
	s.nodes[id] = n
	s.report.Starts++
	go n.run()
}

// run ticks all replicas of a node.
func (n *node) run() {
	defer close(n.ended)
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			for _, r := range n.all() {
				r.do(func() { r.raft.Tick() })
			}
		case <-n.stop:
			return
		}
	}
}

// all returns the replicas of a node by group. It may be called concurrently.
func (n *node) all() []*replica {
	n.mu.Lock()
	defer n.mu.Unlock()
	var all []*replica
	for _, g := range slices.Sorted(maps.Keys(n.replicas)) {
		all = append(all, n.replicas[g])
	}
	return all
}

// replicaOf returns the running replica of a group on a node, or nil.
func (s *simulation) replicaOf(g, on uint64) *replica {
	n := s.nodes[on]
	if n == nil {
		return nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.replicas[g]
}

// end ends a node.
func (s *simulation) end(id uint64, how func(*rafttest.Member)) {
	n := s.nodes[id]
	if n == nil {
		return
	}
	delete(s.nodes, id)
	close(n.stop)
	<-n.ended
	for _, r := range n.all() {
		r.halt()
	}
	how(n.member)
	for _, r := range n.all() {
		r.stopped()
	}
}

// join creates an empty replica of a group on a node.
func (s *simulation) join(g *group, n *node) {
	d := newDisk(g.next(n.id))
	g.pending = d.id
	s.disks[n.id][g.id] = d
	r := s.startReplica(n.member.Transport, g, d)
	n.mu.Lock()
	n.replicas[g.id] = r
	n.mu.Unlock()
	s.report.Joined++
}

// part ends a replica permanently.
func (s *simulation) part(n *node, r *replica) {
	r.halt()
	r.net.Stop()
	r.stopped()
	n.mu.Lock()
	delete(n.replicas, r.group.id)
	n.mu.Unlock()
	delete(s.disks[n.id], r.group.id)
	s.report.Parted++
}

// running returns the running nodes by id.
func (s *simulation) running() (all []*node) {
	for _, id := range slices.Sorted(maps.Keys(s.nodes)) {
		all = append(all, s.nodes[id])
	}
	return all
}

// count adds a replica that has ended to the report. It is called on the goroutine of Run.
func (s *simulation) count(r *replica) {
	s.report.Installed += r.installed
	s.report.Reported += r.reported
	s.report.Failed += r.failed
	r.disk.mu.Lock()
	defer r.disk.mu.Unlock()
	s.report.Databases += r.disk.saved
	r.disk.saved = 0
}

// violated notes a violation. It may be called concurrently.
func (s *simulation) violated(judge, format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.wrong == "" {
		s.wrong = fmt.Sprintf("%s: %s (after %v)", judge, fmt.Sprintf(format, args...), time.Since(s.began).Round(time.Millisecond))
	}
}

// check fails the test if there is a violation.
func (s *simulation) check() {
	s.t.Helper()
	s.mu.Lock()
	wrong := s.wrong
	s.mu.Unlock()
	if wrong != "" {
		s.t.Fatalf("%s\n        seed %d; again with: go test ./groups -run TestGroups -v -seed %d -seeds 1 -hours %v",
			wrong, s.cfg.Seed, s.cfg.Seed, s.cfg.Duration.Hours())
	}
}

// describe returns the state of a group.
func (s *simulation) describe(g *group) string {
	var b strings.Builder
	fmt.Fprintf(&b, "members %v, nodes %v, pending %d, lost %v", g.members(), sorted(g.nodes), g.pending, sorted(g.dead))
	for _, n := range s.running() {
		if r := s.replicaOf(g.id, n.id); r != nil {
			fmt.Fprintf(&b, "; %v", r.view())
		}
	}
	return b.String()
}

// leader returns the replica of a group that leads in the highest term, or nil.
func (s *simulation) leader(g *group) (leader *replica) {
	var term uint64
	for _, n := range s.running() {
		if r := s.replicaOf(g.id, n.id); r != nil {
			if v := r.view(); v.lead == r.id && v.term > term {
				leader, term = r, v.term
			}
		}
	}
	return leader
}

// propose proposes to a replica, and returns the number of the proposal, or 0 if raft refuses it.
func (s *simulation) propose(r *replica, size int) (n uint64) {
	s.last++
	n = s.last
	r.group.propose(n)
	err := raft.ErrProposalDropped
	r.do(func() { err = r.raft.Propose(payload(r.group.id, n, size)) })
	if err != nil {
		r.group.dropped(n)
		return 0
	}
	s.report.Proposals++
	return n
}

// size draws the size of a proposal.
func (s *simulation) size() int {
	if s.rand.IntN(10) == 0 {
		return s.rand.IntN(maxPayload)
	}
	return s.rand.IntN(256)
}

// step is one tick: proposals, and the controller.
func (s *simulation) step() {
	for range perStep {
		g, on := s.group(), uint64(s.rand.IntN(nodes))+1
		if r := s.replicaOf(g.id, on); r != nil {
			s.propose(r, s.size())
		}
	}
	s.flood()
	s.control()
	time.Sleep(tick)
	s.check()
}

// group returns a random group.
func (s *simulation) group() *group { return s.groups[uint64(s.rand.IntN(groups))+1] }

// era is one round of faults.
func (s *simulation) era() {
	s.rage(rageTime)
	s.mend()
	mended := time.Now()
	s.settle()
	time.Sleep(connectTime - time.Since(mended))
	s.isolate()
	s.mend()
	s.settle()
	s.report.Eras++
}
