package sim

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/memnet/rafttest"
)

const (
	eraTime    = 4 * time.Minute // of faults
	settleTime = time.Minute     // until all must be well, once everything is mended
	quiet      = time.Second     // in which nothing happens, to see that nothing does
)

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

// Report is what was done in a simulation.
type Report struct {
	Eras                     int
	Simulated                time.Duration
	Faults                   map[string]int
	Appends, Reads, Unknown  int // operations that ended, and appends of which the end is not known
	Dropped                  int // appends that raft refused
	Checked                  int // operations in linearizable histories
	Snapshots, Elections     int
	Restarts, Joined, Parted int
	Loops                    [loops]int // starts with each
}

// Add adds another report.
func (r *Report) Add(o Report) {
	if r.Faults == nil {
		r.Faults = make(map[string]int)
	}
	for name, n := range o.Faults {
		r.Faults[name] += n
	}
	r.Eras += o.Eras
	r.Simulated += o.Simulated
	r.Appends += o.Appends
	r.Reads += o.Reads
	r.Unknown += o.Unknown
	r.Dropped += o.Dropped
	r.Checked += o.Checked
	r.Snapshots += o.Snapshots
	r.Elections += o.Elections
	r.Restarts += o.Restarts
	r.Joined += o.Joined
	r.Parted += o.Parted
	for l, n := range o.Loops {
		r.Loops[l] += n
	}
}

// String returns the report as some lines.
func (r Report) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d eras, %v simulated; %d appends and %d reads ended, %d appends unknown, %d refused; %d operations checked\n",
		r.Eras, r.Simulated.Round(time.Second), r.Appends, r.Reads, r.Unknown, r.Dropped, r.Checked)
	fmt.Fprintf(&b, "%d snapshots installed, %d terms, %d restarts, %d members joined, %d left; loops:",
		r.Snapshots, r.Elections, r.Restarts, r.Joined, r.Parted)
	for l, n := range r.Loops {
		fmt.Fprintf(&b, " %v %d,", loop(l), n)
	}
	b.WriteString(" faults:")
	for _, name := range slices.Sorted(maps.Keys(r.Faults)) {
		fmt.Fprintf(&b, " %s %d,", name, r.Faults[name])
	}
	return strings.TrimSuffix(b.String(), ",")
}

// simulation is one cluster over time. Its methods run on the goroutine of Run unless they say otherwise.
type simulation struct {
	t      testing.TB
	rand   *rand.Rand // of the nemesis
	loops  *rand.Rand // of the members: how they run raft, how slow their disks are
	c      *rafttest.Cluster
	judge  *Judge
	cfg    Config
	report Report
	undos  []undo

	mu      sync.Mutex
	members map[uint64]*member // that run
	disks   map[uint64]*disk   // of those that run, or may again
	next    uint64             // id of the next member to join
	clear   int                // Seq of the last command that forgot all lists
	clients [clients]client
}

// Run simulates in a bubble of testing/synctest, and fails t where something is not as it has to be. The judge
// works outside of the bubble.
func Run(t testing.TB, cfg Config, j *Judge) Report {
	t.Helper()
	s := &simulation{
		t: t, rand: rand.New(rand.NewPCG(cfg.Seed, 1)), loops: rand.New(rand.NewPCG(cfg.Seed, 0)), judge: j, cfg: cfg,
		members: make(map[uint64]*member), disks: make(map[uint64]*disk),
	}
	s.report.Faults = make(map[string]int)
	s.c = rafttest.New(t, rafttest.Config{Seed: cfg.Seed, Tune: s.tune})
	t.Cleanup(func() {
		for _, m := range s.running() {
			s.end(m.id, (*rafttest.Member).Stop)
		}
	})
	s.next = 3 + s.rand.Uint64N(3)
	voters := rangeOf(s.next)
	for _, id := range voters {
		s.disks[id] = newDisk()
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
	return s.report
}

// rangeOf returns 1 to n.
func rangeOf(n uint64) (ids []uint64) {
	for id := uint64(1); id <= n; id++ {
		ids = append(ids, id)
	}
	return ids
}

// tune makes queues small and gives a transport what it saves snapshots to. It runs in start.
func (s *simulation) tune(id uint64, t *rafthttp.Transport) {
	t.Snapshotter = s.disks[id]
	t.SendQueueMessages, t.ReceiveQueueMessages = 256, 256
}

// start runs a member on its disk.
func (s *simulation) start(id uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := loop(s.loops.IntN(int(loops)))
	fsync := diskTimes[s.loops.IntN(len(diskTimes))]
	s.members[id] = startMember(s.c, id, s.disks[id], l, fsync, s.cfg.sabotage)
	s.report.Restarts++
	s.report.Loops[l]++
}

// end ends a member that runs.
func (s *simulation) end(id uint64, how func(*rafttest.Member)) {
	s.mu.Lock()
	m := s.members[id]
	delete(s.members, id)
	s.mu.Unlock()
	if m != nil {
		m.stop(how)
		s.report.Snapshots += m.installed
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
	s.check()
	s.report.Eras++
}

// settle waits until the cluster is well.
func (s *simulation) settle() {
	s.t.Helper()
	var why string
	for deadline := time.Now().Add(settleTime); time.Now().Before(deadline); time.Sleep(tick) {
		if why = s.unsettled(); why != "" {
			continue
		}
		time.Sleep(quiet)
		if why = s.unsettled(); why == "" {
			return
		}
	}
	s.fatalf("a minute after everything was mended: %s", why)
}

// unsettled runs the members there should be, ends the others, and says what is wrong, if something is.
func (s *simulation) unsettled() string {
	synctest.Wait() // what begins at this very moment has ended, and is no queue
	var newest uint64
	var voters []uint64
	for _, m := range s.running() {
		if applied, _, v, _ := m.view(); applied > newest {
			newest, voters = applied, v
		}
	}
	for _, id := range voters {
		if s.members[id] == nil {
			s.start(id)
			return fmt.Sprintf("member %d did not run", id)
		}
	}
	var hashes, leads []uint64
	for _, id := range voters {
		m := s.members[id]
		applied, hash, v, _ := m.view()
		if applied != newest || !slices.Equal(v, voters) {
			return fmt.Sprintf("member %d has applied %d of %d", id, applied, newest)
		}
		hashes, leads = append(hashes, hash), append(leads, m.Status().Lead)
	}
	if len(slices.Compact(slices.Clone(hashes))) != 1 {
		s.fatalf("members %v have applied the same with other contents: %x", voters, hashes)
	}
	if leads[0] == 0 || len(slices.Compact(leads)) != 1 {
		return fmt.Sprintf("no common leader: %v", leads)
	}
	for _, m := range s.running() {
		if !slices.Contains(voters, m.id) {
			s.forget(m.id)
		}
	}
	for id := range s.disks {
		if !slices.Contains(voters, id) {
			delete(s.disks, id)
		}
	}
	return s.unconnected(voters)
}

// unconnected says which stream is down or which queue is not empty, if one is.
func (s *simulation) unconnected(voters []uint64) string {
	for _, id := range voters {
		st := s.members[id].net.Status()
		if n := st.Drops.Total(); n > 0 {
			s.fatalf("member %d gave Send %d messages that are for itself", id, n)
		}
		peers := st.Peers
		if len(peers) != len(voters)-1 {
			return fmt.Sprintf("member %d has %d peers", id, len(peers))
		}
		for _, p := range peers {
			if !p.Active {
				return fmt.Sprintf("member %d finds %d inactive", id, p.ID)
			}
			for _, l := range p.Lanes {
				if !l.Up || l.Queued > 0 {
					return fmt.Sprintf("lane %s from %d to %d: %+v", l.Name, id, p.ID, l)
				}
			}
		}
	}
	return ""
}
