package sim

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/memnet/rafttest"
	"github.com/seed-4d73690b/rafthttp/snap"
)

const tick = 100 * time.Millisecond

// diskTimes are what a save may take; a member keeps what it has drawn until it ends. The last is that of a disk that is near its end.
var diskTimes = [...]time.Duration{time.Millisecond, time.Millisecond, 20 * time.Millisecond, 300 * time.Millisecond}

// member is a running server: a raft.Node, a transport, the state it has applied.
type member struct {
	raft.Node
	id     uint64
	loop   loop
	fsync  time.Duration
	wrong  sabotage
	disk   *disk
	net    *rafttest.Member
	ctx    context.Context // ends with stop
	cancel context.CancelFunc
	ended  chan struct{}
	leads  bool // as the last Ready says
	async  async
	rand   *rand.Rand       // of how snapshots are sent; owned by run
	told   <-chan error     // the ErrorC
	bad    func(why string) // takes note of what must not be
	url    func(uint64) string

	snapshots chan snapshotStep

	mu      sync.Mutex
	state   machine
	applied uint64
	conf    *raftpb.ConfState
	waiters map[string]chan struct{} // of commands, by id
	reads   map[string]chan uint64   // of reads, by id: get the index to be read at
	moved   chan struct{}            // closed and replaced when applied grows
	gone    bool                     // it has applied its own removal
	removed bool                     // it was told by ErrorC that it was removed

	installed int // snapshots
}

// silent does not even format what raft says all the time; it still panics when raft does.
type silent struct{ *raft.DefaultLogger }

func (silent) Infof(string, ...any) {}

// startMember runs a member on what its disk has.
func (s *simulation) startMember(id uint64, d *disk, o options) *member {
	m := s.newMember(id, d, o)
	go m.run()
	return m
}

// newMember returns a member whose loop does not run yet.
func (s *simulation) newMember(id uint64, d *disk, o options) *member {
	m := &member{
		id: id, loop: o.loop, fsync: o.fsync, wrong: s.cfg.sabotage, disk: d, ended: make(chan struct{}), moved: make(chan struct{}),
		waiters: make(map[string]chan struct{}), reads: make(map[string]chan uint64),
		rand: rand.New(rand.NewPCG(o.seed, id)), told: o.errorC, bad: s.violated, snapshots: make(chan snapshotStep),
	}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	last, err := d.Snapshot()
	must(err)
	m.conf = last.GetMetadata().GetConfState()
	if m.applied = last.GetMetadata().GetIndex(); m.applied > 0 {
		m.state, err = stateIn(last.GetData(), m.applied)
		must(err)
		d.commitTo(m.applied)
	}
	m.Node = raft.RestartNode(&raft.Config{
		ID: id, ElectionTick: 10, HeartbeatTick: 1, Storage: d, Applied: m.applied, MaxSizePerMsg: 4 << 10, MaxInflightMsgs: 64,
		MaxUncommittedEntriesSize: 1 << 20, CheckQuorum: true, PreVote: true,
		AsyncStorageWrites: o.loop == loopAsync,
		Logger:             silent{&raft.DefaultLogger{Logger: log.New(io.Discard, "", 0)}},
	})
	m.net = s.c.Start(id, m)
	m.url = s.c.URL
	m.setPeers()
	return m
}

// Process implements rafthttp.Raft.
func (m *member) Process(ctx context.Context, msg *raftpb.Message) error {
	if m.IsIDRemoved(msg.GetFrom()) {
		return rafthttp.ErrMemberRemoved
	}
	if msg.GetType() == raftpb.MsgSnap {
		return m.stepSnapshot(ctx, msg)
	}
	return m.Step(ctx, msg)
}

// IsIDRemoved implements rafthttp.Raft.
func (m *member) IsIDRemoved(id uint64) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state.Removed[id]
}

// hear takes note of what ErrorC says.
func (m *member) hear(err error) {
	if !errors.Is(err, rafthttp.ErrMemberRemoved) {
		m.bad("ErrorC says: " + err.Error())
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.removed = true
}

// handle does what raft wants done, in the order it wants it. It reports false if the member crashed meanwhile.
func (m *member) handle(rd raft.Ready) bool {
	if rd.SoftState != nil {
		m.leads = rd.RaftState == raft.StateLeader
	}
	early := m.leads && m.loop == loopEarly
	if early {
		m.send(rd.Messages)
	}
	if len(rd.Entries) > 0 || !raft.IsEmptyHardState(rd.HardState) || !raft.IsEmptySnap(rd.Snapshot) {
		if !m.diskWorks() {
			return false
		}
		m.save(rd.HardState, rd.Entries, rd.Snapshot)
	}
	if !early {
		m.send(rd.Messages)
	}
	m.applyAll(rd.CommittedEntries)
	m.answer(rd.ReadStates)
	return true
}

// diskWorks waits for the disk. It reports false if the member crashed before that was done.
func (m *member) diskWorks() bool {
	select {
	case <-time.After(m.fsync):
		return true
	case <-m.ctx.Done():
		return false
	}
}

// save makes durable what raft has decided, and replaces the state by a snapshot that has come.
func (m *member) save(hs *raftpb.HardState, entries []*raftpb.Entry, s *raftpb.Snapshot) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if database := m.disk.save(hs, entries, s); database != nil {
		m.install(s, database)
	}
}

func (m *member) applyAll(entries []*raftpb.Entry) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range entries {
		if e.GetIndex() > m.applied { // else a snapshot was installed before
			m.apply(e)
		}
	}
	if len(entries) > 0 {
		close(m.moved)
		m.moved = make(chan struct{})
	}
}

// compact saves the state now and then, and forgets the log behind it. It is called when raft has heard what is applied: until
// then it may read those entries again.
func (m *member) compact() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.applied >= m.disk.newest+snapshotEvery {
		m.disk.snapshot(m.applied, m.conf, databaseOf(&m.state, m.applied))
	}
}

// answer tells readers from which index on they may read.
func (m *member) answer(states []raft.ReadState) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range states {
		if c := m.reads[string(r.RequestCtx)]; c != nil {
			c <- r.Index
			delete(m.reads, string(r.RequestCtx))
		}
	}
}

// smallEnough is how large a database may be that goes inside of its message.
const smallEnough = 64 << 10

// readable is a database; one that is hidden in an io.NopCloser cannot seek.
type readable struct{ *bytes.Reader }

func (readable) Close() error { return nil }

// send gives messages to the transport: snapshots with the state beside them, as a database, or in them.
func (m *member) send(ms []*raftpb.Message) {
	for _, msg := range ms {
		if msg.GetType() != raftpb.MsgSnap {
			m.net.Send([]*raftpb.Message{msg})
			continue
		}
		msg = proto.CloneOf(msg)
		msg.Snapshot = m.current()
		database := msg.Snapshot.Data
		if len(database) <= smallEnough && m.rand.IntN(3) == 0 {
			m.net.Send([]*raftpb.Message{msg})
			continue
		}
		msg.Snapshot.Data = nil
		var r io.ReadCloser = readable{bytes.NewReader(database)}
		if m.rand.IntN(3) == 0 {
			r = io.NopCloser(bytes.NewReader(database))
		}
		m.net.SendSnapshot(snap.NewMessage(msg, r, int64(len(database))))
	}
}

// current returns a snapshot of now: the last on the disk may be from before its receiver joined, who refuses it then.
func (m *member) current() *raftpb.Snapshot {
	m.mu.Lock()
	defer m.mu.Unlock()
	term, err := m.disk.Term(m.applied)
	must(err)
	return &raftpb.Snapshot{Data: databaseOf(&m.state, m.applied), Metadata: &raftpb.SnapshotMetadata{
		Index: new(m.applied), Term: new(term), ConfState: proto.CloneOf(m.conf),
	}}
}

// install replaces the state by a snapshot. It is called with mu held.
func (m *member) install(s *raftpb.Snapshot, database []byte) {
	m.installed++
	m.applied, m.conf = s.GetMetadata().GetIndex(), s.GetMetadata().GetConfState()
	state, err := stateIn(database, m.applied)
	if err != nil {
		m.bad(err.Error())
		return
	}
	m.state = state
	m.setPeers()
}

// apply is called with mu held.
func (m *member) apply(e *raftpb.Entry) {
	m.applied = e.GetIndex()
	switch {
	case e.GetType() == raftpb.EntryConfChange:
		var change raftpb.ConfChange
		must(proto.Unmarshal(e.Data, &change))
		m.conf = m.ApplyConfChange(&change)
		if change.GetType() == raftpb.ConfChangeRemoveNode {
			m.state.remove(change.GetNodeId())
			m.gone = m.gone || change.GetNodeId() == m.id
		}
		m.setPeers()
	case len(e.Data) > 0:
		var c command
		must(json.Unmarshal(e.Data, &c))
		m.state.apply(c)
		if w := m.waiters[c.id()]; w != nil {
			close(w)
			delete(m.waiters, c.id())
		}
	}
}

// setPeers tells the transport who is a member. It is called with mu held, or before anybody else knows of m.
func (m *member) setPeers() {
	for _, p := range m.net.Status().Peers {
		if !slices.Contains(m.conf.GetVoters(), uint64(p.ID)) {
			m.net.RemovePeer(p.ID)
		}
	}
	for _, id := range m.conf.GetVoters() {
		m.net.AddPeer(types.ID(id), []string{m.url(id)})
	}
}

var errStopped = errors.New("the member stopped")

// appendTo appends to a list. An error other than raft.ErrProposalDropped leaves open whether that was or will be done.
func (m *member) appendTo(ctx context.Context, c command) error {
	data, err := json.Marshal(c)
	must(err)
	w := make(chan struct{})
	m.mu.Lock()
	m.waiters[c.id()] = w
	m.mu.Unlock()
	defer func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.waiters, c.id())
	}()
	if err := m.Propose(ctx, data); err != nil || m.wrong.hastyAcks {
		return err
	}
	select {
	case <-w:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-m.ctx.Done():
		return errStopped
	}
}

// read returns a list as it is now, or later before it returns.
func (m *member) read(ctx context.Context, id, list string) (string, error) {
	c := make(chan uint64, 1)
	m.mu.Lock()
	if m.wrong.staleReads {
		defer m.mu.Unlock()
		return m.state.Lists[list], nil
	}
	m.reads[id] = c
	m.mu.Unlock()
	defer func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.reads, id)
	}()
	if err := m.ReadIndex(ctx, []byte(id)); err != nil {
		return "", err
	}
	var index uint64
	select {
	case index = <-c:
	case <-ctx.Done():
		return "", ctx.Err()
	case <-m.ctx.Done():
		return "", errStopped
	}
	for {
		m.mu.Lock()
		applied, moved, value := m.applied, m.moved, m.state.Lists[list]
		m.mu.Unlock()
		if applied >= index {
			return value, nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return "", ctx.Err()
		case <-m.ctx.Done():
			return "", errStopped
		}
	}
}

// view returns what the member has applied.
func (m *member) view() (applied, hash uint64, voters []uint64, gone bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.applied, m.state.hash(), slices.Sorted(slices.Values(m.conf.GetVoters())), m.gone
}

// stop ends the member; end ends what it has of the network.
func (m *member) stop(end func(*rafttest.Member)) {
	m.cancel()
	<-m.ended
	end(m.net)
	m.Stop()
	m.disk.close()
}
