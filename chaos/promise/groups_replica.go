package promise

import (
	"context"
	"io"
	"strings"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/snap"
)

// replica is one life of a group on a member: its Raft.
type replica struct {
	*rafthttp.Group
	*seat
	m     *member
	s     *simulation
	id    uint64
	life  int
	ready chan struct{} // closed when Group is set

	errorC  chan error
	told    bool          // that it was removed; owned by the goroutine of Run
	since   time.Duration // of the run, when it was joined
	seen    uint64        // messages dropped, when its status was looked at; owned by the goroutine of Run
	over    chan struct{} // closed at the end
	ending  atomic.Bool   // the end has begun: nothing is sent any more
	stopped atomic.Bool   // Stop has returned
	settled atomic.Bool   // its snapshots were counted
	calls   atomic.Int64  // callbacks under way
}

// joinGroups joins the groups that a member has, in one of its lives.
func (s *simulation) joinGroups(m *member) {
	if m.opt.Stock && s.hasGroups() {
		s.count("groups: stock members")
		return
	}
	for i, g := range s.plan.Groups {
		if n := uint64(i) + 1; g.Lacks != m.id {
			st := s.seat(n, m.id)
			s.book.mu.Lock()
			removed := st.removed[st.id] > 0
			s.book.mu.Unlock()
			if removed { // while the member ended
				s.renew(st)
			}
			s.joinGroup(m, st)
		}
	}
}

// joinGroup begins a replica.
func (s *simulation) joinGroup(m *member, st *seat) {
	s.book.mu.Lock()
	st.starts++
	r := &replica{
		seat: st, m: m, s: s, id: st.id, life: st.starts, ready: make(chan struct{}), over: make(chan struct{}), errorC: make(chan error, 4), since: s.now(),
	}
	st.now = r
	s.book.mu.Unlock()
	var err error
	r.Group, err = m.Group(st.group, rafthttp.GroupConfig{Raft: r, Replica: r.ownID(), Snapshotter: r.snapshotter(), ErrorC: r.errorC})
	close(r.ready)
	if err != nil {
		s.violate("simulation", "member %d does not join group %d: %v", m.id, st.group, err)
		return
	}
	s.count("groups: joined")
	for _, w := range s.inGroup(st.group, m.id) {
		if w.from == m.id {
			s.addReplica(r, w)
			continue
		}
		s.book.mu.Lock()
		w.heal(s.now(), s.now()+s.recovers(w.link)+joinTime)
		s.book.mu.Unlock()
	}
}

// ownID is the id that the replica says; 0: that of its node.
func (r *replica) ownID() uint64 {
	if r.plan.Own {
		return r.id
	}
	return 0
}

// addReplica makes the way from a replica one to another replica.
func (s *simulation) addReplica(r *replica, w *way) {
	if s.hasLeft(w.to) || s.hasLeft(w.from) {
		return
	}
	b, to := s.book, s.seat(w.group, w.to)
	b.mu.Lock()
	if to.removed[to.id] > 0 {
		b.mu.Unlock()
		return
	}
	w.fromID, w.toID = r.id, to.id
	back := b.back(w)
	if !b.isServed(back) {
		s.serve(back)
	}
	w.isPeer = true
	w.epoch++
	b.seq++
	w.parted, w.reported = b.seq, 0
	w.lead()
	w.heal(s.now(), s.now()+s.recovers(w.link)+joinTime)
	id := w.toID
	b.mu.Unlock()
	if r.plan.Own {
		r.AddReplica(id, types.ID(w.to), []string{s.url(w.to)})
	} else {
		r.AddPeer(types.ID(id), []string{s.url(w.to)})
	}
}

// joinTime is how long it may take until the node of a replica that is added has asked for its streams again: it may have been told
// that there is no such group.
const joinTime = 2 * time.Second

// heal has the way deliver from a time on. It is called with the book's mutex held.
func (w *way) heal(now, at time.Duration) { w.unwell(now, at-now) }

// serve begins streams between two members, of all groups, with the first replica that the receiver adds. It is called with the book's mutex held.
func (s *simulation) serve(first *way) {
	for _, w := range s.book.inGroups {
		if w.from == first.from && w.to == first.to {
			w.heal(s.now(), s.now()+s.recovers(w.link)+joinTime)
		}
	}
}

// removeReplica takes a replica from another one.
func (s *simulation) removeReplica(r *replica, w *way) {
	b := s.book
	b.mu.Lock()
	w.isPeer = false
	w.epoch++
	b.seq++
	w.parted = b.seq
	id := w.toID
	b.mu.Unlock()
	if r != nil {
		r.RemovePeer(types.ID(id))
	}
}

// snapshotter returns who saves the databases of the group.
func (r *replica) snapshotter() rafthttp.Snapshotter {
	plain := plainSaver{r.m, r.disk, r}
	switch r.plan.Saver {
	case "none":
		return nil
	case "plain":
		return plain
	}
	return resumingSaver{plain}
}

// enter begins a callback. What it returns ends it.
func (r *replica) enter(what string) func() {
	<-r.ready
	r.m.lookAtCaller(what)
	if r.stopped.Load() {
		r.s.violate("silence", "%s of group %d, member %d is called after Stop", what, r.group, r.m.id)
	}
	r.calls.Add(1)
	leave := r.m.enter(what)
	return func() {
		leave()
		r.calls.Add(-1)
	}
}

// slowCall is how long a callback of a slow group takes.
const slowCall = 20 * time.Millisecond

// linger has a callback of a slow group take its time, whatever its context says.
func (r *replica) linger() {
	if r.slow.left() > 0 {
		time.Sleep(slowCall)
	}
}

// Process implements rafthttp.Raft.
func (r *replica) Process(ctx context.Context, msg *raftpb.Message) error {
	defer r.enter("Process")()
	s, k := r.s, kindOf(msg.GetType())
	if s.sabotaged("addressee") {
		msg.To = new(r.id + 1)
	}
	w := s.groupAddressed(r, msg)
	if w == nil {
		return nil
	}
	defer s.alone(w, k)()
	if s.cfg.sabotage != "" && r.m.sabotage(r.life, w, msg) {
		return nil
	}
	r.linger()
	began := time.Now()
	if err := r.process[k].pass(ctx); err != nil {
		if took := time.Since(began); k == proposals && took > proposalTime {
			s.violate("isolation", "the context of a proposal of group %d, member %d, ends after %v", r.group, r.m.id, took)
		}
		s.groupFailed(w, msg)
		return err
	}
	if took := time.Since(began); k == proposals && took > proposalTime {
		s.violate("isolation", "the context of a proposal of group %d, member %d, has not ended after %v", r.group, r.m.id, took)
	}
	if msg.GetType() == raftpb.MsgSnap {
		return s.installedInGroup(r, w, msg)
	}
	r.take(w, msg)
	return nil
}

// proposalTime is after how long the context of a proposal ends: ReadTimeout and WriteTimeout.
const proposalTime = 2*readTime + slowCall

// take takes in a message.
func (r *replica) take(w *way, msg *raftpb.Message) {
	r.s.arrived(r.life, w, msg)
	if msg.GetType() == raftpb.MsgApp && len(msg.Entries) > 0 {
		r.acknowledge(w, msg)
	}
}

// acknowledge answers an append.
func (r *replica) acknowledge(w *way, app *raftpb.Message) {
	b := r.s.book
	back := b.back(w)
	b.mu.Lock()
	now := r.s.now()
	w.match = max(w.match, numberOf(app))
	if r.ending.Load() || r.m.ending.Load() || !back.isPeer || now-back.ackAt < ackEvery {
		b.mu.Unlock()
		return
	}
	back.ackAt = now
	_, x := b.write(back, raftpb.MsgAppResp, 0, now, r.life)
	x.acks, x.term = w.match, app.GetTerm()
	ack := b.message(back, x, uint64(len(back.msgs[control])-1))
	b.mu.Unlock()
	r.send([]*raftpb.Message{ack})
}

// send gives messages to Send, which takes no time.
func (r *replica) send(msgs []*raftpb.Message) {
	began := time.Now()
	r.Send(msgs)
	r.s.checked("send")
	r.s.count(ofGroups + "checked send")
	if took := time.Since(began); took > 0 {
		r.s.violate("send", "Send of group %d, member %d, took %v", r.group, r.m.id, took)
	}
}

// IsIDRemoved implements rafthttp.Raft.
func (r *replica) IsIDRemoved(id uint64) bool {
	<-r.ready
	r.m.lookAtCaller("IsIDRemoved")
	if r.stopped.Load() || r.m.stopped.Load() {
		r.s.violate("silence", "IsIDRemoved of group %d, member %d is called after Stop", r.group, r.m.id)
	}
	b := r.s.book
	b.mu.Lock()
	defer b.mu.Unlock()
	w := b.wayOf(r.group, r.m.id, memberOf(id))
	if w != nil && w.isPeer && w.toID == id && w.well(r.s.now()-time.Second) && r.s.now()-r.since > time.Second {
		r.s.violate("removed", "member %d is asked whether replica %d of group %d was removed, which the group has", r.m.id, id, r.group)
	}
	st := r.s.seat(r.group, memberOf(id))
	return st != nil && st.removed[id] > 0
}

// ReportUnreachable implements rafthttp.Raft.
func (r *replica) ReportUnreachable(id uint64) {
	defer r.enter("ReportUnreachable")()
	defer r.m.inTurn("reports of a group", r.name(id), "unreachable")()
	r.noteReport(id, false)
	r.linger()
}

// name returns the name of another replica, for a text.
func (r *replica) name(id uint64) string {
	return host(memberOf(id)) + "/" + types.ID(r.group).String() + "/" + types.ID(id).String()
}

// noteReport notes that raft is told of a loss.
//
// ofGhost says that it may be about a ghost: it names no replica.
func (r *replica) noteReport(id uint64, ofGhost bool) {
	b, s := r.s.book, r.s
	b.mu.Lock()
	defer b.mu.Unlock()
	w := b.wayOf(r.group, r.m.id, memberOf(id))
	if w == nil {
		s.violate("reported", "group %d, member %d is told that %d is unreachable, to which it sends nothing", r.group, r.m.id, id)
		return
	}
	b.seq++
	s.note("group %d, member %d is told that %d is unreachable", r.group, r.m.id, id)
	if g := s.ghosts[id]; g != nil && g.of == r {
		g.reported = b.seq
		return
	}
	if w.toID != id {
		return // it was removed, or is another one now
	}
	w.reported = b.seq
	w.term++
	if !ofGhost && s.mustKnowNothing(w) && w.moving == 0 && !r.ending.Load() && !r.m.ending.Load() {
		w.unexplained++
	}
}

// ReportSnapshot implements rafthttp.Raft.
func (r *replica) ReportSnapshot(id uint64, status raft.SnapshotStatus) {
	defer r.enter("ReportSnapshot")()
	defer r.m.inTurn("reports of a group", r.name(id), "snapshot")()
	b := r.s.book
	b.mu.Lock()
	defer b.mu.Unlock()
	w := b.wayOf(r.group, r.m.id, memberOf(id))
	if w == nil {
		r.s.violate("snapshot ends", "group %d, member %d is told of a snapshot for %d, to which it sends none", r.group, r.m.id, id)
		return
	}
	n := 1
	if r.s.sabotaged("snapshot ends") {
		n = 2
	}
	if status == raft.SnapshotFinish {
		w.snapshots.finished += n
	} else {
		w.snapshots.failed += n
	}
}

// end stops the replica.
func (r *replica) end() {
	defer close(r.over)
	s := r.s
	began := time.Now()
	r.Stop()
	took := time.Since(began)
	s.checked("stop")
	s.count(ofGroups + "checked stop")
	if bound := groupStopTime + r.m.opt.DiskHang + max(0, r.m.saving.opens().Sub(began)); took > bound && s.inTime() {
		s.violate("stop", "Stop of group %d, member %d took %v", r.group, r.m.id, took)
	}
	r.afterStop()
	r.Stop() // again, and then what does nothing
	r.AddPeer(types.ID(r.id%2+1+ghosts), []string{s.url(r.m.id%2 + 1)})
	r.send([]*raftpb.Message{{Type: raftpb.MsgHeartbeat.Enum(), From: new(r.id), To: new(r.id%2 + 1)}})
	msg := snap.NewMessage(s.snapshotMessage(s.inGroup(r.group, r.m.id)[0], 0, 1), io.NopCloser(strings.NewReader("")), 0)
	r.SendSnapshot(msg)
	s.waiting.Go(func() { <-msg.CloseNotify() })
}

// groupStopTime is how long Stop of a group may take, whose callbacks take no longer than slowCall, beside those of its disk.
const groupStopTime = 2 * time.Second

// afterStop looks at a replica whose Stop, or that of the Transport, has returned.
func (r *replica) afterStop() {
	r.stopped.Store(true)
	if r.s.sabotaged("silence") {
		r.ReportUnreachable(r.id)
	}
	r.s.checked("silence")
	r.s.count(ofGroups + "checked silence")
	if n := r.calls.Load(); n > 0 {
		r.s.violate("silence", "%d callbacks of group %d, member %d run after Stop", n, r.group, r.m.id)
	}
	r.lookAtErrors()
	r.s.lookAtEndsOf(r.m, r)
}
