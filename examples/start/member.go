package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/seed-4d73690b/rafthttp"
)

// member is raft, its log, and the data that the members agree on.
type member struct {
	raft.Node // with the methods below, all that a rafthttp.Raft has
	log       *diskLog

	mu      sync.Mutex
	data    map[string]string
	waiting map[uint64]chan struct{} // by id of the command: closed when it is applied

	seconds *prometheus.HistogramVec // how long a step of the Ready loop takes
}

// Process takes a message of another member.
func (m *member) Process(ctx context.Context, msg *raftpb.Message) error { return m.Step(ctx, msg) }

// IsIDRemoved says whether a member was removed. The members of this server never change.
func (m *member) IsIDRemoved(uint64) bool { return false }

// command is what an entry of raft's log says. Key and value are bytes, since JSON
// replaces those of a string that are not UTF-8.
type command struct {
	ID         uint64
	Key, Value []byte
}

// startMember starts raft with what is in the log. If that is empty, this is the
// first start, or an earlier one was killed before it had promised anything: it
// founds a cluster of these members.
func startMember(members []uint64, log *diskLog, logger raft.Logger) (*member, error) {
	m := &member{log: log, data: map[string]string{}, waiting: map[uint64]chan struct{}{}}
	// Raft's Step does not wait for the loop, so nothing but this shows a slow disk.
	m.seconds = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "raft_ready_seconds", Help: "How long the Ready loop takes to save (with fsync), and to apply.",
		Buckets: prometheus.ExponentialBuckets(0.0001, 4, 10), // 0.1 ms to 26 s
	}, []string{"step"})
	cfg := &raft.Config{
		ID: log.owner.Member, Storage: log, Logger: logger,
		ElectionTick: 10, HeartbeatTick: 1, PreVote: true, CheckQuorum: true,
		MaxSizePerMsg: 1 << 20, MaxInflightMsgs: 256, MaxUncommittedEntriesSize: 64 << 20,
	}
	new(rafthttp.Transport).LimitInflight(cfg) // the transport has the default queues
	last, err := log.LastIndex()
	if err != nil {
		return nil, err
	}
	if last > 0 {
		m.Node = raft.RestartNode(cfg)
		return m, nil
	}
	var peers []raft.Peer
	for _, id := range members { // the same, in the same order, at every member
		peers = append(peers, raft.Peer{ID: id})
	}
	m.Node = raft.StartNode(cfg, peers)
	return m, nil
}

// run does what raft says, in the order that raft needs, until ctx ends or
// something fails. It owns raft's time.
func (m *member) run(ctx context.Context, t *rafthttp.Transport) error {
	defer m.Stop()
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			m.Tick()
		case rd := <-m.Ready():
			start := time.Now()
			if err := m.log.save(rd); err != nil { // before anybody is promised that it is
				return fmt.Errorf("save: %w", err)
			}
			m.took("save", start)
			t.Send(rd.Messages) // does not block; what is lost is reported, and raft sends again
			start = time.Now()
			if err := m.apply(rd.CommittedEntries, t); err != nil {
				return fmt.Errorf("apply: %w", err)
			}
			m.took("apply", start)
			m.Advance()
		case err := <-t.ErrorC: // another member says that this one was removed
			return err
		case <-ctx.Done():
			return nil
		}
	}
}

// took observes a step of the Ready loop that began at start.
func (m *member) took(step string, start time.Time) {
	m.seconds.WithLabelValues(step).Observe(time.Since(start).Seconds())
}

// apply carries out what the members have agreed on.
func (m *member) apply(entries []*raftpb.Entry, t *rafthttp.Transport) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range entries {
		switch {
		case e.GetType() == raftpb.EntryConfChange:
			var change raftpb.ConfChange
			if err := proto.Unmarshal(e.Data, &change); err != nil {
				return err
			}
			t.SetConfState(m.ApplyConfChange(&change)) // for t.Health: who votes
		case len(e.Data) > 0: // a new leader begins with an empty entry
			var c command
			if err := json.Unmarshal(e.Data, &c); err != nil {
				return err
			}
			m.data[string(c.Key)] = string(c.Value)
			if done := m.waiting[c.ID]; done != nil {
				close(done)
				delete(m.waiting, c.ID)
			}
		}
	}
	return nil
}

// put sets a value. It returns when this member has applied it, which a majority
// has saved by then. After an error nobody knows whether it will be.
func (m *member) put(ctx context.Context, key, value string) error {
	c := command{ID: rand.Uint64(), Key: []byte(key), Value: []byte(value)}
	entry, err := json.Marshal(c)
	if err != nil {
		return err
	}
	done := make(chan struct{})
	m.mu.Lock()
	m.waiting[c.ID] = done
	m.mu.Unlock()
	defer func() {
		m.mu.Lock()
		delete(m.waiting, c.ID)
		m.mu.Unlock()
	}()
	if err := m.Propose(ctx, entry); err != nil { // waits for a leader
		return err
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return errors.New("not known to be written: try again")
	}
}

// get reads what this member has, which may be older than what others have.
func (m *member) get(key string) (value string, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	value, ok = m.data[key]
	return value, ok
}
