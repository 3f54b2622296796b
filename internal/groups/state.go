package groups

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"

	"github.com/seed-4d73690b/rafthttp/internal/callback"
	"github.com/seed-4d73690b/rafthttp/internal/fair"
	"github.com/seed-4d73690b/rafthttp/internal/member"
	"github.com/seed-4d73690b/rafthttp/internal/queue"
	"github.com/seed-4d73690b/rafthttp/internal/snapshot"
	"github.com/seed-4d73690b/rafthttp/internal/stream"
)

// State is the state of all groups together.
type State struct {
	Groups int
	Nodes  []NodeState // in no order
	Pools  []fair.PoolStatus
	// Strangers is what waits for Process, of each kind, from replicas that their groups do not have.
	Strangers []Received
	Unknown   uint64 // messages for groups that are not here
	Refused   uint64 // by other nodes, of all groups until now, as is the next
	Dropped   queue.Drops
}

// NodeState is what there is to know about a node.
type NodeState struct {
	Member   *member.Member
	URLs     []string
	Kinds    []stream.Kind // of Writers and Readers
	Writers  []*stream.GroupWriter
	Readers  []*stream.Reader
	Posts    fair.SendStatus
	Received []Received
	// Sent and Got are the snapshots of all groups to the node and from it.
	Sent, Got snapshot.AccountStatus
}

// Received is what waits for Process, of one kind from one node.
type Received struct {
	fair.ShareStatus
	Name     string
	Limits   queue.Limits
	Dropped  queue.Drops   // that Process did not get
	Dropping queue.DropRun // that goes on
}

// State returns the current state.
func (gs *Groups) State() State {
	st := State{Groups: gs.Len(), Unknown: gs.unknown.Load(), Refused: gs.refusals.Load()}
	for i := range st.Dropped {
		st.Dropped[i] = gs.drops[i].Load()
	}
	for k, p := range gs.pools {
		st.Pools = append(st.Pools, p.Status()) // which notes ages
		st.Strangers = append(st.Strangers, gs.received(p, gs.guests[k]))
	}
	for _, n := range gs.allNodes() {
		one := NodeState{Member: n.member, URLs: n.urls.List(), Kinds: kinds[:], Writers: n.writers[:], Readers: n.readers[:], Posts: n.posts.status()}
		one.Sent, one.Got = n.sent.Status(), n.received.Status()
		for k, p := range gs.pools {
			one.Received = append(one.Received, gs.received(p, n.shares[k]))
		}
		st.Nodes = append(st.Nodes, one)
	}
	return st
}

// received returns the state of a share of a pool.
func (gs *Groups) received(p *fair.Pool, of *fair.Share) Received {
	return Received{
		ShareStatus: p.ShareStatus(of), Name: p.Name(), Limits: gs.node.ReceiveLimits, Dropped: of.Drops.Dropped(), Dropping: of.Drops.Dropping(),
	}
}

// Calls returns calls of the application with messages that have not returned, for the log.
func (gs *Groups) Calls() (all []callback.Call) {
	for _, p := range gs.pools {
		for _, in := range p.Running() {
			all = append(all, callback.Call{Name: fmt.Sprintf("%s of group %d, %s", callback.RaftProcess, in.Group, p.Name())})
		}
	}
	for range gs.receiving.Load() {
		all = append(all, callback.Call{Name: "GroupReceiver.ReceiveGroups"})
	}
	return all
}

// GroupState is the state of one group.
type GroupState struct {
	ID, Replica uint64
	Replicas    []ReplicaState // by id
	Refused     uint64         // by other nodes, which do not have the group or the replica
	Failing     bool           // the last call of Process returned an error
	Dropped     queue.Drops    // received messages; DropLocal: those that Send dropped
	HeldBytes   int64          // memory of received messages that wait or are processed
	BlockedFor  time.Duration  // of the longest call of Process, if it blocks
}

// ReplicaState is the state of a replica on another node.
type ReplicaState struct {
	ID          uint64
	Node        types.ID
	ActiveSince time.Time // of the node; the zero time: it is not active
	// SnapshotRetryAt is when raft is told of failed snapshots, see member.SnapshotReports.HeldUntil.
	SnapshotRetryAt time.Time
}

// State returns the current state.
func (g *Group) State() GroupState {
	st := GroupState{ID: g.id, Replica: g.self, Failing: g.failing.Load()}
	load := g.load()
	st.HeldBytes, st.BlockedFor = load.heldBytes, load.blockedFor
	for _, r := range g.replicas.all() {
		st.Replicas = append(st.Replicas, ReplicaState{r.id, r.node.member.RemoteID, r.node.member.Activity.ActiveSince(), g.snapshotsHeldUntil(r.id)})
	}
	slices.SortFunc(st.Replicas, func(a, b ReplicaState) int { return cmp.Compare(a.ID, b.ID) })
	if d := g.dropped.Load(); d != nil {
		st.Dropped, st.Refused = d.received.Dropped(), d.refused.Load()
		st.Dropped[queue.DropLocal] += d.local.Load()
	}
	return st
}
