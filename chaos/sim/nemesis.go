package sim

import (
	"context"
	"slices"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/memnet"
	"github.com/seed-4d73690b/rafthttp/memnet/rafttest"
)

const (
	calm      = 8 * time.Second  // at most, between faults
	faultTime = 30 * time.Second // at most, that a fault lasts
	fewest    = 3                // members
	most      = 5
)

// undo ends a fault at its time.
type undo struct {
	due  time.Time
	name string
	do   func()
}

// faults are what the nemesis draws from. Each begins a fault and returns what ends it, or nil if there is nothing to end.
var faults = []struct {
	name  string
	begin func(*simulation) (end func())
}{
	{"one-way cut", (*simulation).cutOneWay},
	{"partition", (*simulation).partition},
	{"isolated leader", (*simulation).isolateLeader},
	{"crash", func(s *simulation) func() { return s.crash((*rafttest.Member).Crash) }},
	{"loss of power", func(s *simulation) func() { return s.crash((*rafttest.Member).PowerLoss) }},
	{"restart", func(s *simulation) func() { return s.crash((*rafttest.Member).Stop) }},
	{"slow link", (*simulation).slowLink},
	{"slow network", (*simulation).slowNetwork},
	{"loss", (*simulation).loss},
	{"narrow link", (*simulation).narrowLink},
	{"half-open", (*simulation).halfOpen},
	{"reset", (*simulation).reset},
	{"cut database", (*simulation).cutDatabase},
	{"bad messages", (*simulation).badMessages},
	{"lost type", (*simulation).lostType},
	{"membership", (*simulation).changeMembership},
	{"transfer", (*simulation).transferLeadership},
}

// rage composes faults at random for a time.
func (s *simulation) rage(d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); {
		s.endTold()
		f := faults[s.rand.IntN(len(faults))]
		s.c.Network().Note("--- %s begins", f.name)
		if undoing := f.begin(s); undoing != nil {
			s.undos = append(s.undos, undo{time.Now().Add(s.upTo(faultTime)), f.name, undoing})
		}
		s.report.Faults[f.name]++
		next := time.Now().Add(s.upTo(calm))
		for _, u := range s.due(next) {
			time.Sleep(time.Until(u.due))
			s.undo(u)
		}
		time.Sleep(time.Until(next))
	}
}

// due takes out what ends until a time, in order.
func (s *simulation) due(until time.Time) (due []undo) {
	slices.SortStableFunc(s.undos, func(a, b undo) int { return a.due.Compare(b.due) })
	for len(s.undos) > 0 && !s.undos[0].due.After(until) {
		due, s.undos = append(due, s.undos[0]), s.undos[1:]
	}
	return due
}

func (s *simulation) undo(u undo) {
	s.c.Network().Note("--- %s ends", u.name)
	u.do()
}

// mend ends all faults.
func (s *simulation) mend() {
	for _, u := range s.undos {
		s.undo(u)
	}
	s.undos = nil
	s.c.Network().Note("--- all is mended")
	s.c.Heal()
	for id := range s.disks { // whoever is not in a fault's hands any more, but came to be down twice
		if s.members[id] == nil {
			s.start(id)
		}
	}
}

func (s *simulation) upTo(d time.Duration) time.Duration {
	return time.Duration(s.rand.Int64N(int64(d)))
}

// everyone returns the ids of all members, also those that are down, in random order.
func (s *simulation) everyone() []uint64 {
	var ids []uint64
	for id := range s.disks {
		ids = append(ids, id)
	}
	slices.Sort(ids) // the order of a map is nobody's seed
	s.rand.Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
	return ids
}

// link returns a random way between two members.
func (s *simulation) link() *memnet.Link {
	ids := s.everyone()
	return s.c.Link(ids[0], ids[1])
}

func (s *simulation) leader() *member {
	for _, m := range s.running() {
		if st := m.Status(); st.Lead == m.id {
			return m
		}
	}
	return nil
}

func (s *simulation) cutOneWay() func() {
	l := s.link()
	l.Cut()
	return l.Mend
}

// cutOff cuts all ways between two groups.
func (s *simulation) cutOff(a, b []uint64) func() {
	s.c.Partition(a, b)
	return func() {
		for _, x := range a {
			for _, y := range b {
				s.c.Link(x, y).Mend()
				s.c.Link(y, x).Mend()
			}
		}
	}
}

func (s *simulation) partition() func() {
	ids := s.everyone()
	k := 1 + s.rand.IntN(len(ids)-1)
	return s.cutOff(ids[:k], ids[k:])
}

func (s *simulation) isolateLeader() func() {
	l := s.leader()
	if l == nil {
		return nil
	}
	return s.cutOff([]uint64{l.id}, slices.DeleteFunc(s.everyone(), func(id uint64) bool { return id == l.id }))
}

// crash ends a member until it is started again on its disk.
func (s *simulation) crash(how func(*rafttest.Member)) func() {
	id := s.everyone()[0]
	s.end(id, how)
	return func() {
		if s.members[id] == nil && s.disks[id] != nil {
			s.start(id)
		}
	}
}

func (s *simulation) slowLink() func() {
	l := s.link()
	l.SetDelay(s.upTo(time.Second))
	l.SetJitter(s.upTo(100 * time.Millisecond))
	return func() {
		l.SetDelay(0)
		l.SetJitter(0)
	}
}

// eachLink does something to all ways between members.
func (s *simulation) eachLink(do func(*memnet.Link)) {
	for _, a := range s.everyone() {
		for _, b := range s.everyone() {
			if a != b {
				do(s.c.Link(a, b))
			}
		}
	}
}

func (s *simulation) slowNetwork() func() {
	delay, jitter := s.upTo(200*time.Millisecond), s.upTo(100*time.Millisecond)
	s.eachLink(func(l *memnet.Link) { l.SetDelay(delay); l.SetJitter(jitter) })
	return func() { s.eachLink(func(l *memnet.Link) { l.SetDelay(0); l.SetJitter(0) }) }
}

func (s *simulation) loss() func() {
	p := 0.01 + 0.29*s.rand.Float64()
	s.eachLink(func(l *memnet.Link) { l.SetLoss(p) })
	return func() { s.eachLink(func(l *memnet.Link) { l.SetLoss(0) }) }
}

func (s *simulation) narrowLink() func() {
	l := s.link()
	l.SetBandwidth(1 << s.rand.IntN(17)) // from a byte a second to 64 KiB
	return func() { l.SetBandwidth(s.bandwidth) }
}

func (s *simulation) halfOpen() func() {
	ids := s.everyone()
	s.c.Link(ids[0], ids[1]).HalfOpen()
	if s.rand.IntN(2) == 0 {
		s.c.Link(ids[1], ids[0]).HalfOpen()
	}
	return nil
}

func (s *simulation) reset() func() {
	ids := s.everyone()
	s.c.Network().Reset(rafttest.Host(ids[0]), rafttest.Host(ids[1]))
	return nil
}

// cutDatabase waits for a database to be on its way, and resets its connection.
func (s *simulation) cutDatabase() func() {
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		look := time.NewTicker(tick)
		defer look.Stop()
		for !s.cutOne() {
			select {
			case <-look.C:
			case <-stop:
				return
			}
		}
	}()
	return func() { close(stop); <-stopped }
}

// cutOne reports whether there was one to be cut.
func (s *simulation) cutOne() bool {
	for _, m := range s.running() {
		for _, t := range m.net.Status().Receiving {
			if t.Bytes > 0 && t.Bytes < t.Total {
				s.c.Network().Reset(rafttest.Host(uint64(t.Peer)), rafttest.Host(m.id))
				return true
			}
		}
	}
	return false
}

func (s *simulation) badMessages() func() {
	return s.c.Apply(rafttest.Rule{
		Loss: 0.2 * s.rand.Float64(), Duplicate: 0.2 * s.rand.Float64(), Reorder: 0.2 * s.rand.Float64(),
		Jitter: s.upTo(300*time.Millisecond) + 1,
	})
}

func (s *simulation) lostType() func() {
	types := []raftpb.MessageType{
		raftpb.MsgApp, raftpb.MsgAppResp, raftpb.MsgHeartbeat, raftpb.MsgHeartbeatResp, raftpb.MsgVote, raftpb.MsgVoteResp,
		raftpb.MsgPreVote, raftpb.MsgPreVoteResp, raftpb.MsgProp, raftpb.MsgSnap, raftpb.MsgReadIndex, raftpb.MsgReadIndexResp,
	}
	return s.c.Apply(rafttest.Rule{To: s.everyone()[0], Types: []raftpb.MessageType{types[s.rand.IntN(len(types))]}, Loss: 0.9})
}

// changeMembership has a member leave, or a new one join.
func (s *simulation) changeMembership() func() {
	l := s.leader()
	if l == nil {
		return nil
	}
	_, _, voters, _ := l.view()
	change := raftpb.ConfChangeAddNode
	if len(voters) >= most || (len(voters) > fewest && s.rand.IntN(2) == 0) {
		change = raftpb.ConfChangeRemoveNode
	}
	id := voters[s.rand.IntN(len(voters))]
	if change == raftpb.ConfChangeAddNode {
		s.next++
		id = s.next
		s.disks[id] = s.newDisk(id)
		s.start(id)
		s.report.Joined++
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	s.c.Network().Note("member %d proposes %v %d", l.id, change, id)
	_ = l.ProposeConfChange(ctx, &raftpb.ConfChange{Type: change.Enum(), NodeId: new(id)})
	return nil
}

func (s *simulation) transferLeadership() func() {
	if l := s.leader(); l != nil {
		_, _, voters, _ := l.view()
		if to := voters[s.rand.IntN(len(voters))]; to != raft.None {
			l.TransferLeadership(context.Background(), l.id, to)
		}
	}
	return nil
}
