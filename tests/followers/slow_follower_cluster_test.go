package followers_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/memnet"
	"github.com/seed-4d73690b/rafthttp/memnet/rafttest"
)

// The members of a raftCluster. Tests make the leader campaign and slow the
// follower down; the third member keeps the quorum quick.
const (
	theLeader   = 1
	theFollower = 3
	raftMembers = 3
)

// raftCluster is three members with real raft nodes and transports on a network
// in memory. It is made inside a bubble of testing/synctest.
type raftCluster struct {
	*rafttest.Cluster
	streams streamConns
	tune    func(*raft.Config)
	shared  bool                         // members send by a raft group of their transports
	members [raftMembers + 1]*raftMember // by id
}

// newRaftCluster starts the members, with raft's configuration as etcd has it and
// the defaults of the transport, and returns once member 1 leads and all streams
// are up.
func newRaftCluster(t *testing.T, window int, tune func(*raft.Config), tuneTransport func(*rafthttp.Transport)) *raftCluster {
	t.Helper()
	c := newNetwork(t, window, tune, tuneTransport)
	for id := uint64(1); id <= raftMembers; id++ {
		c.start(id)
	}
	c.elect(t)
	return c
}

// newNetwork makes a cluster of which no member runs yet.
func newNetwork(t *testing.T, window int, tune func(*raft.Config), tuneTransport func(*rafthttp.Transport)) *raftCluster {
	t.Helper()
	c := &raftCluster{tune: tune}
	c.Cluster = rafttest.New(t, rafttest.Config{
		Members: raftMembers, Network: []memnet.Option{memnet.WithBuffer(window)},
		Tune: func(id uint64, tr *rafthttp.Transport) {
			tr.DialContext = c.streams.dial(id, tr.DialContext)
			if tuneTransport != nil {
				tuneTransport(tr)
			}
		},
	})
	t.Cleanup(func() {
		for _, m := range c.members[1:] {
			m.stop()
		}
	})
	return c
}

// elect makes member 1 the leader, once all streams are up. Then clocks start.
func (c *raftCluster) elect(t *testing.T) {
	t.Helper()
	testmember.Within(t, 10*time.Second, func() bool {
		for _, m := range c.members[1:] {
			st := m.transport.Status()
			peers := st.Peers
			if st.Groups != nil {
				peers = append(peers, st.Groups.Nodes...)
			}
			for _, p := range peers {
				for _, l := range p.Lanes {
					if p.ID != types.ID(m.id) && !l.Up {
						return false
					}
				}
			}
		}
		return true
	})
	leader := c.leader()
	require.NoError(t, leader.node.Campaign(t.Context()))
	testmember.Within(t, 10*time.Second, func() bool { return leader.node.Status().RaftState == raft.StateLeader })
	for _, m := range c.members[1:] {
		m.startClock()
	}
	testmember.Within(t, 10*time.Second, func() bool { return leader.acknowledged(theFollower) == leader.lastIndex() })
}

// emptyLog is what each member begins with.
func emptyLog() *raft.MemoryStorage {
	log := raft.NewMemoryStorage()
	_ = log.ApplySnapshot(&raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{
		Index: new(uint64(1)), Term: new(uint64(1)), ConfState: &raftpb.ConfState{Voters: []uint64{1, 2, 3}},
	}})
	return log
}

// start runs a member with an empty log. Its clock stands still.
func (c *raftCluster) start(id uint64) *raftMember { return c.restart(id, emptyLog()) }

// restart is start with the log that the member had before.
func (c *raftCluster) restart(id uint64, log *raft.MemoryStorage) *raftMember {
	m := newRaftMember(id, log, c.tune)
	c.members[id] = m
	if c.shared {
		m.share(c.Start(id, m))
	} else {
		m.attach(c.Start(id, m))
	}
	return m
}

// newRaftMember starts a raft node.
func newRaftMember(id uint64, storage *raft.MemoryStorage, tune func(*raft.Config)) *raftMember {
	m := &raftMember{
		id: id, log: storage, outstanding: 16 << 20, acks: make(map[uint64]uint64), ticks: make(chan struct{}),
		unreachable: make(map[uint64]int), stopped: make(chan struct{}),
	}
	m.commits.L = &m.mu
	cfg := raft.Config{
		ID: id, ElectionTick: 10, HeartbeatTick: 1, Storage: storage, MaxSizePerMsg: 1 << 20, MaxInflightMsgs: 512,
		CheckQuorum: true, PreVote: true, Logger: &raft.DefaultLogger{Logger: log.New(io.Discard, "", 0)},
	}
	if tune != nil {
		tune(&cfg)
	}
	m.node = raft.RestartNode(&cfg)
	return m
}

// attach has the member send by a transport.
func (m *raftMember) attach(transport *rafttest.Member) {
	m.transport = transport
	ctx, cancel := context.WithCancel(context.Background())
	m.cancel = cancel
	go m.run(ctx)
}

// follower is what is slow.
func (c *raftCluster) follower() *raftMember { return c.members[theFollower] }

func (c *raftCluster) leader() *raftMember { return c.members[theLeader] }

// raftMember is a raft node with a log in memory, and the Raft of its transport.
type raftMember struct {
	id          uint64
	node        raft.Node
	log         *raft.MemoryStorage
	transport   *rafttest.Member
	ticks       chan struct{} // closed when the clock starts
	cancel      context.CancelFunc
	stopped     chan struct{}
	group       []byte          // what the contexts of its messages begin with; nil: there is only one
	shared      *rafthttp.Group // by which it sends; nil: by the transport
	outstanding int             // bytes that load has proposed at most, and that are not committed

	mu          sync.Mutex
	before      func(context.Context, *raftpb.Message) error // of raft getting a message; nil: nothing
	acks        map[uint64]uint64                            // the last index that a member acknowledged
	got         int                                          // appends
	unreachable map[uint64]int                               // reports
	commits     sync.Cond                                    // committed or ended changed
	committed   int                                          // entries of load
	committedAt []time.Time                                  // of each
	ended       bool
}

// stop ends the member as a stop of the process does.
func (m *raftMember) stop() {
	m.mu.Lock()
	m.ended = true
	m.commits.Broadcast()
	m.mu.Unlock()
	m.transport.Stop()
	m.cancel()
	<-m.stopped
}

func (m *raftMember) startClock() { close(m.ticks) }

func (m *raftMember) run(ctx context.Context) {
	defer close(m.stopped)
	defer m.node.Stop()
	var ticks <-chan time.Time
	started := m.ticks
	for {
		select {
		case <-started:
			started = nil
			tick := time.NewTicker(100 * time.Millisecond)
			defer tick.Stop()
			ticks = tick.C
		case <-ticks:
			m.node.Tick()
		case rd := <-m.node.Ready():
			m.handle(rd)
			m.node.Advance()
		case <-ctx.Done():
			return
		}
	}
}

func (m *raftMember) handle(rd raft.Ready) {
	if !raft.IsEmptySnap(rd.Snapshot) {
		_ = m.log.ApplySnapshot(rd.Snapshot)
	}
	if !raft.IsEmptyHardState(rd.HardState) {
		_ = m.log.SetHardState(rd.HardState)
	}
	_ = m.log.Append(rd.Entries)
	if m.group != nil {
		for _, msg := range rd.Messages {
			msg.Context = append(bytes.Clone(m.group), msg.Context...)
		}
	}
	if m.shared != nil {
		m.shared.Send(rd.Messages)
	} else {
		m.transport.Send(rd.Messages)
	}
	for _, e := range rd.CommittedEntries {
		if e.GetType() == raftpb.EntryConfChangeV2 {
			var change raftpb.ConfChangeV2
			_ = proto.Unmarshal(e.GetData(), &change)
			m.node.ApplyConfChange(&change)
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range rd.CommittedEntries {
		if len(e.GetData()) > 0 && e.GetType() == raftpb.EntryNormal {
			m.committed++
			m.committedAt = append(m.committedAt, time.Now())
		}
	}
	m.commits.Broadcast()
}

// lastIndex is the end of the member's log.
func (m *raftMember) lastIndex() uint64 {
	last, _ := m.log.LastIndex()
	return last
}

// Process implements rafthttp.Raft.
func (m *raftMember) Process(ctx context.Context, msg *raftpb.Message) error {
	m.mu.Lock()
	before := m.before
	m.mu.Unlock()
	if before != nil {
		if err := before(ctx, msg); err != nil {
			if lost, ok := errors.AsType[errLostAppend](err); ok {
				return lost.error
			}
			return err
		}
	}
	switch msg.GetType() {
	case raftpb.MsgApp:
		m.note(msg)
	case raftpb.MsgAppResp:
		if !msg.GetReject() {
			m.mu.Lock()
			m.acks[msg.GetFrom()] = max(m.acks[msg.GetFrom()], msg.GetIndex())
			m.mu.Unlock()
		}
	}
	return m.node.Step(ctx, msg)
}

// slow has f called before raft gets a message.
func (m *raftMember) slow(f func(context.Context, *raftpb.Message) error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.before = f
}

// note counts what an append brought, and has all entries share one slice of data,
// so that a log of gigabytes is small.
func (m *raftMember) note(msg *raftpb.Message) {
	for _, e := range msg.GetEntries() {
		if bytes.Equal(e.GetData(), payload[:len(e.GetData())]) {
			e.Data = payload[:len(e.GetData())]
		}
	}
	m.mu.Lock()
	m.got++
	m.mu.Unlock()
}

// appends returns how many appends came.
func (m *raftMember) appends() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.got
}

// acknowledged returns the last index that another member acknowledged.
func (m *raftMember) acknowledged(id uint64) uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.acks[id]
}

func (m *raftMember) IsIDRemoved(uint64) bool { return false }

func (m *raftMember) ReportUnreachable(id uint64) {
	m.mu.Lock()
	m.unreachable[id]++
	m.mu.Unlock()
	m.node.ReportUnreachable(id)
}

func (m *raftMember) ReportSnapshot(id uint64, s raft.SnapshotStatus) { m.node.ReportSnapshot(id, s) }

// peer is the state of another member as this one sees it.
func (m *raftMember) peer(id uint64) rafthttp.PeerStatus {
	st := m.transport.Status()
	peers := st.Peers
	if m.shared != nil {
		peers = st.Groups.Nodes
	}
	for _, p := range peers {
		if p.ID == types.ID(id) {
			return p
		}
	}
	return rafthttp.PeerStatus{}
}

// drops counts what lanes of this member dropped of what goes between it and another.
func (m *raftMember) drops(id uint64) (n uint64) {
	for _, l := range m.peer(id).Lanes {
		n += l.Dropped
	}
	return n
}

const largestEntry = 1 << 20

// payload is the data of all entries.
var payload = testmember.RandomBytes(largestEntry)

// load proposes n entries of size bytes as quickly as a quorum commits them, or at
// pace bytes a second, unless that is 0. It returns when all are proposed.
func (m *raftMember) load(ctx context.Context, n, size, pace int) error {
	m.mu.Lock()
	base := m.committed
	m.mu.Unlock()
	start := time.Now()
	for i := range n {
		if pace > 0 {
			time.Sleep(time.Until(start.Add(transmission(i*size, pace))))
		}
		if !m.awaitCommits(base + i - max(1, m.outstanding/size)) {
			return context.Canceled
		}
		if err := m.node.Propose(ctx, payload[:size]); err != nil {
			return err
		}
	}
	return nil
}

// awaitCommits waits until n entries of load are committed, and reports false if
// the member ended.
func (m *raftMember) awaitCommits(n int) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for m.committed < n && !m.ended {
		m.commits.Wait()
	}
	return !m.ended
}

// transmission is how long a number of bytes takes at a rate in bytes a second.
func transmission(bytes, rate int) time.Duration {
	return time.Duration(float64(bytes) / float64(rate) * float64(time.Second))
}
