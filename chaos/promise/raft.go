package promise

import (
	"context"
	"crypto/tls"
	"errors"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
)

// Process implements rafthttp.Raft: it compares what comes with what was sent.
func (m *member) Process(ctx context.Context, msg *raftpb.Message) error {
	defer m.enter("Process")()
	s, k := m.s, kindOf(msg.GetType())
	if s.sabotaged("addressee") {
		msg.To = new(m.id + 1)
	}
	if s.addressed(m, msg) {
		return nil
	}
	w := s.book.way(msg.GetFrom(), m.id)
	if w == nil {
		s.violate("invented", "member %d processes a message of %d: %v", m.id, msg.GetFrom(), msg)
		return nil
	}
	defer s.alone(w, k)()
	if s.cfg.sabotage != "" && m.sabotage(m.life, w, msg) {
		return nil
	}
	if err := m.machine.process[k].pass(ctx); err != nil {
		return err // it was not taken: who posted it is told, and a stream ends with the peer
	}
	if msg.GetType() == raftpb.MsgSnap {
		return s.installed(m, w, msg)
	}
	s.arrived(m.life, w, msg)
	if msg.GetType() == raftpb.MsgApp && len(msg.Entries) > 0 {
		m.acknowledge(w, msg)
	}
	return nil
}

// ackEvery is how often appends of a member are answered at most: a burst of them must not become one of control messages.
const ackEvery = 20 * time.Millisecond

// acknowledge answers an append, as raft does from inside its Step: the log has it, or it does not follow what the log has.
func (m *member) acknowledge(w *way, app *raftpb.Message) {
	b := m.s.book
	back := b.way(m.id, app.GetFrom())
	if back == nil || m.ending.Load() {
		return
	}
	sender := m.s.member(app.GetFrom())
	resends := sender != nil && sender.opt.Resends
	b.mu.Lock()
	now, n := m.s.now(), numberOf(app)
	rejected := n > w.match+1 && resends
	if n == w.match+1 || !resends {
		w.match = max(w.match, n)
	}
	if !back.isPeer || now-back.ackAt < ackEvery {
		b.mu.Unlock()
		return
	}
	back.ackAt = now
	_, x := b.write(back, raftpb.MsgAppResp, 0, now, m.life)
	x.acks, x.rejects, x.rejected, x.term = w.match, rejected, app.GetIndex(), app.GetTerm()
	back.given(x, back.streaming)
	ack := b.message(back, x, uint64(len(back.msgs[control])-1))
	b.mu.Unlock()
	m.send(ack)
}

// answered takes in the answer to an append, as raft does. It is called with the book's mutex held.
func (w *way) answered(x *sent) {
	w.acked = max(w.acked, x.acks)
	w.probing = false
	if x.rejects {
		w.next = max(w.acked+1, 1)
	}
}

// IsIDRemoved implements rafthttp.Raft.
func (m *member) IsIDRemoved(id uint64) bool {
	m.lookAtCaller("IsIDRemoved")
	if m.stopped.Load() {
		m.s.violate("silence", "IsIDRemoved of member %d is called after Stop", m.id)
	}
	return id != m.id && m.s.hasLeft(id)
}

// crowds returns for how long raft may be told of losses by a burst. What is sent again after a loss catches up by what the queue holds at a time, and
// raft is told each time.
func (m *member) crowds(e Event) time.Duration {
	if m.opt.Resends && m.opt.SendQueue > 0 && e.N > m.opt.SendQueue {
		return time.Hour
	}
	return 3 * readTime
}

// lateReport is how late raft may be told of appends that had no room before a way was well.
const lateReport = 2*readTime + 2*time.Second

// ReportUnreachable implements rafthttp.Raft.
func (m *member) ReportUnreachable(id uint64) {
	defer m.enter("ReportUnreachable")()
	defer m.inTurn("reports", host(id), "unreachable")()
	m.noteReport(id)
	if !m.opt.Resends { // else raft learns of each loss so late that a queue is full for a minute
		time.Sleep(m.opt.SlowHooks)
	}
}

// noteReport notes that raft is told of a loss.
func (m *member) noteReport(id uint64) {
	b := m.s.book
	b.mu.Lock()
	defer b.mu.Unlock()
	w := b.way(m.id, id)
	if w == nil {
		m.s.violate("reported", "member %d is told that %d, to which it sends nothing, is unreachable", m.id, id)
		return
	}
	b.seq++
	w.reported = b.seq
	m.s.note("member %d is told that %d is unreachable", m.id, id)
	if w.losses.reports++; m.s.sabotaged("coalesced") {
		w.losses.reports += 1000
	}
	if m.opt.Resends {
		w.next, w.probing = max(w.acked+1, 1), true
	} else {
		w.term++ // appends go on as those of another term, so that the window of those before does not hold them up
	}
	now := m.s.now()
	if m.s.noDial(m.id, id) != nil {
		return // what is posted before there is a stream fails, later
	}
	if w.well(now-lateReport) && w.wellAt > 0 && now > w.crowd && w.moving == 0 && !m.ending.Load() {
		w.unexplained++
	}
}

// ReportSnapshot implements rafthttp.Raft.
func (m *member) ReportSnapshot(id uint64, status raft.SnapshotStatus) {
	defer m.enter("ReportSnapshot")()
	defer m.inTurn("reports", host(id), "snapshot")()
	b := m.s.book
	b.mu.Lock()
	defer b.mu.Unlock()
	w := b.way(m.id, id)
	if w == nil {
		m.s.violate("snapshot ends", "member %d is told of a snapshot for %d, to which it sends none", m.id, id)
		return
	}
	n := 1
	if m.s.sabotaged("snapshot ends") {
		n = 2
	}
	if status == raft.SnapshotFinish {
		w.snapshots.finished += n
	} else {
		w.snapshots.failed += n
	}
}

// verify implements the Transport's VerifyPeer: the certificate names the member.
func (m *member) verify(id types.ID, state *tls.ConnectionState) error {
	defer m.enter("VerifyPeer")()
	if state == nil || len(state.PeerCertificates) == 0 {
		return errors.New("no certificate")
	}
	if id != 0 && m.refusing(uint64(id)).left() > 0 {
		return errors.New("it is not trusted for now")
	}
	if name := state.PeerCertificates[0].Subject.CommonName; id != 0 && name != host(uint64(id)) {
		return errors.New("the certificate is that of " + name)
	}
	return nil
}

// observer returns the hooks of the member.
func (m *member) observer() *rafthttp.Observer {
	slow := func(what string, about types.ID) func() {
		leave, next := m.enter(what), m.inTurn("hooks", host(uint64(about)), what)
		return func() {
			_ = m.hook.pass(context.Background())
			time.Sleep(m.opt.SlowHooks)
			next()
			leave()
		}
	}
	return &rafthttp.Observer{
		PeerState: func(id types.ID, active bool, _ error) {
			defer slow("PeerState", id)()
			m.lookAtState(uint64(id), active)
			if m.s.sabotaged("stop") && m.ending.Load() {
				time.Sleep(time.Hour)
			}
		},
		Dropped: func(id types.ID, lane string, n int, cause error) {
			defer slow("Dropped", id)()
			m.dropped(uint64(id), lane, n, cause)
		},
		Received: func(_ types.ID, lane string, _ int, _ int64) {
			defer m.enter("Received")()
			if lane == "post" {
				m.s.count("posts")
			}
		},
		SnapshotSent: func(id types.ID, index uint64, _ int64, _ time.Duration, _ error) {
			defer slow("SnapshotSent", id)()
			m.s.observed(index)
		},
		SnapshotReceived: func(id types.ID, _ uint64, _ int64, _ time.Duration, err error) {
			defer slow("SnapshotReceived", id)()
			if err == nil {
				m.s.count("snapshots received")
			}
		},
		SnapshotProgress: func(st rafthttp.SnapshotStatus) { defer slow("SnapshotProgress", st.Peer)() },
		Probed:           func(types.ID, time.Duration, time.Duration, error) { defer m.enter("Probed")() },
	}
}

// dropped notes what the member says that it has dropped of what came from another.
func (m *member) dropped(from uint64, lane string, n int, cause error) {
	b := m.s.book
	b.mu.Lock()
	defer b.mu.Unlock()
	for k, name := range kindNames {
		if w := b.way(from, m.id); w != nil && name == lane {
			w.dropped[k] += n
			w.dropAt[k] = m.s.now()
			if kind(k) == appends && (errors.Is(cause, rafthttp.ErrQueueFull) || errors.Is(cause, rafthttp.ErrMemoryLimit)) {
				w.full += n
			}
			m.s.countN("messages dropped by the receiver", n)
			m.lookAtDrop(w, kind(k), cause)
		}
	}
}

// lookAtDrop looks whether a message is dropped for which there was room. It is called with the book's mutex held.
func (m *member) lookAtDrop(w *way, k kind, cause error) {
	now := m.s.now()
	if !m.s.inTime() { // a fault point refuses memory that there is
		return
	}
	if m.opt.SlowHooks > 0 || time.Since(m.hook.opens()) < lateReport { // it is told late, and all may be well again
		return
	}
	if errors.Is(cause, rafthttp.ErrQueueFull) && w.isPeer && w.well(now-lateReport) && w.wellAt > 0 && now > w.crowd {
		m.s.violate("healthy link", "member %d drops %v messages of %d, for which there is room: %v", m.id, k, w.from, cause)
	}
}
