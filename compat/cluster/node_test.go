package cluster_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/seed-4d73690b/rafthttp/compat/member"
)

// node is a raft.Node whose messages go over a member's transport. Its state machine is the list of the commands applied.
// What a real one keeps on disk outlives kill and is there at the next start.
type node struct {
	id     uint64
	urls   *book
	dir    string
	listen string // host:port, the same after every start

	disk disk

	life sync.RWMutex // held for reading by clients, while they need the node to live

	// Of one life, from start to kill.
	kind   member.Kind
	member member.Member
	raft   raft.Node
	stop   context.CancelFunc
	done   sync.WaitGroup

	mu      sync.Mutex
	state   state
	removed map[uint64]bool // members that the log has removed
	waiting map[string]chan struct{}
	errors  []error // from ErrorC
}

// disk is what a node has saved.
type disk struct {
	storage  *raft.MemoryStorage
	snapshot state // the state machine at the storage's snapshot; guarded by node.mu
}

// state is a state machine and how far the log is applied to it.
type state struct {
	Commands []string
	Index    uint64
	Term     uint64
	Conf     *raftpb.ConfState
}

func (s state) clone() state {
	s.Commands = slices.Clone(s.Commands)
	return s
}

// book is where the members of a cluster are found.
type book struct {
	mu   sync.Mutex
	urls map[uint64]string
}

func (b *book) get(id uint64) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.urls[id]
}

func (b *book) all() map[uint64]string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return maps.Clone(b.urls)
}

func newNode(t *testing.T, id uint64, urls *book) *node {
	t.Helper()
	n := &node{id: id, urls: urls, dir: t.TempDir(), disk: disk{storage: raft.NewMemoryStorage()}}
	t.Cleanup(n.kill)
	return n
}

const (
	tick      = 20 * time.Millisecond
	heartbeat = 2  // ticks
	election  = 20 // ticks
)

// start brings the node to life with a transport of the kind. A node of a new cluster gets its first members in peers.
func (n *node) start(t *testing.T, kind member.Kind, peers ...raft.Peer) {
	t.Helper()
	n.mu.Lock() // a transport that was stopped may still ask
	n.kind, n.removed, n.waiting, n.errors = kind, make(map[uint64]bool), make(map[string]chan struct{}), nil
	n.state = n.disk.snapshot.clone()
	n.mu.Unlock()
	var m member.Member
	var err error
	for deadline := time.Now().Add(patience); ; <-time.After(tick) {
		m, err = member.Start(kind, member.Config{ID: n.id, Cluster: 0x2000, Dir: n.dir, Listen: n.listen, Raft: n, Failed: n.fail})
		// While a node is down a connection of somebody else's may take its port.
		if !errors.Is(err, syscall.EADDRINUSE) || time.Now().After(deadline) {
			break
		}
	}
	require.NoError(t, err)
	u, err := url.Parse(m.URL())
	require.NoError(t, err)
	n.member, n.listen = m, u.Host
	n.urls.mu.Lock()
	n.urls.urls[n.id] = m.URL()
	n.urls.mu.Unlock()

	cfg := &raft.Config{
		ID: n.id, ElectionTick: election, HeartbeatTick: heartbeat, Storage: n.disk.storage, Applied: n.state.Index,
		MaxSizePerMsg: 1 << 20, MaxInflightMsgs: 256, CheckQuorum: true, PreVote: true, Logger: &raft.DefaultLogger{Logger: quiet},
	}
	n.mu.Lock()
	if len(peers) > 0 {
		n.raft = raft.StartNode(cfg, peers)
	} else {
		n.raft = raft.RestartNode(cfg)
	}
	n.mu.Unlock()
	ctx, stop := context.WithCancel(context.Background())
	n.stop = stop
	for id, u := range n.urls.all() {
		if id != n.id {
			n.member.AddRemote(id, u) // until the log or a snapshot says that it is a member
		}
	}
	n.addPeers(n.state.Conf)
	n.done.Go(func() { n.run(ctx) })
}

// kill ends the node's life without a word to anybody.
func (n *node) kill() {
	if n.stop == nil {
		return
	}
	n.stop()
	n.done.Wait() // it may be adding a peer, which after Stop is a panic
	n.member.Stop()
	n.raft.Stop()
	n.stop = nil
}

// run is the loop of every raft program: save, send, apply.
func (n *node) run(ctx context.Context) {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			n.raft.Tick()
		case rd := <-n.raft.Ready():
			n.save(rd)
			n.send(rd.Messages)
			for _, e := range rd.CommittedEntries {
				n.apply(e)
			}
			n.raft.Advance()
		case <-ctx.Done():
			return
		}
	}
}

func (n *node) save(rd raft.Ready) {
	if !raft.IsEmptySnap(rd.Snapshot) {
		n.load(rd.Snapshot)
	}
	if rd.HardState != nil {
		must(n.disk.storage.SetHardState(rd.HardState))
	}
	must(n.disk.storage.Append(rd.Entries))
}

// load replaces the state machine by the database that came with a snapshot.
func (n *node) load(s *raftpb.Snapshot) {
	path := member.DatabasePath(n.dir, s.GetMetadata().GetIndex())
	text, err := os.ReadFile(path)
	must(err)
	var loaded state
	must(json.Unmarshal(text, &loaded))
	must(n.disk.storage.ApplySnapshot(s))
	n.mu.Lock()
	n.state, n.disk.snapshot = loaded, loaded.clone()
	n.mu.Unlock()
	n.addPeers(loaded.Conf)
}

func (n *node) addPeers(conf *raftpb.ConfState) {
	for _, id := range slices.Concat(conf.GetVoters(), conf.GetLearners()) {
		n.addPeer(id)
	}
}

func (n *node) send(msgs []*raftpb.Message) {
	var plain []*raftpb.Message
	for _, m := range msgs {
		if m.GetType() == raftpb.MessageType_MsgSnap {
			n.sendSnapshot(m)
		} else {
			plain = append(plain, m)
		}
	}
	n.member.Send(plain...)
}

// sendSnapshot sends the state machine as it is now, as etcd does, in place of the snapshot that raft holds.
func (n *node) sendSnapshot(m *raftpb.Message) {
	n.mu.Lock()
	now := n.state.clone()
	n.mu.Unlock()
	text, err := json.Marshal(now)
	must(err)
	file := filepath.Join(n.dir, fmt.Sprintf("sent-%d-%d", m.GetTo(), now.Index))
	must(os.WriteFile(file, text, 0o600))
	m = proto.CloneOf(m)
	m.Snapshot = &raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{Index: &now.Index, Term: &now.Term, ConfState: now.Conf}}
	n.member.SendSnapshot(m, member.Source{File: file})
}

func (n *node) apply(e *raftpb.Entry) {
	var conf *raftpb.ConfState
	if e.GetType() == raftpb.EntryType_EntryConfChange {
		var cc raftpb.ConfChange
		must(proto.Unmarshal(e.GetData(), &cc))
		conf = n.raft.ApplyConfChange(&cc)
		n.changeMembers(&cc)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.state.Index, n.state.Term = e.GetIndex(), e.GetTerm()
	if conf != nil {
		n.state.Conf = conf
	}
	key := fmt.Sprintf("conf %d", e.GetIndex())
	if e.GetType() == raftpb.EntryType_EntryNormal {
		if key = string(e.GetData()); key == "" {
			return
		}
		n.state.Commands = append(n.state.Commands, key)
	}
	if c := n.waiting[key]; c != nil {
		close(c)
		delete(n.waiting, key)
	}
}

func (n *node) changeMembers(cc *raftpb.ConfChange) {
	if cc.GetType() != raftpb.ConfChangeType_ConfChangeRemoveNode {
		n.addPeer(cc.GetNodeId())
		return
	}
	n.mu.Lock()
	n.removed[cc.GetNodeId()] = true
	n.mu.Unlock()
	if cc.GetNodeId() != n.id {
		n.member.MarkRemoved(cc.GetNodeId())
		n.member.RemovePeer(cc.GetNodeId())
	}
}

func (n *node) addPeer(id uint64) {
	if id != n.id {
		n.member.AddPeer(id, n.urls.get(id))
	}
}

// compact throws the log away up to what is applied, so that a member that lags behind needs a snapshot.
func (n *node) compact(t *testing.T) {
	t.Helper()
	n.mu.Lock()
	now := n.state.clone()
	n.disk.snapshot = now.clone()
	n.mu.Unlock()
	_, err := n.disk.storage.CreateSnapshot(now.Index, now.Conf, nil)
	require.NoError(t, err)
	require.NoError(t, n.disk.storage.Compact(now.Index))
}

// Process, IsIDRemoved, ReportUnreachable and ReportSnapshot are the transport's way to raft.
func (n *node) Process(ctx context.Context, m *raftpb.Message) error {
	r := n.node()
	if r == nil {
		return errors.New("not started")
	}
	return r.Step(ctx, m)
}

func (n *node) IsIDRemoved(id uint64) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.removed[id]
}

func (n *node) ReportUnreachable(id uint64) {
	if r := n.node(); r != nil {
		r.ReportUnreachable(id)
	}
}

func (n *node) ReportSnapshot(id uint64, status raft.SnapshotStatus) {
	if r := n.node(); r != nil {
		r.ReportSnapshot(id, status)
	}
}

// node returns the raft.Node; nil while the member is up and raft is not.
func (n *node) node() raft.Node {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.raft
}

func (n *node) fail(err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.errors = append(n.errors, err)
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}
