//go:build unix

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/snap"
)

var errEnded = errors.New("the replica has ended")

// replica is a member of a group. It implements rafthttp.Raft.
type replica struct {
	node      *node
	group, id uint64
	disk      *disk
	removed   chan error // gets an error when other nodes say that the replica was removed
	over      chan struct{}
	stopping  sync.Once

	mu      sync.Mutex
	raft    *raft.RawNode
	net     *rafthttp.Group
	ended   bool
	state   state
	conf    *raftpb.ConfState
	peers   map[uint64]bool
	waiting map[uint64]chan<- result // by id of a command: of proposals
	reads   map[uint64]chan<- uint64 // by id of a read: gets the index that it must see
	changed chan struct{}            // closed when something was applied
}

// startReplica runs a replica on its disk.
func startReplica(n *node, group, id uint64, d *disk) (*replica, error) {
	r := &replica{
		node: n, group: group, id: id, disk: d, removed: make(chan error, 1), over: make(chan struct{}),
		state: state{Data: map[string]string{}}, conf: &raftpb.ConfState{}, peers: map[uint64]bool{},
		waiting: map[uint64]chan<- result{}, reads: map[uint64]chan<- uint64{}, changed: make(chan struct{}),
	}
	s, err := d.Snapshot()
	if err != nil {
		return nil, err
	}
	if s.GetMetadata().GetIndex() > 0 {
		if err := r.install(s); err != nil {
			return nil, err
		}
	}
	r.raft, err = raft.NewRawNode(&raft.Config{
		ID: id, Storage: d, Applied: r.state.Index, Logger: logger{n.cfg.log.Named(fmt.Sprintf("group-%d", group)).Sugar()},
		ElectionTick: 10, HeartbeatTick: 1, PreVote: true, CheckQuorum: true, StepDownOnRemoval: true,
		MaxSizePerMsg: 1 << 20, MaxInflightMsgs: 256, MaxInflightBytes: 4 << 20, MaxUncommittedEntriesSize: 8 << 20,
	})
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.net, err = n.transport.Group(group, rafthttp.GroupConfig{Raft: r, Replica: id, Snapshotter: d.databases, ErrorC: r.removed})
	if err != nil {
		return nil, err
	}
	r.setPeers()
	r.drain()
	return r, nil
}

// logger drops what raft says of usual things.
type logger struct{ *zap.SugaredLogger }

func (logger) Info(...any)             {}
func (logger) Infof(string, ...any)    {}
func (logger) Warning(...any)          {}
func (logger) Warningf(string, ...any) {}

// await ends the replica once it was removed.
func (r *replica) await() {
	select {
	case err := <-r.removed:
		r.node.part(r, err)
	case <-r.over:
	}
}

// setRemoved says that the replica was removed.
func (r *replica) setRemoved() {
	select {
	case r.removed <- rafthttp.ErrMemberRemoved:
	default:
	}
}

// stop ends the replica. The disk is closed.
func (r *replica) stop() {
	r.stopping.Do(func() {
		r.mu.Lock()
		r.ended = true
		for id, c := range r.waiting {
			c <- result{err: errEnded}
			delete(r.waiting, id)
		}
		close(r.changed)
		r.changed = nil
		r.mu.Unlock()
		close(r.over)
		r.net.Stop()
		if err := r.disk.close(); err != nil {
			r.node.fail(err)
		}
	})
}

// Process implements rafthttp.Raft.
func (r *replica) Process(_ context.Context, m *raftpb.Message) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended {
		return errEnded
	}
	if m.GetTo() != r.id {
		panic(fmt.Sprintf("group %d: a message for %d comes to %d", r.group, m.GetTo(), r.id))
	}
	r.meet([]uint64{m.GetFrom()}) // a leader that joined while this replica was away could not be answered
	err := r.raft.Step(m)
	r.drain()
	return err
}

// IsIDRemoved implements rafthttp.Raft.
func (r *replica) IsIDRemoved(id uint64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Contains(r.state.Removed, id)
}

// ReportUnreachable implements rafthttp.Raft.
func (r *replica) ReportUnreachable(id uint64) { r.do(func() { r.raft.ReportUnreachable(id) }) }

// ReportSnapshot implements rafthttp.Raft.
func (r *replica) ReportSnapshot(id uint64, status raft.SnapshotStatus) {
	r.do(func() { r.raft.ReportSnapshot(id, status) })
}

func (r *replica) tick() { r.do(r.raft.Tick) }

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
	for r.raft.HasReady() && !r.ended {
		rd := r.raft.Ready()
		if err := r.handle(&rd); err != nil {
			r.ended = true // nothing more is saved, nor promised
			r.node.fail(fmt.Errorf("group %d: %w", r.group, err))
			return
		}
		r.raft.Advance(rd)
	}
}

func (r *replica) handle(rd *raft.Ready) error {
	if !raft.IsEmptySnap(rd.Snapshot) {
		if err := r.receive(rd.Snapshot); err != nil {
			return fmt.Errorf("snapshot: %w", err)
		}
	}
	if err := r.disk.save(rd.HardState, rd.Entries); err != nil { // before anybody is promised that it is
		return fmt.Errorf("save: %w", err)
	}
	for _, m := range rd.Messages {
		r.send(m)
	}
	for _, e := range rd.CommittedEntries {
		if err := r.apply(e); err != nil {
			return fmt.Errorf("apply: %w", err)
		}
	}
	for _, s := range rd.ReadStates {
		r.answerRead(s)
	}
	if len(rd.CommittedEntries) > 0 {
		close(r.changed)
		r.changed = make(chan struct{})
	}
	return r.compact(r.node.cfg.compact)
}

// receive saves and installs a snapshot that raft has accepted.
func (r *replica) receive(s *raftpb.Snapshot) error {
	s = proto.CloneOf(s)
	index := s.GetMetadata().GetIndex()
	if s.Data == nil {
		b, err := r.disk.takeDatabase(index)
		if err != nil {
			return err
		}
		s.Data = b
	}
	if err := errors.Join(r.disk.ApplySnapshot(s), r.disk.rewrite(), r.install(s)); err != nil {
		return err
	}
	r.setPeers()
	close(r.changed)
	r.changed = make(chan struct{})
	r.node.cfg.log.Sugar().Infof("group %d\tinstalled snapshot\t%d", r.group, index)
	return r.disk.databases.RemoveBefore(index + 1)
}

func (r *replica) install(s *raftpb.Snapshot) error {
	st, err := decodeState(s.Data)
	if err != nil {
		return err
	}
	if st.Index != s.GetMetadata().GetIndex() {
		return fmt.Errorf("the database of snapshot %d is that of %d", s.GetMetadata().GetIndex(), st.Index)
	}
	if st.Group != 0 && st.Group != r.group {
		return fmt.Errorf("the database is that of group %d", st.Group)
	}
	r.state, r.conf = st, s.GetMetadata().GetConfState()
	return nil
}

// compact saves the state, and forgets the log behind it, once there are so many entries.
func (r *replica) compact(after uint64) error {
	last, err := r.disk.Snapshot()
	if err != nil || r.state.Index < last.GetMetadata().GetIndex()+after {
		return err
	}
	r.state.Group = r.group
	if _, err := r.disk.CreateSnapshot(r.state.Index, r.conf, encodeState(r.state)); err != nil {
		return err
	}
	if first, err := r.disk.FirstIndex(); err == nil && r.state.Index > first+r.node.cfg.keep {
		if err := r.disk.Compact(r.state.Index - r.node.cfg.keep); err != nil {
			return err
		}
	}
	return r.disk.rewrite()
}

// setPeers tells the transport who the members are.
func (r *replica) setPeers() {
	if r.net == nil {
		return
	}
	for id := range r.peers {
		if !slices.Contains(r.conf.GetVoters(), id) {
			r.net.RemovePeer(types.ID(id))
			delete(r.peers, id)
		}
	}
	r.meet(r.conf.GetVoters())
}

// meet adds replicas.
func (r *replica) meet(ids []uint64) {
	for _, id := range ids {
		node := nodeOf(id)
		if id != 0 && node != r.node.cfg.id && r.node.cfg.peers[node] != "" && !r.peers[id] && !slices.Contains(r.state.Removed, id) {
			r.peers[id] = true
			r.net.AddReplica(id, types.ID(node), []string{r.node.urlOf(node)})
		}
	}
}

// send gives a message to the transport: a snapshot with its database beside it, or now and then in it.
func (r *replica) send(m *raftpb.Message) {
	if m.GetType() != raftpb.MsgSnap || m.GetSnapshot().GetMetadata().GetIndex()%4 == 0 {
		r.net.Send([]*raftpb.Message{m})
		return
	}
	m = proto.CloneOf(m)
	b := m.Snapshot.Data
	m.Snapshot.Data = nil
	r.net.SendSnapshot(snap.NewMessage(m, io.NopCloser(bytes.NewReader(b)), int64(len(b))))
}
