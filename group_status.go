package rafthttp

import (
	"cmp"
	"slices"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"

	"github.com/seed-4d73690b/rafthttp/internal/fair"
	"github.com/seed-4d73690b/rafthttp/internal/groups"
)

// GroupsStatus is the state of the raft groups of a Transport, in total.
type GroupsStatus struct {
	Groups int `json:"groups"`
	// Nodes are those with a replica of a group, sorted by id, with the streams "group" and "groupapp" and the
	// lanes "group", "groupapp" and "grouppost" to them, and "control", "append" and "proposal" from them, in whose ages groups with
	// blocked calls of Process have no part. Snapshots are those in progress, LastSnapshot and LastReceived of any group. Fields for probes and appends are not used.
	Nodes []PeerStatus `json:"nodes"`
	// Processing is the state of the workers that call Process, of each kind of messages, and Strangers are the lanes of the messages from
	// replicas that their groups do not have: within limits of their own, whatever their nodes.
	Processing []ProcessingStatus `json:"processing"`
	Strangers  []LaneStatus       `json:"strangers"`
	// Unknown counts received messages for groups that are not here, and Refused and Drops are those of all groups, also of former ones.
	Unknown uint64 `json:"unknown"`
	Refused uint64 `json:"refused"`
	Drops   Drops  `json:"drops"`
}

// GroupSnapshots are the snapshots of all raft groups between this node and another, beside those in PeerStatus.
type GroupSnapshots struct {
	Waiting   int              `json:"waiting"` // to the other node, for their turn
	Receiving []SnapshotStatus `json:"receiving,omitempty"`
	// Sent and Received count transfers that have ended well, SendFailures and ReceiveFailures the others.
	Sent            uint64 `json:"sent"`
	SendFailures    uint64 `json:"send_failures"`
	Received        uint64 `json:"received"`
	ReceiveFailures uint64 `json:"receive_failures"`
}

// ProcessingStatus is the state of the workers for one kind of messages of raft groups.
type ProcessingStatus struct {
	Name string `json:"name"` // "control", "append" or "proposal"
	// Waiting counts messages that wait for Process, and Running its calls. Blocked are those that have taken longer than
	// a second; the longest is of BlockedGroup and takes BlockedFor, in nanoseconds.
	Waiting      int           `json:"waiting"`
	Running      int           `json:"running"`
	Blocked      int           `json:"blocked"`
	BlockedGroup uint64        `json:"blocked_group,omitempty"`
	BlockedFor   time.Duration `json:"blocked_for_ns,omitempty"`
	// Messages counts messages that were processed, and Bytes their memory.
	Messages uint64 `json:"messages"`
	Bytes    uint64 `json:"bytes"`
}

// GroupStatus is the state of one raft group.
type GroupStatus struct {
	ID      uint64 `json:"id"`
	Replica uint64 `json:"replica"` // the local one
	// Replicas are the others, sorted by id.
	Replicas []ReplicaStatus `json:"replicas"`
	// Refused counts refusals of messages by nodes that do not have the group, have another replica of it, or have a smaller
	// MaxMessageBytes.
	Refused uint64 `json:"refused"`
	// Failing says that the last call of Process returned an error.
	Failing bool `json:"failing,omitempty"`
	// QueuedBytes is the memory of received messages that wait or are processed. BlockedFor is how long the longest call of
	// Process takes, in nanoseconds; 0: none has taken longer than a second. Both are 0 with a GroupReceiver.
	QueuedBytes int64         `json:"queued_bytes"`
	BlockedFor  time.Duration `json:"blocked_for_ns,omitempty"`
	// Dropped counts received messages that Process did not get, Drops the same by reason. Drops.Local counts
	// messages that Send dropped.
	Dropped uint64 `json:"dropped"`
	Drops   Drops  `json:"drops"`
}

// ReplicaStatus is the state of a replica of a raft group on another node.
type ReplicaStatus struct {
	ID   uint64   `json:"id"`
	Node types.ID `json:"node"`
	// ActiveSince is since when messages of its node arrive; the zero time: they do not.
	ActiveSince time.Time `json:"active_since,omitzero"`
	// SnapshotRetryAt is as that of a peer, for snapshots to the replica.
	SnapshotRetryAt time.Time `json:"snapshot_retry_at,omitzero"`
}

// Status returns the state of the group. It does not block.
func (g *Group) Status() GroupStatus { return groupStatus(g.g.State()) }

// GroupStatus returns the state of the raft group with this id, and whether there is one. It does not block.
func (t *Transport) GroupStatus(id uint64) (st GroupStatus, ok bool) {
	if e := t.engine.Load(); e != nil {
		if g := e.groups.StateOf(id); g != nil {
			return groupStatus(*g), true
		}
	}
	return GroupStatus{}, false
}

// WorstGroups returns the states of up to n raft groups, the worst first: those whose Process blocks, by for how long, then
// those whose Process fails, those with more inactive replicas, with more QueuedBytes, and with more messages dropped
// or refused. It looks at all groups, which takes about a millisecond for 1,000, and does not block.
func (t *Transport) WorstGroups(n int) (worst []GroupStatus) {
	if e := t.engine.Load(); e != nil {
		for _, g := range e.groups.Worst(n) {
			worst = append(worst, groupStatus(g))
		}
	}
	return worst
}

func groupStatus(st groups.GroupState) GroupStatus {
	all := GroupStatus{
		ID: st.ID, Replica: st.Replica, Failing: st.Failing, Refused: st.Refused, QueuedBytes: st.HeldBytes, BlockedFor: st.BlockedFor,
		Drops: Drops(st.Dropped.Named()),
	}
	all.Dropped = all.Drops.Total() - all.Drops.Local
	for _, r := range st.Replicas {
		all.Replicas = append(all.Replicas, ReplicaStatus(r))
	}
	return all
}

// groupsStatus returns the part of Status about groups; nil: there was none yet.
func (e *engine) groupsStatus() *GroupsStatus {
	if !e.groups.Used() {
		return nil
	}
	st := e.groups.State()
	all := &GroupsStatus{Groups: st.Groups, Unknown: st.Unknown, Refused: st.Refused, Drops: Drops(st.Dropped.Named()), Nodes: []PeerStatus{}}
	for _, n := range st.Nodes {
		all.Nodes = append(all.Nodes, nodeStatus(n))
	}
	for _, h := range st.Strangers {
		all.Strangers = append(all.Strangers, receivedLane(h))
	}
	slices.SortFunc(all.Nodes, func(a, b PeerStatus) int { return cmp.Compare(a.ID, b.ID) })
	for _, p := range st.Pools {
		all.Processing = append(all.Processing, ProcessingStatus{p.Name, p.Waiting, p.Running, p.Blocked, p.BlockedGroup, p.BlockedFor, p.Messages, p.Bytes})
	}
	return all
}

func nodeStatus(n groups.NodeState) PeerStatus {
	st := memberStatus(n.Member)
	st.URLs = n.URLs
	for i, w := range n.Writers {
		st.Streams = append(st.Streams, streamStatus(n.Kinds[i], StreamOut, w.State()))
		st.addSent(sendStatus(w.Queue.Status()))
	}
	for i, r := range n.Readers {
		s := streamStatus(n.Kinds[i], StreamIn, r.State())
		st.Streams = append(st.Streams, s)
		st.ReceivedBytes += s.Bytes
	}
	st.addSent(sendStatus(n.Posts))
	st.GroupSnapshots = GroupSnapshots{Waiting: n.Sent.Waiting, Sent: n.Sent.Done, SendFailures: n.Sent.Failed, Received: n.Got.Done, ReceiveFailures: n.Got.Failed}
	st.Snapshots, st.LastSnapshot = snapshotStatuses(n.Sent.Running, n.Sent.Last)
	st.GroupSnapshots.Receiving, st.LastReceived = snapshotStatuses(n.Got.Running, n.Got.Last)
	st.SentBytes += n.Member.Counters.SentSnapshots.Load()
	st.SendFailures += n.Sent.Failed
	st.ReceivedBytes += n.Member.Counters.GotSnapshots.Load()
	for _, h := range n.Received {
		st.Lanes = append(st.Lanes, receivedLane(h))
		st.ReceiveFailures += h.Dropped.Total()
	}
	return st
}

func receivedLane(h groups.Received) LaneStatus {
	return LaneStatus{
		Name: h.Name, Up: true, Queued: h.Places, QueuedBytes: h.Bytes, Capacity: h.Limits.Messages, CapacityBytes: h.Limits.Bytes, OldestAge: h.OldestAge, OldSince: h.OldSince, FullSince: h.FullSince,
		Dropped: h.Dropped.Total(), Drops: Drops(h.Dropped.Named()), DroppingSince: h.Dropping.Since, Dropping: Drops(h.Dropping.Drops.Named()),
	}
}

// sendStatus returns the state of a queue that groups share: the fullest of its kinds.
func sendStatus(st fair.SendStatus) LaneStatus {
	l := LaneStatus{
		Name: st.Name, Up: st.Open, Capacity: st.Capacity, CapacityBytes: st.CapacityBytes, OldestAge: st.OldestAge, OldSince: st.OldSince,
		Messages: st.Messages, Bytes: st.Bytes, Batches: st.Batches, BusyTime: st.BusyTime,
		Dropped: st.Dropped.Total(), Drops: Drops(st.Dropped.Named()), DroppingSince: st.Dropping.Since, Dropping: Drops(st.Dropping.Drops.Named()),
	}
	for k := range st.Queued {
		if kind := (LaneStatus{Queued: st.Queued[k], QueuedBytes: st.QueuedBytes[k], Capacity: st.Capacity, CapacityBytes: st.CapacityBytes}); kind.fill() >= l.fill() {
			l.Queued, l.QueuedBytes, l.FullSince = kind.Queued, kind.QueuedBytes, st.FullSince[k]
		}
	}
	return l
}
