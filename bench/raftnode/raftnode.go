// Package raftnode runs raft as etcd does: its node with etcd's settings, and a loop around it. The log is in memory.
package raftnode

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
)

// What etcd tells raft, by default.
const (
	tick            = 100 * time.Millisecond
	electionTicks   = 10
	MaxSizePerMsg   = 1 << 20
	MaxInflightMsgs = 512
)

// firstIndex is the last index of the snapshot that a log begins with.
const firstIndex = 1

// keepEntries is how many entries a follower keeps that it has applied, so that its log needs little memory. A leader
// keeps all of them.
const keepEntries = 16

// Config says what node to start.
type Config struct {
	ID     uint64
	Voters []uint64
	// MaxInflightBytes of data may be under way to a follower; 0: no bound, as in etcd.
	MaxInflightBytes uint64
	// Log is that of an earlier node with this id; nil: a new one.
	Log *raft.MemoryStorage
	// Send sends messages, without blocking.
	Send func([]*raftpb.Message)
	// Committed unless nil is called with the index up to which the node has applied its log; it must not block.
	Committed func(index uint64)
}

// Node is a running node. Its methods may be called concurrently.
type Node struct {
	cfg     Config
	node    raft.Node
	log     *raft.MemoryStorage
	last    atomic.Uint64 // index in log
	applied atomic.Uint64
	lead    atomic.Uint64
	terms   atomic.Uint64
	reports atomic.Int64

	stop chan struct{}
	wg   sync.WaitGroup

	mu   sync.Mutex
	fail error
}

// NewLog returns an empty log of a group.
func NewLog(voters []uint64) (*raft.MemoryStorage, error) {
	l := raft.NewMemoryStorage()
	return l, l.ApplySnapshot(&raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{
		Index: new(uint64(firstIndex)), Term: new(uint64(1)), ConfState: &raftpb.ConfState{Voters: voters},
	}})
}

// Start runs a node until Stop.
func Start(cfg Config) (*Node, error) {
	n := &Node{cfg: cfg, log: cfg.Log, stop: make(chan struct{})}
	if n.log == nil {
		var err error
		if n.log, err = NewLog(cfg.Voters); err != nil {
			return nil, err
		}
	}
	hard, _, err := n.log.InitialState()
	if err != nil {
		return nil, err
	}
	last, err := n.log.LastIndex()
	if err != nil {
		return nil, err
	}
	n.last.Store(last)
	applied := max(hard.GetCommit(), firstIndex)
	n.applied.Store(applied)
	n.node = raft.RestartNode(&raft.Config{
		ID: cfg.ID, ElectionTick: electionTicks, HeartbeatTick: 1, Storage: n.log, Applied: applied,
		MaxSizePerMsg: MaxSizePerMsg, MaxInflightMsgs: MaxInflightMsgs, MaxInflightBytes: cfg.MaxInflightBytes,
		CheckQuorum: true, PreVote: true, Logger: silent,
	})
	n.wg.Go(n.run)
	return n, nil
}

// silent takes raft's log lines.
var silent = &raft.DefaultLogger{Logger: log.New(io.Discard, "", 0)}

// Process steps a message, as the Raft of a transport.
func (n *Node) Process(ctx context.Context, m *raftpb.Message) error { return n.node.Step(ctx, m) }

// ReportUnreachable tells raft that messages to a member were lost.
func (n *Node) ReportUnreachable(id uint64) {
	n.reports.Add(1)
	n.node.ReportUnreachable(id)
}

// Reports is how often ReportUnreachable was called.
func (n *Node) Reports() int64 { return n.reports.Load() }

// Campaign has the node become leader, if the others agree.
func (n *Node) Campaign(ctx context.Context) error { return n.node.Campaign(ctx) }

// Propose appends an entry; it blocks while there is no leader.
func (n *Node) Propose(ctx context.Context, data []byte) error { return n.node.Propose(ctx, data) }

// Last is the index of the last entry in the log.
func (n *Node) Last() uint64 { return n.last.Load() }

// Applied is the index up to which the log is applied.
func (n *Node) Applied() uint64 { return n.applied.Load() }

// Leads reports whether the node believes that it is the leader.
func (n *Node) Leads() bool { return n.lead.Load() == n.cfg.ID }

// Leaders is how many leaders the node has seen.
func (n *Node) Leaders() uint64 { return n.terms.Load() }

// Match is up to where the leader knows that a follower has its log.
func (n *Node) Match(id uint64) uint64 { return n.node.Status().Progress[id].Match }

// Log is the log, for a node that is started later. The node has stopped.
func (n *Node) Log() *raft.MemoryStorage { return n.log }

// Err is why the node has failed, if it has.
func (n *Node) Err() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.fail
}

// Stop ends the node and returns what made it fail, if anything did.
func (n *Node) Stop() error {
	close(n.stop)
	n.wg.Wait()
	n.node.Stop()
	return n.Err()
}

func (n *Node) run() {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			n.node.Tick()
		case rd := <-n.node.Ready():
			if err := n.handle(rd); err != nil {
				n.mu.Lock()
				n.fail = fmt.Errorf("node %d: %w", n.cfg.ID, err)
				n.mu.Unlock()
			}
			n.node.Advance()
		case <-n.stop:
			return
		}
	}
}

// handle does what a Ready asks for. A leader sends before it saves, a follower after.
func (n *Node) handle(rd raft.Ready) error {
	if rd.SoftState != nil {
		if rd.SoftState.Lead != raft.None && n.lead.Load() != rd.SoftState.Lead {
			n.terms.Add(1)
		}
		n.lead.Store(rd.SoftState.Lead)
	}
	if n.Leads() {
		n.cfg.Send(rd.Messages)
	}
	if err := n.save(rd); err != nil {
		return err
	}
	if !n.Leads() {
		n.cfg.Send(onlyLastAnswer(rd.Messages))
	}
	if len(rd.CommittedEntries) == 0 {
		return nil
	}
	applied := rd.CommittedEntries[len(rd.CommittedEntries)-1].GetIndex()
	n.applied.Store(applied)
	if n.cfg.Committed != nil {
		n.cfg.Committed(applied)
	}
	return n.compact(applied)
}

func (n *Node) save(rd raft.Ready) error {
	if !raft.IsEmptySnap(rd.Snapshot) {
		return errors.New("a snapshot has arrived; every log goes back to the beginning")
	}
	if !raft.IsEmptyHardState(rd.HardState) {
		if err := n.log.SetHardState(rd.HardState); err != nil {
			return err
		}
	}
	if len(rd.Entries) == 0 {
		return nil
	}
	err := n.log.Append(rd.Entries)
	n.last.Store(rd.Entries[len(rd.Entries)-1].GetIndex())
	return err
}

// compact forgets most of what a follower has applied.
func (n *Node) compact(applied uint64) error {
	first, err := n.log.FirstIndex()
	if err != nil || n.Leads() || applied < first+2*keepEntries {
		return err
	}
	return n.log.Compact(applied - keepEntries)
}

// onlyLastAnswer leaves out all answers to appends but the last, which says what the others do, as etcd does.
func onlyLastAnswer(msgs []*raftpb.Message) []*raftpb.Message {
	answered := false
	kept := make([]*raftpb.Message, 0, len(msgs))
	for i := len(msgs) - 1; i >= 0; i-- {
		if msgs[i].GetType() == raftpb.MsgAppResp {
			if answered {
				continue
			}
			answered = true
		}
		kept = append(kept, msgs[i])
	}
	for i, j := 0, len(kept)-1; i < j; i, j = i+1, j-1 {
		kept[i], kept[j] = kept[j], kept[i]
	}
	return kept
}
