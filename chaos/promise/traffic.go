package promise

import (
	"time"

	"go.etcd.io/raft/v3/raftpb"
)

// traffic sends what a member sends at each tick.
func (m *member) traffic(now time.Duration) {
	if m.ending.Load() {
		return
	}
	before := m.laneStates()
	var all []*sentTo
	for _, w := range m.s.book.all {
		if w.from != m.id || !m.s.isPeer(w) {
			continue
		}
		all = append(all, m.write(w, raftpb.MsgHeartbeat, 0))
		if now < m.s.plan.Length+loadGoing {
			all = append(all, m.load(w, now)...)
		}
	}
	if len(all) == 0 {
		return
	}
	msgs := make([]*raftpb.Message, len(all))
	for i, x := range all {
		msgs[i] = x.m
	}
	m.send(msgs...)
	m.noteLanes(all, before, m.laneStates())
}

// sentTo is a message with where it goes.
type sentTo struct {
	m *raftpb.Message
	w *way
	k kind
	n int
}

// write makes a message.
func (m *member) write(w *way, typ raftpb.MessageType, size int) *sentTo {
	b := m.s.book
	b.mu.Lock()
	defer b.mu.Unlock()
	msg, x := b.write(w, typ, size, m.s.now(), m.life)
	k := kindOf(typ)
	if x.group = k == appends && m.opt.Groups; x.group {
		msg.Context = []byte("group")
	}
	return &sentTo{msg, w, k, int(numberOf(msg))}
}

// load returns what goes beside a heartbeat.
func (m *member) load(w *way, now time.Duration) (all []*sentTo) {
	l, ticks := m.s.plan.Load, int(now/tick)
	if !m.s.plan.Star && ticks%11 == int(m.id)%11 {
		all = append(all, m.write(w, raftpb.MsgReadIndexResp, 0))
	}
	for range due(l.Appends, ticks) + m.owed(w) {
		all = append(all, m.write(w, raftpb.MsgApp, l.Size))
	}
	for range due(l.Proposals, ticks) {
		all = append(all, m.write(w, raftpb.MsgProp, l.Size))
	}
	return all
}

// owed returns how many appends are to be sent again.
func (m *member) owed(w *way) int {
	m.s.book.mu.Lock()
	defer m.s.book.mu.Unlock()
	most := maxAgain
	if w.probing {
		most = 1
	}
	return min(len(w.msgs[appends])-int(w.next), most)
}

// maxAgain is how many appends are sent again at a tick.
const maxAgain = 16

// due returns how many of so many a second are due at a tick.
func due(perSecond, ticks int) int {
	return perSecond*(ticks+1)/10 - perSecond*ticks/10
}

// send gives messages to the transport, which must not take any time.
func (m *member) send(msgs ...*raftpb.Message) {
	began := time.Now()
	if m.s.sabotaged("send") {
		time.Sleep(time.Millisecond)
	}
	m.Send(msgs)
	m.s.checked("send")
	if took := time.Since(began); took > 0 {
		m.s.violate("send", "Send of member %d took %v", m.id, took)
	}
}

// laneStates returns the states of the streams to all peers.
func (m *member) laneStates() map[uint64]lanes {
	states := map[uint64]lanes{}
	for _, p := range m.Status().Peers {
		var l lanes
		l.state, l.message, l.msgapp = laneState(p)
		states[uint64(p.ID)] = l
	}
	return states
}

type lanes struct {
	state           uint64
	message, msgapp bool
}

// noteLanes notes which lane has taken messages, where the streams were the same before and after.
func (m *member) noteLanes(all []*sentTo, before, after map[uint64]lanes) {
	b := m.s.book
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, x := range all {
		l := before[x.w.to]
		up := l.message
		if x.k == appends {
			up = l.msgapp // else it goes by the message stream, or is posted
		}
		if up && l == after[x.w.to] {
			if y := &x.w.msgs[x.k][x.n]; !y.again {
				y.lane = x.w.epoch<<48 | l.state
			}
		}
		x.w.given(&x.w.msgs[x.k][x.n], up && l == after[x.w.to])
		x.w.streaming = l.message
	}
}

// isPeer reports whether a member has another as a peer.
func (s *simulation) isPeer(w *way) bool {
	s.book.mu.Lock()
	defer s.book.mu.Unlock()
	return w.isPeer
}
