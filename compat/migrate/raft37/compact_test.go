package main

import (
	"fmt"
	"io"
	"log"
	"path/filepath"
	"testing"

	"go.etcd.io/etcd/server/v3/etcdserver/api/snap"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"

	"github.com/seed-4d73690b/rafthttp"
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
		snapshotter: snap.New(zap.NewNop(), dir), confState: &raftpb.ConfState{Voters: []uint64{1, 2, 3}},
		steps: make(chan snapshotStep),
	}
	must(t, n.replay(filepath.Join(dir, "wal"), false))
	must(t, n.storage.ApplySnapshot(&raftpb.Snapshot{
		Metadata: &raftpb.SnapshotMetadata{Index: new(uint64(3)), Term: new(uint64(1)), ConfState: n.confState},
	}))
	n.applied, n.appliedTerm = 3, 1
	n.raft = raft.RestartNode(&raft.Config{
		ID: 1, ElectionTick: 1000, HeartbeatTick: 1, Storage: n.storage, Applied: 3, MaxSizePerMsg: 1 << 20, MaxInflightMsgs: 256,
		Logger: logger,
	})
	n.transport = &rafthttp.Transport{ID: 1, ClusterID: 1, Raft: n}
	must(t, n.transport.Start())
	return n
}

// lead has member 2 send a message.
func (n *node) lead(t *testing.T, m *raftpb.Message) {
	m.From, m.To, m.Term = new(uint64(2)), new(uint64(1)), new(uint64(1))
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
		n.lead(t, &raftpb.Message{Type: raftpb.MsgTimeoutNow.Enum()})
		plain.Status() // comes behind the message
		close(campaigned)
	}}
	ended := make(chan error)
	go func() { ended <- n.run(served) }()

	var entries []*raftpb.Entry
	for i := uint64(4); i <= last; i++ {
		entries = append(entries, &raftpb.Entry{Index: new(i), Term: new(uint64(1)), Data: []byte("x")})
	}
	n.lead(t, &raftpb.Message{
		Type: raftpb.MsgApp.Enum(), Index: new(uint64(3)), LogTerm: new(uint64(1)), Commit: new(uint64(last)), Entries: entries,
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
