package sim

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/memnet/rafttest"
)

const (
	eraTime     = 4 * time.Minute                                           // of faults
	connectTime = 2*rafthttp.DefaultConnReadTimeout + 2500*time.Millisecond // until all streams must be up, once everything is mended
	settleTime  = 30 * time.Second                                          // until all must be well
	quiet       = time.Second                                               // in which nothing happens, to see that nothing does
)

// bandwidths are what links have in bytes a second, at least enough for a few databases until all must be well.
var bandwidths = [...]int{0, 256 << 10, 1 << 20}

// Config says what is simulated.
type Config struct {
	Seed     uint64
	Duration time.Duration // simulated time; a little more, since eras are whole

	sabotage sabotage
}

// sabotage makes members wrong, to prove that this is noticed.
type sabotage struct {
	staleReads bool // reads do not ask the leader
	hastyAcks  bool // appends are acknowledged once they are proposed
}

// simulation is one cluster over time. Its methods run on the goroutine of Run unless they say otherwise.
type simulation struct {
	t      testing.TB
	rand   *rand.Rand // of the nemesis
	lives  *rand.Rand // of the members: what each is like from one start to its end
	c      *rafttest.Cluster
	judge  *Judge
	cfg    Config
	report Report
	undos  []undo
	dir    string // of all disks

	bandwidth int // of all links that no fault makes narrower, in bytes a second; 0: no bound

	mu      sync.Mutex
	members map[uint64]*member // that run
	disks   map[uint64]*disk   // of those that run, or may again
	next    uint64             // id of the next member to join
	clear   int                // Seq of the last command that forgot all lists
	clients [clients]client
	options map[uint64]options // of those that run
	started time.Time          // when a member was started last
	told    map[uint64]bool    // members that were told that they were removed
	wrong   string             // the first thing that must not be, as a member says; empty: none
}

// Run simulates in a bubble of testing/synctest, and fails t where something is not as it has to be. The judge
// works outside of the bubble.
func Run(t testing.TB, cfg Config, j *Judge) Report {
	t.Helper()
	s := &simulation{
		t: t, rand: rand.New(rand.NewPCG(cfg.Seed, 1)), lives: rand.New(rand.NewPCG(cfg.Seed, 0)), judge: j, cfg: cfg,
		members: make(map[uint64]*member), disks: make(map[uint64]*disk), options: make(map[uint64]options), told: make(map[uint64]bool),
	}
	s.report.Faults = make(map[string]int)
	secured := cfg.Seed%2 == 0
	if secured {
		s.report.TLS = 1
	}
	s.dir, s.bandwidth = t.TempDir(), bandwidths[s.lives.IntN(len(bandwidths))]
	s.c = rafttest.New(t, rafttest.Config{Seed: cfg.Seed, Tune: s.tune, TLS: secured})
	t.Cleanup(func() {
		for _, m := range s.running() {
			s.end(m.id, (*rafttest.Member).Stop)
		}
	})
	s.next = 3 + s.rand.Uint64N(3)
	voters := rangeOf(s.next)
	for _, id := range voters {
		s.disks[id] = s.newDisk(id)
		s.disks[id].bootstrap(voters)
		s.start(id)
	}
	for i := range s.clients {
		s.clients[i] = client{s: s, id: i + 1, rand: rand.New(rand.NewPCG(cfg.Seed, uint64(i)+2))}
	}
	start := time.Now()
	for time.Since(start) < cfg.Duration {
		s.era()
	}
	s.report.Simulated = time.Since(start)
	for _, m := range s.running() {
		s.count(m)
	}
	return s.report
}

// rangeOf returns 1 to n.
func rangeOf(n uint64) (ids []uint64) {
	for id := uint64(1); id <= n; id++ {
		ids = append(ids, id)
	}
	return ids
}

// options are what a member has from a start to its end.
type options struct {
	loop    loop
	fsync   time.Duration // what a save takes
	resumes bool          // it can go on with a database that was cut
	queue   int           // messages
	memory  int64         // of all queues; 0: what is usual
	places  int           // for snapshots
	seed    uint64
	errorC  chan error
}

// draw draws the options of a life.
func (s *simulation) draw() options {
	o := options{
		loop: loop(s.lives.IntN(int(loops))), fsync: diskTimes[s.lives.IntN(len(diskTimes))], resumes: s.lives.IntN(3) > 0,
		queue: 64 << s.lives.IntN(5), places: 1 + s.lives.IntN(4), seed: s.lives.Uint64(), errorC: make(chan error, 1),
	}
	if s.lives.IntN(3) == 0 {
		o.memory = 1 << 20
	}
	return o
}

// tune gives a transport the options of its member's life. It runs in start.
func (s *simulation) tune(id uint64, t *rafthttp.Transport) {
	o := s.options[id]
	t.Snapshotter, t.ErrorC = s.disks[id].snapshotter(o.resumes), o.errorC
	t.SendQueueMessages, t.ReceiveQueueMessages, t.MaxQueuedBytes, t.MaxSnapshots = o.queue, o.queue, o.memory, o.places
}

// newDisk returns the disk of a member that nobody has seen before, and sets its links.
func (s *simulation) newDisk(id uint64) *disk {
	for other := range s.disks {
		s.c.Link(id, other).SetBandwidth(s.bandwidth)
		s.c.Link(other, id).SetBandwidth(s.bandwidth)
	}
	return newDisk(filepath.Join(s.dir, fmt.Sprint(id)))
}

// start runs a member on its disk.
func (s *simulation) start(id uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.draw()
	s.options[id] = o
	s.disks[id].open()
	s.members[id] = s.startMember(id, s.disks[id], o)
	s.started = time.Now()
	s.report.Restarts++
	s.report.Loops[o.loop]++
}

// violated takes note of what must not be. Any goroutine may call it.
func (s *simulation) violated(why string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.wrong == "" {
		s.wrong = why
	}
}

// end ends a member that runs.
func (s *simulation) end(id uint64, how func(*rafttest.Member)) {
	s.mu.Lock()
	m := s.members[id]
	delete(s.members, id)
	s.mu.Unlock()
	if m != nil {
		s.count(m)
		m.stop(how)
	}
}

// count adds what a member that ends has done to the report.
func (s *simulation) count(m *member) {
	m.mu.Lock()
	s.report.Snapshots += m.installed
	m.mu.Unlock()
	s.report.Databases += int(m.disk.databases.Swap(0))
	s.report.Resumed += int(m.disk.resumed.Swap(0))
	for _, p := range m.net.Status().Peers {
		for _, l := range p.Lanes {
			if l.Name == "pipeline" {
				s.report.Posts += int(l.Messages)
			}
		}
	}
}

// forget ends a member for good.
func (s *simulation) forget(id uint64) {
	s.end(id, (*rafttest.Member).Stop)
	s.mu.Lock()
	delete(s.disks, id)
	s.mu.Unlock()
	s.report.Parted++
}

// running returns the members that run, by id. It may be called concurrently.
func (s *simulation) running() []*member {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []*member
	for _, id := range slices.Sorted(maps.Keys(s.members)) {
		all = append(all, s.members[id])
	}
	return all
}

func (s *simulation) fatalf(format string, args ...any) {
	s.t.Helper()
	var b strings.Builder
	for _, m := range s.running() {
		applied, hash, voters, gone := m.view()
		fmt.Fprintf(&b, "member %d: applied %d, hash %x, voters %v, gone %v, raft %+v\n", m.id, applied, hash, voters, gone, m.Status().BasicStatus)
		for _, p := range m.net.Status().Peers {
			fmt.Fprintf(&b, "  peer %d: active %v, last error %q at %v\n", p.ID, p.Active, p.LastError, p.LastErrorAt)
			for _, l := range p.Lanes {
				fmt.Fprintf(&b, "    %s: up %v, %d queued, %d sent, %d dropped\n", l.Name, l.Up, l.Queued, l.Messages, l.Dropped)
			}
		}
	}
	s.t.Fatalf("era %d: %s\n%s", s.report.Eras, fmt.Sprintf(format, args...), b.String())
}

// era lets clients and the nemesis have their way, then mends everything and looks.
func (s *simulation) era() {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for i := range s.clients {
		c := &s.clients[i]
		wg.Go(func() { c.run(ctx, s.report.Eras) })
	}
	s.rage(eraTime)
	cancel()
	wg.Wait()
	s.mend()
	s.settle()
	s.checkMembers()
	s.check()
	s.checkTold()
	s.report.Eras++
}
