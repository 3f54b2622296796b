package rafthttp

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/internal/callback"
	"github.com/seed-4d73690b/rafthttp/internal/groups"
	"github.com/seed-4d73690b/rafthttp/internal/member"
	"github.com/seed-4d73690b/rafthttp/snap"
)

// GroupConfig is the configuration of a raft group of a Transport.
type GroupConfig struct {
	// Raft receives the messages and reports of the group, as Transport.Raft does those of the
	// Transport's own members: the ids are those of replicas. It must not be nil. IsIDRemoved is called only for
	// senders that the group does not have. Messages of one kind from one replica are
	// processed one after another. The context of a proposal ends after ReadTimeout and WriteTimeout together.
	Raft Raft
	// Replica is the id of the local replica; 0 means the id of the Transport. Ids of replicas must not
	// be used again in the same group after they were removed: a message for the former replica
	// would reach the new one.
	Replica uint64
	// Snapshotter saves the databases of the group, and must be its own: equal indexes of two groups would meet in a common
	// one. It is used as Transport.Snapshotter is. Nil: they are refused with 501.
	Snapshotter Snapshotter
	// ErrorC gets ErrMemberRemoved when another node says that the local replica was removed from the group. It may be nil,
	// and the transport never waits for it.
	ErrorC chan error
}

// Group is one of many raft groups that share the connections, queues and goroutines of a Transport: see
// Transport.Group. All methods are safe for concurrent use, except that Stop must not be called from inside a callback of
// the group.
//
// The other members of a group are replicas, and live on nodes: Transports of other processes. A replica
// has the id of its node, or an id of its own (AddReplica).
type Group struct {
	g groups.Group // in place: it is often in no cache, and a pointer to it would not be either
	t *Transport
}

var _ Transporter = (*Group)(nil)

// Group adds a raft group to a started Transport, which may have thousands. The id identifies the group on all nodes; it
// must not be 0, which is the group of the Transport's own members. The error is a *ConfigError for an invalid
// argument or an id in use, or ErrStopped.
//
// The groups of two nodes share two streams in each direction (docs/extensions.md, groups-1). Both nodes need this
// library, and the same ClusterID: a node without the extension is unreachable for groups, with ErrNoGroups as its last error. Each
// group has its share of the queues, and its Process runs on workers of its own if it blocks, so a group that sends too
// much, or does not process its messages, hardly delays the others (docs/groups.md). An idle group costs no goroutine and no timer.
//
// The Transport's own members are not affected, and may be stock members. A Transport that has groups only may have
// NoRaft as its Raft.
func (t *Transport) Group(id uint64, cfg GroupConfig) (*Group, error) {
	switch {
	case id == 0:
		return nil, &ConfigError{"Group", id, "an id other than 0, which is the group of the Transport's own members"}
	case cfg.Raft == nil || callback.IsNilPointer(cfg.Raft):
		return nil, &ConfigError{"GroupConfig.Raft", cfg.Raft, "what receives messages and reports of the group"}
	case callback.IsNil(cfg.Snapshotter):
		return nil, &ConfigError{"GroupConfig.Snapshotter", fmt.Sprintf("a nil %T", cfg.Snapshotter), "what saves databases, or nil itself for none"}
	case raft.IsLocalMsgTarget(cfg.Replica):
		return nil, &ConfigError{"GroupConfig.Replica", cfg.Replica, "the id of a replica: this one is of a local thread of raft"}
	}
	e := t.engine.Load()
	if e == nil {
		return nil, fmt.Errorf("rafthttp: Transport.Group was called before Start")
	}
	self := cfg.Replica
	if self == 0 {
		self = uint64(e.cfg.ID)
	}
	g := &Group{t: t}
	err := e.groups.Join(&g.g, id, self, groups.App{
		Raft: cfg.Raft, ErrorC: cfg.ErrorC,
		Store: callback.NewStore(cfg.Snapshotter, e.cfg.Guard.Of(id), e.cfg.ReadTimeout),
	})
	if errors.Is(err, groups.ErrJoined) {
		return nil, &ConfigError{"Group", id, "an id that no group of the Transport has yet"}
	}
	if err != nil {
		return nil, err
	}
	return g, nil
}

// Start implements Transporter. It does nothing: a Group is running.
func (g *Group) Start() error { return nil }

// Handler returns the handler of the Transport.
func (g *Group) Handler() http.Handler { return g.t.Handler() }

// Send sends each message to the replica in its To field, as Transport.Send does. An answer to a replica that the group does not have
// goes to the node that its last message came from, if that is known. Messages for the local replica and for raft's local threads are
// dropped and counted.
func (g *Group) Send(msgs []*raftpb.Message) { g.g.Send(msgs) }

// AddPeer adds a replica that has the id of its node. urls are those of the node: the last ones given for a node
// count, for all groups. It panics for an invalid URL or id, as Transport.AddPeer does; after Stop it does nothing.
func (g *Group) AddPeer(id types.ID, urls []string) { g.AddReplica(uint64(id), id, urls) }

// AddReplica adds a replica with an id of its own that lives on a node, or moves it there. It panics for an invalid URL
// or id. After Stop it does nothing.
func (g *Group) AddReplica(replica uint64, node types.ID, urls []string) {
	us := member.MustMember("AddReplica", node, urls)
	if replica == 0 || raft.IsLocalMsgTarget(replica) || replica == g.g.Self() {
		panic(fmt.Sprintf("rafthttp: AddReplica(%x, %s): not the id of another replica", replica, node))
	}
	if node == g.t.engine.Load().cfg.ID {
		panic(fmt.Sprintf("rafthttp: AddReplica(%x, %s): the node is the local one", replica, node))
	}
	g.g.Add(replica, node, us)
}

// AddRemote adds a replica, as AddPeer does, unless there is one: the connections to its node are shared in any case.
func (g *Group) AddRemote(id types.ID, urls []string) {
	if !g.g.Has(uint64(id)) {
		g.AddPeer(id, urls)
	}
}

// RemovePeer removes a replica. Its queued messages are dropped, and snapshots to it fail. The last replica on a node takes
// the connections along.
func (g *Group) RemovePeer(id types.ID) { g.g.Remove(uint64(id)) }

// RemoveAllPeers removes all replicas.
func (g *Group) RemoveAllPeers() { g.g.RemoveAll() }

// UpdatePeer moves the node of a replica to other URLs, for all groups. For an unknown replica it does nothing.
func (g *Group) UpdatePeer(id types.ID, urls []string) {
	g.g.Update(uint64(id), member.MustURLs("UpdatePeer", id, urls))
}

// ActiveSince returns since when messages of the node of a replica arrive, or the zero time.
func (g *Group) ActiveSince(id types.ID) time.Time { return g.g.ActiveSince(uint64(id)) }

// ActivePeers returns the number of replicas whose nodes are active.
func (g *Group) ActivePeers() int { return g.g.Active() }

// Stop ends the group on this node: no callback begins once it has returned, and the id is free. It waits for running
// callbacks of the group, and for IsIDRemoved up to a second, so it must not be called from inside one.
func (g *Group) Stop() { g.g.Leave() }

// SendSnapshot sends m to the replica in its To field, as Transport.SendSnapshot does. MaxSnapshots and SnapshotRateLimit hold
// for all groups of the Transport together, with a share for each node: m waits for its turn (Priority), unless 16 to the replica do so or
// are under way, without a limit of time or a goroutine, and is opened then if it has an Open. The Snapshotter of the replica's group saves it. A node that does not serve raft groups is not
// sent it: the snapshot fails with ErrNoGroups. There is exactly one ReportSnapshot for each, before Stop returns; after
// the call of Stop, m is closed without a report.
func (g *Group) SendSnapshot(m *snap.Message) { g.g.SendSnapshot(m) }
