package promise

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/stacks"
	"github.com/seed-4d73690b/rafthttp/memnet"
)

const (
	tick      = 100 * time.Millisecond
	starTick  = 500 * time.Millisecond // of a star, which has many members
	mended    = 50 * time.Second       // how long a run goes on after all is mended
	loadGoing = 5 * time.Second        // of these, with load
	readTime  = rafthttp.DefaultConnReadTimeout
)

// Violation is a promise that was not kept.
type Violation struct {
	Judge string
	Text  string
	At    time.Duration // of the run
	Log   []string      // what happened before, the last lines of it
}

// Error implements error.
func (v *Violation) Error() string {
	return fmt.Sprintf("%s: %s (after %v)", v.Judge, v.Text, v.At.Round(time.Millisecond))
}

// Config is what a run needs beside its plan.
type Config struct {
	Dir      string // for the files of members; empty before the run
	Judge    string // nobody else's violations count, but those of the simulation itself; "": all count
	sabotage string // the judge who has to notice it
}

// simulation is one run. Its methods run on the goroutine of Run unless they say otherwise.
type simulation struct {
	plan  Plan
	cfg   Config
	net   *memnet.Network
	book  *book
	start time.Time
	base  int        // goroutines that there are anyway
	trust *authority // with TLS

	due     []timed
	over    chan struct{}      // closed at the end
	linked  map[[2]uint64]int  // cuts of links
	bad     map[[2]uint64]bool // links that are slow or narrow
	left    map[uint64]bool    // members that left the cluster; guarded by mu
	waiting sync.WaitGroup     // ends of members

	mu         sync.Mutex
	members    map[uint64]*member // that run
	lives      map[uint64]int
	states     map[uint64]*machine
	seats      map[[2]uint64]*seat // of groups, by group and member; does not change
	transfers  []*transfer
	index      uint64               // of the last snapshot
	indexTerm  uint64               // its term, in which raft sends it
	groupIndex map[uint64]uint64    // of the last snapshot of each group
	twin       uint64               // the last of these
	ends       map[uint64]int       // that the Observer was told of, by index
	strangers  map[*stranger]uint64 // that serve, and whose address
	violation  *Violation
	report     Report
	notes      notes

	ghosts map[uint64]*ghost // that are sent to, by id; guarded by the book's mutex
}

// timed is something to be done at a time of the run.
type timed struct {
	at   time.Duration
	what string
	do   func()
}

// Run does what a plan says, in a bubble of testing/synctest, and returns what was done, and the first promise that was
// not kept, if any.
func Run(p Plan, cfg Config) (Report, *Violation) {
	options := []memnet.Option{memnet.WithSeed(p.Seed)}
	if p.Sockets != (Buffers{}) {
		options = append(options, memnet.WithSockets(p.Sockets.Send, p.Sockets.Receive))
	}
	s := &simulation{
		plan: p, cfg: cfg, net: memnet.New(options...), book: newBook(), start: time.Now(), base: stacks.InBubble(),
		linked: map[[2]uint64]int{}, left: map[uint64]bool{}, members: map[uint64]*member{}, lives: map[uint64]int{},
		states: map[uint64]*machine{}, report: newReport(), bad: map[[2]uint64]bool{}, strangers: map[*stranger]uint64{}, ends: map[uint64]int{}, over: make(chan struct{}),
		seats: map[[2]uint64]*seat{}, groupIndex: map[uint64]uint64{}, ghosts: map[uint64]*ghost{},
	}
	for _, name := range p.On {
		s.count("dimension " + name)
	}
	endPoints := s.playPoints()
	leaks := s.watchGoroutines()
	s.found()
	s.schedule()
	end := p.Length + mended
	for s.now() < end && !s.failed() {
		next := s.now() + s.tick()
		s.step()
		s.happen(next)
	}
	if v := s.violation; v != nil {
		v.Log = append(v.Log, s.state()...)
	}
	s.stopAll()
	endPoints() // scenes have to be in time
	s.playScenes()
	s.finalLook()
	leaks()
	close(s.over)
	s.report.Simulated = s.now()
	return s.report, s.violation
}

func (s *simulation) now() time.Duration { return time.Since(s.start) }

func (s *simulation) tick() time.Duration {
	if s.plan.Star {
		return starTick
	}
	return tick
}

// nobody is the id of no member.
const nobody = 999

// found makes the cluster.
func (s *simulation) found() {
	ids := s.ids()
	for _, a := range ids {
		s.net.Host(host(a))
		s.states[a] = newMachine(s, a)
		for _, b := range ids {
			if a != b && (!s.plan.Star || a == 1 || b == 1) {
				s.book.add(a, b)
				s.setLink(a, b)
			}
		}
	}
	s.foundGroups()
	for _, id := range ids {
		s.book.add(id, nobody)
	}
	if s.plan.TLS {
		s.trust = newAuthority(s)
	}
	for i, id := range ids {
		s.live(id, s.plan.Members[i])
	}
}

// setLink gives a link its usual properties.
func (s *simulation) setLink(a, b uint64) {
	l := s.net.Link(host(a), host(b))
	l.SetDelay(s.plan.Delay)
	l.SetBandwidth(s.plan.Rate)
}

// ids are those of all members.
func (s *simulation) ids() (ids []uint64) {
	for i := range s.plan.Members {
		ids = append(ids, uint64(i)+1)
	}
	return ids
}

func host(id uint64) string { return fmt.Sprintf("m%d", id) }

func (s *simulation) url(id uint64) string {
	if s.plan.TLS {
		return "https://" + host(id) + ":80"
	}
	return "http://" + host(id) + ":80"
}

// member returns the member with this id if it runs. It may be called concurrently.
func (s *simulation) member(id uint64) *member {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.members[id]
}

// running returns the members that run, by id.
func (s *simulation) running() (all []*member) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(s.members)) {
		all = append(all, s.members[id])
	}
	return all
}

// live starts a life of a member.
func (s *simulation) live(id uint64, o Options) {
	m, err := startMember(s, id, o)
	if err != nil {
		s.violate("simulation", "member %d does not start: %v", id, err)
		return
	}
	s.mu.Lock()
	s.members[id] = m
	s.lives[id]++
	if s.lives[id] > 1 {
		s.report.Count["restarts"]++
		if o != s.states[id].options {
			s.report.Count["options changed by a restart"]++
		}
	}
	s.states[id].options = o
	s.mu.Unlock()
	for _, w := range s.book.all {
		switch {
		case w.to == nobody:
		case w.from == id:
			s.book.mu.Lock()
			w.lead()
			w.losses = losses{life: m.life}
			w.closed = s.noDial(id, w.to) != nil && (m.noStreams() || s.noDial(w.to, id) != nil)
			s.book.mu.Unlock()
			s.join(m, w)
		case w.to == id:
			s.book.mu.Lock()
			clear(w.dropped[:])
			w.full = 0
			w.deaf, w.ends = 0, 0
			s.book.mu.Unlock()
		}
	}
	s.joinGroups(m)
}

// join makes the way from a member one to a peer.
func (s *simulation) join(m *member, w *way) {
	joins := !s.hasLeft(w.to) && !s.hasLeft(w.from) && !s.plan.NoRaft
	s.book.mu.Lock()
	if w.isPeer = joins; joins { // one that is started again after it has left has no peers any more
		w.epoch++
	}
	s.book.mu.Unlock()
	if !joins {
		return
	}
	s.count("peers")
	m.lines.forget(types.ID(w.to))
	m.AddPeer(types.ID(w.to), []string{s.url(w.to)})
}

func (s *simulation) hasLeft(id uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.left[id]
}

// end ends a member, on another goroutine. It returns the member, or nil if it does not run.
func (s *simulation) end(id uint64, how string) *member {
	s.mu.Lock()
	m := s.members[id]
	delete(s.members, id)
	s.mu.Unlock()
	if m != nil {
		all := m.replicas()
		for _, r := range all {
			s.forgetReplica(r)
		}
		s.waiting.Go(func() {
			defer close(m.over)
			m.end(how)
			s.endGroups(all)
			s.lastLook(m)
		})
	}
	return m
}

// step is one tick.
func (s *simulation) step() {
	now := s.now()
	for _, m := range s.running() {
		m.traffic(now)
		m.groupTraffic(now)
	}
	s.look(now)
}

// happen has all happen that is due until a time, each at its own, and returns then.
func (s *simulation) happen(until time.Duration) {
	for len(s.due) > 0 && s.due[0].at < until && !s.failed() {
		next := s.due[0]
		s.due = s.due[1:]
		time.Sleep(next.at - s.now())
		s.note("--- %s", next.what)
		next.do()
	}
	time.Sleep(until - s.now())
}

// at has something done at a time of the run.
func (s *simulation) at(when time.Duration, what string, do func()) {
	i, _ := slices.BinarySearchFunc(s.due, when, func(t timed, at time.Duration) int {
		if t.at <= at {
			return -1
		}
		return 1
	})
	s.due = slices.Insert(s.due, i, timed{when, what, do})
}

// until has a fault end after a time, or with the trouble.
func (s *simulation) until(d time.Duration, what string, do func()) {
	s.at(min(s.now()+d, max(s.plan.Length, s.now())), "end of "+what, do)
}

// stopAll ends all members that run.
func (s *simulation) stopAll() {
	for _, m := range s.running() {
		s.end(m.id, "stop")
	}
	s.waiting.Wait()
	for x := range s.strangers {
		s.dismiss(x)
	}
}

// violate notes the first promise that was not kept. It may be called concurrently.
func (s *simulation) violate(judge, format string, args ...any) {
	if other := s.cfg.Judge != "" && s.cfg.Judge != judge; other && judge != "simulation" {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.violation == nil {
		s.violation = &Violation{judge, fmt.Sprintf(format, args...), s.now(), s.notes.all()}
	}
}

// state returns lines about the members that run.
func (s *simulation) state() (lines []string) {
	for _, m := range s.running() {
		for _, p := range m.Status().Peers {
			line := fmt.Sprintf("member %d, peer %d: active %v, last error %q at %v, rtt %v;",
				m.id, uint64(p.ID), p.Active, p.LastError, p.LastErrorAt.Sub(s.start), p.RTT)
			for _, l := range p.Lanes {
				line += fmt.Sprintf(" %s up %v, %d queued, %d done, %d dropped;", l.Name, l.Up, l.Queued, l.Messages, l.Dropped)
			}
			for _, st := range p.Streams {
				line += fmt.Sprintf(" %s %s up %v, %d connects;", st.Name, st.Direction, st.Up, st.Connects)
			}
			lines = append(lines, line)
		}
		for _, r := range m.replicas() {
			lines = append(lines, r.describe())
		}
	}
	return lines
}

func (s *simulation) failed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.violation != nil
}

// count adds to a counter of the report. It may be called concurrently.
func (s *simulation) count(name string) { s.countN(name, 1) }

func (s *simulation) countN(name string, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.report.Count[name] += n
}

// checked notes that a judge has looked. It may be called concurrently.
func (s *simulation) checked(judge string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.report.Checks[judge]++
}
