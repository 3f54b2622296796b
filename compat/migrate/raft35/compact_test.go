package main

import (
	"fmt"
	"io"
	"log"
	"path/filepath"
	"testing"

	"go.etcd.io/etcd/raft/v3"
	"go.etcd.io/etcd/raft/v3/raftpb"
	"go.etcd.io/etcd/server/v3/etcdserver/api/rafthttp"
	"go.etcd.io/etcd/server/v3/etcdserver/api/snap"
	stats "go.etcd.io/etcd/server/v3/etcdserver/api/v2stats"
	"go.uber.org/zap"
)

// panics is raft's log. It tells of a panic of the node's goroutine, which would end the process.
type panics struct {
	raft.Logger
	said chan string
}

func (p panics) Panicf(format string, v ...any) {
	p.said <- fmt.Sprintf(format, v...)
	select {}
}

// advancing is a node that does something before it advances.
type advancing struct {
	raft.Node
	before func()
}

func (a advancing) Advance() {
	a.before()
	a.Node.Advance()
}

// follower is member 1 of three, whose log begins behind entry 3. It follows member 2.
func follower(t *testing.T, logger raft.Logger) *node {
	t.Helper()
	dir := t.TempDir()
	n := &node{
		id: 1, storage: raft.NewMemoryStorage(), store: &store{dir: dir},
		state:       &state{Members: map[uint64]string{1: "http://127.0.0.1:1"}},
		snapshotter: snap.New(zap.NewNop(), dir), confState: raftpb.ConfState{Voters: []uint64{1, 2, 3}},
		steps: make(chan snapshotStep),
	}
	must(t, n.replay(filepath.Join(dir, "wal"), false))
	must(t, n.storage.ApplySnapshot(raftpb.Snapshot{
		Metadata: raftpb.SnapshotMetadata{Index: 3, Term: 1, ConfState: n.confState},
	}))
	n.applied, n.appliedTerm = 3, 1
	n.raft = raft.RestartNode(&raft.Config{
		ID: 1, ElectionTick: 1000, HeartbeatTick: 1, Storage: n.storage, Applied: 3, MaxSizePerMsg: 1 << 20, MaxInflightMsgs: 256,
		Logger: logger,
	})
	n.transport = &rafthttp.Transport{
		Logger: zap.NewNop(), ID: 1, ClusterID: 1, Raft: n,
		ServerStats: stats.NewServerStats("", ""), LeaderStats: stats.NewLeaderStats(zap.NewNop(), "1"),
	}
	must(t, n.transport.Start())
	return n
}

// lead has member 2 send a message.
func (n *node) lead(t *testing.T, m raftpb.Message) {
	m.From, m.To, m.Term = 2, 1, 1
	must(t, n.raft.Step(t.Context(), m))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestCompactAfterAdvance: until Advance says that entries are applied, raft reads them again where it campaigns, as here where
// the leader hands over. They have to be there, and are compacted afterwards (docs/async-storage-writes.md).
func TestCompactAfterAdvance(t *testing.T) {
	const last = 40
	logger := panics{&raft.DefaultLogger{Logger: log.New(io.Discard, "", 0)}, make(chan string, 1)}
	n := follower(t, logger)
	plain, served, campaigned := n.raft, make(chan error), make(chan struct{})
	once := false
	n.raft = advancing{plain, func() {
		if n.applied < last || once {
			return
		}
		once = true
		n.lead(t, raftpb.Message{Type: raftpb.MsgTimeoutNow})
		plain.Status() // comes behind the message
		close(campaigned)
	}}
	ended := make(chan error)
	go func() { ended <- n.run(served) }()

	var entries []raftpb.Entry
	for i := uint64(4); i <= last; i++ {
		entries = append(entries, raftpb.Entry{Index: i, Term: 1, Data: []byte("x")})
	}
	n.lead(t, raftpb.Message{
		Type: raftpb.MsgApp, Index: 3, LogTerm: 1, Commit: last, Entries: entries,
	})
	select {
	case said := <-logger.said:
		t.Fatal("raft panics: ", said)
	case <-campaigned:
	}
	served <- nil
	must(t, <-ended)
	if first, _ := n.storage.FirstIndex(); first != last+1 {
		t.Fatal("the log is not compacted: it begins with entry", first)
	}
}
