package groups

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"slices"
	"sync"
	"sync/atomic"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/snap"
)

const (
	snapshotEvery = 16 // applied entries between snapshots
	keepEntries   = 4  // entries kept behind a snapshot
	maxPayload    = 8 << 10
)

var errEnded = errors.New("the replica has ended")

// disk is what survives the crash of a replica: its log, and the databases that were received. It implements
// rafthttp.Snapshotter.
type disk struct {
	*raft.MemoryStorage
	id     uint64
	newest uint64 // index of its snapshot

	mu        sync.Mutex
	databases map[uint64][]byte // by index
	saved     int
}

func newDisk(id uint64) *disk {
	return &disk{MemoryStorage: raft.NewMemoryStorage(), id: id, databases: map[uint64][]byte{}}
}

// bootstrap makes the disk that of a first member of a group.
func (d *disk) bootstrap(g *group, voters []uint64) {
	d.newest = 1
	must(d.ApplySnapshot(&raftpb.Snapshot{
		Data:     databaseOf(database{Group: g.id, Index: 1, Hash: g.id}),
		Metadata: &raftpb.SnapshotMetadata{Index: new(uint64(1)), Term: new(uint64(1)), ConfState: &raftpb.ConfState{Voters: voters}},
	}))
}

// SaveDBFrom implements rafthttp.Snapshotter.
func (d *disk) SaveDBFrom(r io.Reader, index uint64) (int64, error) {
	b, err := io.ReadAll(r)
	if err != nil {
		return int64(len(b)), err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.databases[index] = b
	d.saved++
	return int64(len(b)), nil
}

// take returns a database that was received, and forgets all up to it.
func (d *disk) take(index uint64) []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	b := d.databases[index]
	for i := range d.databases {
		if i <= index {
			delete(d.databases, i)
		}
	}
	return b
}

// replica is a running member of a group. It implements rafthttp.Raft.
type replica struct {
	sim    *simulation
	group  *group
	id     uint64
	disk   *disk
	errorC chan error
	gate   gate
	over   atomic.Bool  // Stop has returned
	calls  atomic.Int32 // of Process that have not returned

	mu        sync.Mutex
	raft      *raft.RawNode
	net       *rafthttp.Group
	ended     bool
	gone      bool // it has applied its removal
	changed   bool // it has applied a change of the members since its last snapshot: a new one needs a snapshot that has it
	applied   uint64
	hash      uint64
	voters    []uint64
	removed   map[uint64]bool
	peers     map[uint64]bool
	open      map[uint64]int // snapshots that were sent and not reported, by replica
	installed int
	reported  int
	failed    int // of those
}

// logger drops what raft logs, and notes that it panics.
type logger struct {
	*raft.DefaultLogger
	bad func(judge, format string, args ...any)
}

func (logger) Infof(string, ...any)    {}
func (logger) Warningf(string, ...any) {}

func (l logger) Panicf(format string, args ...any) {
	l.bad("panic", "raft: "+format, args...)
	l.DefaultLogger.Panicf(format, args...)
}

// startReplica runs a replica on its disk, in a group of a Transport.
func (s *simulation) startReplica(t *rafthttp.Transport, g *group, d *disk) *replica {
	r := &replica{sim: s, group: g, id: d.id, disk: d, errorC: make(chan error, 1), removed: map[uint64]bool{}, peers: map[uint64]bool{}, open: map[uint64]int{}}
	last, err := d.Snapshot()
	must(err)
	if index := last.GetMetadata().GetIndex(); index > 0 {
		r.install(index, last.GetData(), last.GetMetadata().GetConfState())
	}
	r.raft, err = raft.NewRawNode(&raft.Config{
		ID: d.id, ElectionTick: electionTicks, HeartbeatTick: heartbeatTicks, Storage: d, Applied: r.applied, MaxSizePerMsg: 16 << 10, MaxInflightMsgs: 64,
		MaxUncommittedEntriesSize: 1 << 20, CheckQuorum: true, PreVote: true, StepDownOnRemoval: true,
		Logger: logger{&raft.DefaultLogger{Logger: log.New(io.Discard, "", 0)}, s.violated},
	})
	must(err)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.net, err = t.Group(g.id, rafthttp.GroupConfig{Raft: r, Replica: d.id, Snapshotter: d, ErrorC: r.errorC})
	must(err)
	r.setPeers()
	r.drain()
	return r
}

// Process implements rafthttp.Raft.
func (r *replica) Process(ctx context.Context, m *raftpb.Message) error {
	if m.GetTo() != r.id || groupOf(m.GetFrom()) != r.group.id {
		r.sim.violated("address", "replica %d gets a message from %d to %d", r.id, m.GetFrom(), m.GetTo())
	}
	r.called("Process")
	r.calls.Add(1)
	defer r.calls.Add(-1)
	if err := r.gate.pass(ctx, m); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended {
		return errEnded
	}
	r.meet([]uint64{m.GetFrom()}) // a leader that joined while this replica was away could not be answered
	err := r.raft.Step(m)
	r.drain()
	return err
}

// called notes a callback after Stop.
func (r *replica) called(what string) {
	if r.over.Load() {
		r.sim.violated("address", "replica %d: %s is called after Stop", r.id, what)
	}
}

// IsIDRemoved implements rafthttp.Raft.
func (r *replica) IsIDRemoved(id uint64) bool {
	r.called("IsIDRemoved")
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.removed[id]
}

// ReportUnreachable implements rafthttp.Raft.
func (r *replica) ReportUnreachable(id uint64) {
	r.called("ReportUnreachable")
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.ended {
		r.raft.ReportUnreachable(id)
		r.drain()
	}
}

// ReportSnapshot implements rafthttp.Raft.
func (r *replica) ReportSnapshot(id uint64, status raft.SnapshotStatus) {
	r.called("ReportSnapshot")
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reported++
	if status == raft.SnapshotFailure {
		r.failed++
	}
	if r.open[id]--; r.open[id] < 0 {
		r.sim.violated("report", "replica %d gets more reports for %d than it has sent snapshots", r.id, id)
	}
	if !r.ended {
		r.raft.ReportSnapshot(id, status)
		r.drain()
	}
}

// do runs f with the lock held, unless the replica has ended, and then does what raft wants.
func (r *replica) do(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.ended {
		f()
		r.drain()
	}
}

// drain does what raft wants. It is called with mu held.
func (r *replica) drain() {
	for r.raft.HasReady() {
		rd := r.raft.Ready()
		if !raft.IsEmptySnap(rd.Snapshot) {
			r.receive(rd.Snapshot)
		}
		must(r.disk.Append(rd.Entries))
		if !raft.IsEmptyHardState(rd.HardState) {
			must(r.disk.SetHardState(rd.HardState))
		}
		for _, m := range rd.Messages {
			r.send(m)
		}
		for _, e := range rd.CommittedEntries {
			r.apply(e)
		}
		r.raft.Advance(rd)
	}
	if r.changed || r.applied >= r.disk.newest+snapshotEvery {
		r.compact()
	}
}

// receive saves and installs a snapshot that raft has accepted.
func (r *replica) receive(s *raftpb.Snapshot) {
	index, b := s.GetMetadata().GetIndex(), s.GetData()
	if b == nil {
		b = r.disk.take(index)
	}
	s = proto.CloneOf(s)
	s.Data = b
	must(r.disk.ApplySnapshot(s))
	r.disk.newest = index
	r.install(index, b, s.GetMetadata().GetConfState())
	r.installed++
	r.setPeers()
}

func (r *replica) install(index uint64, b []byte, cs *raftpb.ConfState) {
	d := r.group.install(index, b)
	r.applied, r.hash, r.voters = index, d.Hash, cs.GetVoters()
	clear(r.removed)
	for _, id := range d.Removed {
		r.removed[id] = true
	}
}

func (r *replica) apply(e *raftpb.Entry) {
	if e.GetIndex() != r.applied+1 {
		r.sim.violated("log", "replica %d applies %d after %d", r.id, e.GetIndex(), r.applied)
	}
	r.hash = r.group.apply(e, r.hash)
	r.applied = e.GetIndex()
	if e.GetType() != raftpb.EntryConfChange {
		return
	}
	var c raftpb.ConfChange
	must(proto.Unmarshal(e.GetData(), &c))
	if r.removed[c.GetNodeId()] {
		c.NodeId = new(raft.None) // has no effect
	}
	r.voters = r.raft.ApplyConfChange(&c).GetVoters()
	if c.GetType() == raftpb.ConfChangeRemoveNode && c.GetNodeId() != raft.None {
		r.removed[c.GetNodeId()] = true
		r.gone = r.gone || c.GetNodeId() == r.id
	}
	r.changed = true
	r.group.change(r.applied, &c, r.voters)
	r.setPeers()
}

// setPeers tells the transport who the members are.
func (r *replica) setPeers() {
	if r.net == nil {
		return
	}
	for id := range r.peers {
		if !slices.Contains(r.voters, id) {
			r.net.RemovePeer(types.ID(id))
			delete(r.peers, id)
		}
	}
	r.meet(r.voters)
}

// meet adds replicas.
func (r *replica) meet(ids []uint64) {
	for _, id := range ids {
		if id != r.id && !r.peers[id] && !r.removed[id] && nodeOf(id) != nodeOf(r.id) {
			r.peers[id] = true
			r.net.AddReplica(id, types.ID(nodeOf(id)), []string{r.sim.c.URL(nodeOf(id))})
		}
	}
}

// compact saves the state, and forgets the log behind it.
func (r *replica) compact() {
	_, err := r.disk.CreateSnapshot(r.applied, &raftpb.ConfState{Voters: r.voters}, databaseOf(database{r.group.id, r.applied, r.hash, sorted(r.removed)}))
	must(err)
	r.disk.newest, r.changed = r.applied, false
	if first, err := r.disk.FirstIndex(); err == nil && r.applied >= first+keepEntries {
		must(r.disk.Compact(r.applied - keepEntries))
	}
}

// send gives a message to the transport: a snapshot with its database beside it, or in it.
func (r *replica) send(m *raftpb.Message) {
	if m.GetType() != raftpb.MsgSnap {
		r.net.Send([]*raftpb.Message{m})
		return
	}
	to := m.GetTo()
	if !r.peers[to] {
		return
	}
	r.open[to]++
	m = proto.CloneOf(m)
	if m.GetSnapshot().GetMetadata().GetIndex()%5 == 0 {
		r.net.Send([]*raftpb.Message{m})
		return
	}
	b := m.Snapshot.Data
	m.Snapshot.Data = nil
	r.net.SendSnapshot(snap.NewMessage(m, io.NopCloser(bytes.NewReader(b)), int64(len(b))))
}

// view is what the controller and the judges look at.
type view struct {
	id, applied, lead, term uint64
	gone                    bool
	voters                  []uint64
}

func (r *replica) view() view {
	r.mu.Lock()
	defer r.mu.Unlock()
	st := r.raft.BasicStatus()
	return view{r.id, r.applied, st.Lead, st.HardState.GetTerm(), r.gone, slices.Clone(r.voters)}
}

// halt has the replica do nothing more.
func (r *replica) halt() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended = true
}

// stopped looks at the reports once the group has ended on the node.
func (r *replica) stopped() {
	r.over.Store(true)
	if n := r.calls.Load(); n > 0 {
		r.sim.violated("address", "replica %d: %d calls of Process go on after Stop", r.id, n)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, n := range r.open {
		if n != 0 {
			r.sim.violated("report", "replica %d ends without a report of %d snapshots to %d", r.id, n, id)
		}
	}
	r.sim.count(r)
}

func (v view) String() string {
	return fmt.Sprintf("%d: applied %d, leader %d in term %d, members %v", v.id, v.applied, v.lead, v.term, v.voters)
}
