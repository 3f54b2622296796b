package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/etcd/raft/v3"
	"go.etcd.io/etcd/raft/v3/raftpb"
	"go.etcd.io/etcd/server/v3/etcdserver/api/rafthttp"
	"go.etcd.io/etcd/server/v3/etcdserver/api/snap"
	stats "go.etcd.io/etcd/server/v3/etcdserver/api/v2stats"
	"go.etcd.io/etcd/server/v3/wal"
	"go.etcd.io/etcd/server/v3/wal/walpb"
	"go.uber.org/zap"
)

const (
	clusterID     = 0x1000
	snapshotEvery = 20 // entries
	statePrefix   = "/state/"
)

// node is a member. All but Process and steps belongs to the goroutine of run.
type node struct {
	id          uint64
	url         string
	raft        raft.Node
	storage     *raft.MemoryStorage
	wal         *wal.WAL
	snapshotter *snap.Snapshotter
	transport   *rafthttp.Transport

	store       *store
	state       *state
	confState   raftpb.ConfState
	applied     uint64
	appliedTerm uint64
	snapshotted uint64

	steps chan snapshotStep
}

// open starts a member on the data that it finds.
func open(cfg config) (*node, error) {
	waldir, snapdir := filepath.Join(cfg.dir, "wal"), filepath.Join(cfg.dir, "snap")
	restart := wal.Exist(waldir)
	if !restart && !cfg.found && !cfg.join {
		return nil, fmt.Errorf("%s: no log: found a cluster (-new) or join one (-join). A member that has lost its log needs a new id: "+
			"it has forgotten its votes", waldir)
	}
	if restart && (cfg.found || cfg.join) {
		return nil, fmt.Errorf("%s: there is a log already: start without -new and -join", waldir)
	}
	rt, err := rafthttp.NewRoundTripper(cfg.tls, time.Second)
	if err != nil {
		return nil, err
	}
	n := &node{
		id: cfg.id, url: cfg.members[cfg.id], storage: raft.NewMemoryStorage(),
		store: &store{dir: filepath.Join(cfg.dir, "state"), client: &http.Client{Transport: rt}},
		state: &state{Members: cfg.members},
		steps: make(chan snapshotStep),
	}
	for _, dir := range []string{n.store.dir, snapdir} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
	}
	n.snapshotter = snap.New(zap.NewNop(), snapdir)
	if err := n.replay(waldir, restart); err != nil {
		return nil, err
	}
	c := &raft.Config{
		ID: cfg.id, ElectionTick: 10, HeartbeatTick: 1, Storage: n.storage, Applied: n.applied,
		MaxSizePerMsg: 1 << 20, MaxInflightMsgs: 256,
	}
	if !cfg.found {
		n.raft = raft.RestartNode(c)
	} else {
		var founders []raft.Peer
		for _, id := range slices.Sorted(maps.Keys(cfg.members)) {
			founders = append(founders, raft.Peer{ID: id, Context: []byte(cfg.members[id])})
		}
		n.raft = raft.StartNode(c, founders)
	}
	return n, n.connect(cfg)
}

// replay reads the newest snapshot and the log behind it.
func (n *node) replay(dir string, restart bool) error {
	lg := zap.NewNop()
	wal.SegmentSizeBytes = 1 << 20
	own := fmt.Sprintf("member %d of cluster %x", n.id, clusterID)
	if !restart {
		w, err := wal.Create(lg, dir, []byte(own))
		if err != nil {
			return err
		}
		w.Close()
	}
	saved, err := wal.ValidSnapshotEntries(lg, dir)
	if err != nil {
		return err
	}
	snapshot, err := n.snapshotter.LoadNewestAvailable(saved)
	if err != nil && !errors.Is(err, snap.ErrNoSnapshot) {
		return err
	}
	var start walpb.Snapshot
	if snapshot != nil {
		start.Index, start.Term = snapshot.Metadata.Index, snapshot.Metadata.Term
		if err := n.storage.ApplySnapshot(*snapshot); err != nil {
			return err
		}
		if err := n.install(*snapshot); err != nil {
			return err
		}
	}
	if n.wal, err = wal.Open(lg, dir, start); err != nil {
		return err
	}
	owner, hardState, entries, err := n.wal.ReadAll()
	if err != nil {
		return err
	}
	if string(owner) != own {
		return fmt.Errorf("%s: the log of %q, not of %s", dir, owner, own)
	}
	return errors.Join(n.storage.SetHardState(hardState), n.storage.Append(entries))
}

// connect starts the transport.
func (n *node) connect(cfg config) error {
	n.transport = &rafthttp.Transport{
		Logger:      zap.NewNop(),
		TLSInfo:     cfg.tls,
		ID:          types.ID(cfg.id),
		ClusterID:   clusterID,
		Raft:        n,
		ServerStats: stats.NewServerStats("", ""),
		LeaderStats: stats.NewLeaderStats(zap.NewNop(), strconv.FormatUint(cfg.id, 10)),
		ErrorC:      make(chan error),
	}
	if err := n.transport.Start(); err != nil {
		return err
	}
	n.meet()
	return nil
}

// meet tells the transport who the others are.
func (n *node) meet() {
	for id, url := range n.state.Members {
		if id != n.id {
			n.transport.AddPeer(types.ID(id), []string{url})
		}
	}
}

// serve serves the other members: messages, and the states of snapshots.
func (n *node) serve(cfg config) error {
	u, err := url.Parse(n.url)
	if err != nil {
		return err
	}
	ln, err := rafthttp.NewListener(*u, &cfg.tls)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle(rafthttp.RaftPrefix, n.transport.Handler())
	mux.Handle(rafthttp.RaftPrefix+"/", n.transport.Handler())
	mux.Handle(statePrefix, http.StripPrefix(statePrefix, http.FileServer(http.Dir(n.store.dir))))
	srv := &http.Server{Handler: mux}
	return srv.Serve(ln)
}

// run is the Ready loop.
func (n *node) run(served <-chan error) error {
	defer n.wal.Close()
	defer n.raft.Stop()
	defer n.transport.Stop()
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			n.raft.Tick()
		case rd := <-n.raft.Ready():
			if err := n.handle(rd); err != nil {
				return err
			}
			n.raft.Advance()
			if err := n.compact(); err != nil { // not before raft has heard what is applied: until then it may read that again
				return err
			}
		case step := <-n.steps:
			step.result <- n.raft.Step(context.Background(), step.m)
		case err := <-n.transport.ErrorC:
			return err
		case err := <-served:
			return err
		}
	}
}

func (n *node) handle(rd raft.Ready) error {
	if rd.SoftState != nil {
		fmt.Println("leader", rd.SoftState.Lead)
	}
	if !raft.IsEmptySnap(rd.Snapshot) {
		if err := n.saveSnapshot(rd.Snapshot); err != nil {
			return err
		}
	}
	if err := n.wal.Save(rd.HardState, rd.Entries); err != nil {
		return err
	}
	if !raft.IsEmptySnap(rd.Snapshot) {
		if err := errors.Join(n.storage.ApplySnapshot(rd.Snapshot), n.install(rd.Snapshot)); err != nil {
			return err
		}
		n.meet()
	}
	if err := n.storage.Append(rd.Entries); err != nil {
		return err
	}
	n.transport.Send(n.outgoing(rd.Messages))
	for _, e := range rd.CommittedEntries {
		if err := n.apply(e); err != nil {
			return err
		}
	}
	return nil
}

// outgoing puts into snapshots who the members are by now, and where the state is.
func (n *node) outgoing(messages []raftpb.Message) []raftpb.Message {
	for i := range messages {
		messages[i].Snapshot.Metadata.ConfState = n.confState
		if messages[i].Type == raftpb.MsgSnap {
			messages[i].Snapshot.Data = n.stateURL(messages[i].Snapshot.Metadata.Index)
		}
	}
	return messages
}

// stateURL is where members fetch the state of a snapshot of ours.
func (n *node) stateURL(index uint64) []byte {
	return []byte(n.url + statePrefix + filepath.Base(n.store.path(index)))
}

func (n *node) apply(e raftpb.Entry) error {
	switch e.Type {
	case raftpb.EntryConfChange:
		var cc raftpb.ConfChange
		if err := cc.Unmarshal(e.Data); err != nil {
			return err
		}
		n.confState = *n.raft.ApplyConfChange(cc)
		if _, ok := n.state.Members[cc.NodeID]; cc.Type == raftpb.ConfChangeAddNode && !ok {
			n.state.Members[cc.NodeID] = string(cc.Context)
			fmt.Println("member", cc.NodeID)
			n.transport.AddPeer(types.ID(cc.NodeID), []string{string(cc.Context)})
		}
	case raftpb.EntryNormal:
		if len(e.Data) > 0 {
			n.state.Lines = append(n.state.Lines, e.Data)
			fmt.Println(len(n.state.Lines), string(e.Data))
		}
	}
	n.applied, n.appliedTerm = e.Index, e.Term
	return nil
}

// compact makes a snapshot now and then, and drops the log before it.
func (n *node) compact() error {
	if n.applied < n.snapshotted+snapshotEvery {
		return nil
	}
	meta := raftpb.SnapshotMetadata{ConfState: n.confState, Index: n.applied, Term: n.appliedTerm}
	var err error
	if n.state.Metadata, err = meta.Marshal(); err != nil {
		return err
	}
	if err := n.store.save(n.applied, n.state); err != nil {
		return err
	}
	snapshot, err := n.storage.CreateSnapshot(n.applied, &n.confState, nil)
	if err != nil {
		return err
	}
	last := n.snapshotted
	n.snapshotted = n.applied
	return errors.Join(n.saveSnapshot(snapshot), n.storage.Compact(n.applied), n.store.removeBefore(last))
}

// saveSnapshot makes a snapshot known to the next start. Its state is saved.
func (n *node) saveSnapshot(s raftpb.Snapshot) error {
	if err := n.snapshotter.SaveSnap(s); err != nil {
		return err
	}
	record := walpb.Snapshot{Index: s.Metadata.Index, Term: s.Metadata.Term, ConfState: &s.Metadata.ConfState}
	if err := n.wal.SaveSnapshot(record); err != nil {
		return err
	}
	return n.wal.ReleaseLockTo(s.Metadata.Index)
}

// install makes the state of a snapshot ours.
func (n *node) install(s raftpb.Snapshot) error {
	st, err := n.store.load(s.Metadata.Index)
	if err != nil {
		return err
	}
	n.state, n.confState = st, s.Metadata.ConfState
	n.applied, n.appliedTerm, n.snapshotted = s.Metadata.Index, s.Metadata.Term, s.Metadata.Index
	for i, line := range st.Lines {
		fmt.Println(i+1, string(line))
	}
	return nil
}

// Process implements rafthttp.Raft. A snapshot is taken once its state is here.
func (n *node) Process(ctx context.Context, m raftpb.Message) error {
	if m.Type == raftpb.MsgSnap {
		if err := n.store.fetch(ctx, m.Snapshot); err != nil {
			return err
		}
		return n.stepSnapshot(ctx, m)
	}
	return n.raft.Step(ctx, m)
}

// snapshotStep is a MsgSnap that waits for the Ready loop.
type snapshotStep struct {
	m      raftpb.Message
	result chan error
}

// stepSnapshot has the Ready loop give raft a snapshot, between two Readys. raft has
// the members of the snapshot from then on, and a change that is older, and is still
// being applied, would change them (etcd#11510).
func (n *node) stepSnapshot(ctx context.Context, m raftpb.Message) error {
	step := snapshotStep{m, make(chan error, 1)}
	select {
	case n.steps <- step:
		return <-step.result
	case <-ctx.Done():
		return ctx.Err()
	}
}

// IsIDRemoved implements rafthttp.Raft: this program removes nobody.
func (n *node) IsIDRemoved(uint64) bool { return false }

// ReportUnreachable implements rafthttp.Raft.
func (n *node) ReportUnreachable(id uint64) { n.raft.ReportUnreachable(id) }

// ReportSnapshot implements rafthttp.Raft.
func (n *node) ReportSnapshot(id uint64, status raft.SnapshotStatus) {
	n.raft.ReportSnapshot(id, status)
}
