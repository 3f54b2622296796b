package docs_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"

	"github.com/seed-4d73690b/rafthttp"
)

// compacter is a member that compacts its log. Its state is a map that is held in memory and written to the disk at each compaction.
type compacter struct {
	raft.Node
	store             *store
	every, keep, most uint64 // in entries

	mu      sync.Mutex // guards what follows
	applied uint64
	values  map[string]string

	compactAt uint64 // the applied index of the next compaction; for the Ready loop
	retries   retries
}

// startCompacter starts raft from what is on the disk.
func startCompacter(id uint64, s *store, every, keep, most uint64) (*compacter, error) {
	m := &compacter{store: s, every: every, keep: keep, most: most, retries: retries{waits: map[uint64]time.Duration{}}}
	if err := m.restore(s.state); err != nil {
		return nil, err
	}
	m.Node = raft.RestartNode(&raft.Config{
		ID: id, Storage: s.memory, Applied: m.applied, // raft hands out the entries after it again
		ElectionTick: 10, HeartbeatTick: 1, MaxSizePerMsg: 1 << 20, MaxInflightMsgs: 256, PreVote: true, CheckQuorum: true,
		Logger: quietLogger,
	})
	return m, nil
}

// Process has nothing to check. The members of this cluster never change: if they do, the loop calls Step with a MsgSnap.
func (m *compacter) Process(ctx context.Context, msg *raftpb.Message) error { return m.Step(ctx, msg) }
func (m *compacter) IsIDRemoved(uint64) bool                                { return false } // members never change

func (m *compacter) run(ctx context.Context, t *rafthttp.Transport) error {
	defer m.Stop()
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			m.Tick()
		case rd := <-m.Ready():
			if err := m.store.save(rd); err != nil { // a received snapshot, too
				return fmt.Errorf("save: %w", err)
			}
			t.Send(rd.Messages)
			if !raft.IsEmptySnap(rd.Snapshot) {
				if err := m.restore(rd.Snapshot); err != nil {
					return err
				}
			}
			if err := m.apply(rd.CommittedEntries); err != nil {
				return err
			}
			m.Advance() // until then raft may read the entries that are being applied
			if err := m.compactIfLong(); errors.Is(err, errUnchanged) {
				logf("cannot compact the log; trying again later: %v", err)
			} else if err != nil {
				return fmt.Errorf("compact: %w", err)
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// compactIfLong compacts the log once it has grown by so many entries.
func (m *compacter) compactIfLong() error {
	if m.applied < m.compactAt {
		return nil
	}
	m.compactAt = m.applied + m.every // also the time of the next attempt
	data, err := json.Marshal(m.values)
	if err != nil {
		return err
	}
	term, err := m.store.memory.Term(m.applied)
	if err != nil {
		return err
	}
	state := &raftpb.Snapshot{Data: data, Metadata: &raftpb.SnapshotMetadata{
		Index: new(m.applied), Term: &term,
		ConfState: m.store.state.GetMetadata().GetConfState(), // if members change: the result of the last ApplyConfChange
	}}
	return m.store.compact(state, compactTo(m.Status(), m.applied, m.keep, m.most))
}

// compactTo returns the index up to which entries can be removed. It leaves at least keep applied entries, and on a leader up to
// most of them for an active follower that is further behind.
func compactTo(st raft.Status, applied, keep, most uint64) uint64 {
	upTo := applied - min(keep, applied)
	for id, follower := range st.Progress { // of a leader; empty on other members
		switch {
		case id == st.ID || !follower.RecentActive:
		case follower.State == tracker.StateSnapshot: // it needs the entries after its snapshot, not before
			upTo = min(upTo, follower.PendingSnapshot)
		default:
			upTo = min(upTo, follower.Match)
		}
	}
	return max(upTo, applied-min(most, applied))
}

// ReportSnapshot delays the report of a failure. Until it is reported, raft sends no other snapshot to this member.
func (m *compacter) ReportSnapshot(id uint64, status raft.SnapshotStatus) {
	m.retries.ended(id, status == raft.SnapshotFinish)
	if status == raft.SnapshotFinish {
		m.Node.ReportSnapshot(id, status)
		return
	}
	time.AfterFunc(m.retries.wait(id), func() { m.Node.ReportSnapshot(id, status) })
}

// restore takes over a state with its index.
func (m *compacter) restore(state *raftpb.Snapshot) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.values = map[string]string{}
	m.applied = state.GetMetadata().GetIndex()
	m.compactAt = m.applied + m.every
	if len(state.GetData()) == 0 { // of a new cluster
		return nil
	}
	return json.Unmarshal(state.GetData(), &m.values)
}

func (m *compacter) apply(entries []*raftpb.Entry) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range entries {
		if len(e.GetData()) > 0 {
			var change [2]string
			if err := json.Unmarshal(e.GetData(), &change); err != nil {
				return err
			}
			m.values[change[0]] = change[1]
		}
		m.applied = e.GetIndex()
	}
	return nil
}

// put writes a value and waits until it is applied, or until ctx ends.
func (m *compacter) put(ctx context.Context, key, value string) error {
	change, err := json.Marshal([2]string{key, value})
	if err != nil {
		return err
	}
	for {
		if err := m.Propose(ctx, change); err != nil && !errors.Is(err, raft.ErrProposalDropped) {
			return err
		}
		select {
		case <-time.After(20 * time.Millisecond): // and propose it again, which changes nothing
		case <-ctx.Done():
			return ctx.Err()
		}
		if m.copyOf()[key] == value {
			return nil
		}
	}
}

func (m *compacter) copyOf() map[string]string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.values)
}
