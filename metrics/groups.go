package metrics

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/seed-4d73690b/rafthttp"
)

// Our metrics of raft groups in total. Their number does not depend on that of the groups.
var (
	groupsCount   = gauge("rafthttp_groups", "Raft groups of the transport.")
	groupsUnknown = counter("rafthttp_groups_unknown_messages_total", "Received messages for raft groups that are not here.")
	groupsRefused = counter("rafthttp_groups_refused_messages_total", "Messages that other nodes have refused, since they do not have the raft group or the replica.")
	groupsDropped = counter("rafthttp_groups_dropped_messages_total", "Received messages of raft groups that Process did not get, by reason; local: Send was given messages for raft's local threads or for the local replica.", "reason")

	groupsWaiting    = gauge("rafthttp_groups_process_waiting_messages", "Received messages of raft groups that wait for Process, by kind.", "kind")
	groupsRunning    = gauge("rafthttp_groups_process_running", "Calls of Process for raft groups.", "kind")
	groupsBlocked    = gauge("rafthttp_groups_process_blocked", "Those of them that have taken longer than a second.", "kind")
	groupsBlockedFor = gauge("rafthttp_groups_process_blocked_seconds", "How long the longest of those has taken; 0 without one.", "kind")
	groupsProcessed  = counter("rafthttp_groups_processed_messages_total", "Messages of raft groups that Process has processed.", "kind")
	groupsStrangers  = gauge("rafthttp_groups_strangers_queued_messages", "Received messages from replicas that their raft groups do not have, that wait for Process or are processed; up to 512 heartbeats count as one.", "kind")
	groupsGuestBytes = gauge("rafthttp_groups_strangers_queued_bytes", "Memory of those.", "kind")
	groupsGuestLimit = gauge("rafthttp_groups_strangers_capacity_bytes", "How much memory those may use at most.", "kind")
	groupsGuestDrops = counter("rafthttp_groups_strangers_dropped_messages_total", "Messages from replicas that their raft groups do not have that Process did not get, by reason.", "kind", "reason")
	groupsBytes      = counter("rafthttp_groups_processed_bytes_total", "The same in bytes of memory.", "kind")
)

// Our metrics of the nodes that raft groups share.
var (
	nodeActive      = gauge("rafthttp_groups_node_active", "1 while the node is active.", "node")
	nodeDisconnects = counter("rafthttp_groups_node_disconnects_total", "How often the node became inactive.", "node")
	nodeSent        = counter("rafthttp_groups_node_sent_bytes_total", "Bytes sent to the node, for all raft groups.", "node")
	nodeReceived    = counter("rafthttp_groups_node_received_bytes_total", "Bytes of streams and snapshots from the node, for all raft groups.", "node")
	nodeFailures    = counter("rafthttp_groups_node_send_failures_total", "Messages and snapshots that were not delivered to the node.", "node")

	nodeStreamUp       = gauge("rafthttp_groups_node_stream_up", "1 while the stream is connected. Direction out: written by this node; in: read by it.", "node", "stream", "direction")
	nodeStreamConnects = counter("rafthttp_groups_node_stream_connects_total", "Connections of the stream: all but the first are reconnects.", "node", "stream", "direction")
	nodeStreamFails    = counter("rafthttp_groups_node_stream_dial_failures_total", "Failed attempts to dial the stream.", "node", "stream")
	nodeStreamBytes    = counter("rafthttp_groups_node_stream_bytes_total", "Bytes that the stream carried.", "node", "stream", "direction")

	nodeLaneUp       = gauge("rafthttp_groups_node_lane_up", "1 while the lane to the node takes messages.", "node", "lane")
	nodeLaneQueued   = gauge("rafthttp_groups_node_lane_queued_messages", "Messages of all raft groups in the lane; up to 512 heartbeats count as one.", "node", "lane")
	nodeLaneBytes    = gauge("rafthttp_groups_node_lane_queued_bytes", "Memory of the messages in the lane.", "node", "lane")
	nodeLaneCap      = gauge("rafthttp_groups_node_lane_capacity_messages", "How many messages the lane holds at most.", "node", "lane")
	nodeLaneCapBytes = gauge("rafthttp_groups_node_lane_capacity_bytes", "How much memory of messages the lane holds at most.", "node", "lane")
	nodeLaneAge      = gauge("rafthttp_groups_node_lane_oldest_age_seconds", "How long the oldest message of the lane has waited. In lanes from the node, messages of groups whose Process blocks are left out.", "node", "lane")
	nodeLaneDone     = counter("rafthttp_groups_node_lane_messages_total", "Messages that were written to the network.", "node", "lane")
	nodeLaneTraffic  = counter("rafthttp_groups_node_lane_bytes_total", "The same in bytes on the wire.", "node", "lane")
	nodeLaneBatches  = counter("rafthttp_groups_node_lane_batches_total", "Writes or posts that this took.", "node", "lane")
	nodeLaneBusy     = counter("rafthttp_groups_node_lane_busy_seconds_total", "Time spent on those.", "node", "lane")
	nodeLaneDropped  = counter("rafthttp_groups_node_lane_dropped_messages_total", "Messages of the lane that were not delivered, by reason.", "node", "lane", "reason")

	nodeSnapshots    = gauge("rafthttp_groups_node_snapshots", "Database snapshots of raft groups in progress, by direction: out or in.", "node", "direction")
	nodeSnapshotRate = gauge("rafthttp_groups_node_snapshot_rate_bytes_per_second", "How fast those are.", "node", "direction")
	nodeSnapshotWait = gauge("rafthttp_groups_node_snapshots_waiting", "Database snapshots of raft groups to the node that wait for their turn.", "node")
	nodeSnapshotEnds = counter("rafthttp_groups_node_snapshots_total", "Database snapshots of raft groups that have ended, by direction and result: sent or failed, received or failed.", "node", "direction", "result")
)

// Our metrics of single raft groups, those that Options selects. Applications give transports the label group.
var (
	groupBlocked  = gauge("rafthttp_group_blocked_seconds", "How long the longest call of Process of the raft group takes, if that is more than a second, otherwise 0.", "raft_group")
	groupFailing  = gauge("rafthttp_group_failing", "1 while the last call of Process of the raft group returned an error.", "raft_group")
	groupReplicas = gauge("rafthttp_group_replicas", "Replicas of the raft group on other nodes.", "raft_group")
	groupInactive = gauge("rafthttp_group_inactive_replicas", "Those whose node is inactive.", "raft_group")
	groupQueued   = gauge("rafthttp_group_queued_bytes", "Memory of received messages of the raft group that wait or are processed.", "raft_group")
	groupDropped  = counter("rafthttp_group_dropped_messages_total", "Messages of the raft group that were received and not processed, or that Send dropped.", "raft_group")
	groupRefused  = counter("rafthttp_group_refused_messages_total", "Messages of the raft group that other nodes have refused.", "raft_group")
)

// collectGroups sends the metrics of raft groups, if there are any.
func (c *Collector) collectGroups(ch chan<- prometheus.Metric, st *rafthttp.GroupsStatus) {
	if st == nil {
		return
	}
	groupsCount.send(ch, float64(st.Groups))
	groupsUnknown.send(ch, float64(st.Unknown))
	groupsRefused.send(ch, float64(st.Refused))
	for reason, n := range st.Drops.All() {
		groupsDropped.send(ch, float64(n), string(reason))
	}
	for _, p := range st.Processing {
		groupsWaiting.send(ch, float64(p.Waiting), p.Name)
		groupsRunning.send(ch, float64(p.Running), p.Name)
		groupsBlocked.send(ch, float64(p.Blocked), p.Name)
		groupsBlockedFor.send(ch, p.BlockedFor.Seconds(), p.Name)
		groupsProcessed.send(ch, float64(p.Messages), p.Name)
		groupsBytes.send(ch, float64(p.Bytes), p.Name)
	}
	for _, l := range st.Strangers {
		groupsStrangers.send(ch, float64(l.Queued), l.Name)
		groupsGuestBytes.send(ch, float64(l.QueuedBytes), l.Name)
		groupsGuestLimit.send(ch, float64(l.CapacityBytes), l.Name)
		for reason, n := range l.Drops.All() {
			if reason != rafthttp.DropLocal { // those were not received
				groupsGuestDrops.send(ch, float64(n), l.Name, string(reason))
			}
		}
	}
	for _, n := range st.Nodes {
		collectNode(ch, n)
	}
	for _, g := range c.selected() {
		collectGroup(ch, g)
	}
}

func collectNode(ch chan<- prometheus.Metric, n rafthttp.PeerStatus) {
	id := n.ID.String()
	nodeActive.send(ch, yes(n.Active), id)
	nodeDisconnects.send(ch, float64(n.Disconnects), id)
	nodeSent.send(ch, float64(n.SentBytes), id)
	nodeReceived.send(ch, float64(n.ReceivedBytes), id)
	nodeFailures.send(ch, float64(n.SendFailures), id)
	for _, s := range n.Streams {
		nodeStreamUp.send(ch, yes(s.Up), id, s.Name, s.Direction)
		nodeStreamConnects.send(ch, float64(s.Connects), id, s.Name, s.Direction)
		nodeStreamBytes.send(ch, float64(s.Bytes), id, s.Name, s.Direction)
		if s.Direction == rafthttp.StreamIn {
			nodeStreamFails.send(ch, float64(s.DialFailures), id, s.Name)
		}
	}
	for _, l := range n.Lanes {
		collectNodeLane(ch, id, l)
	}
	all := n.GroupSnapshots
	for direction, some := range map[string][]rafthttp.SnapshotStatus{"out": n.Snapshots, "in": all.Receiving} {
		var rate float64
		for _, s := range some {
			rate += s.Rate
		}
		nodeSnapshots.send(ch, float64(len(some)), id, direction)
		nodeSnapshotRate.send(ch, rate, id, direction)
	}
	nodeSnapshotWait.send(ch, float64(all.Waiting), id)
	nodeSnapshotEnds.send(ch, float64(all.Sent), id, "out", "sent")
	nodeSnapshotEnds.send(ch, float64(all.SendFailures), id, "out", "failed")
	nodeSnapshotEnds.send(ch, float64(all.Received), id, "in", "received")
	nodeSnapshotEnds.send(ch, float64(all.ReceiveFailures), id, "in", "failed")
}

func collectNodeLane(ch chan<- prometheus.Metric, id string, l rafthttp.LaneStatus) {
	nodeLaneQueued.send(ch, float64(l.Queued), id, l.Name)
	nodeLaneBytes.send(ch, float64(l.QueuedBytes), id, l.Name)
	nodeLaneCap.send(ch, float64(l.Capacity), id, l.Name)
	nodeLaneCapBytes.send(ch, float64(l.CapacityBytes), id, l.Name)
	nodeLaneAge.send(ch, l.OldestAge.Seconds(), id, l.Name)
	switch l.Name {
	case "control", "append", "proposal": // from the node: what is processed is counted for all nodes together
		return
	}
	nodeLaneUp.send(ch, yes(l.Up), id, l.Name)
	nodeLaneDone.send(ch, float64(l.Messages), id, l.Name)
	nodeLaneTraffic.send(ch, float64(l.Bytes), id, l.Name)
	nodeLaneBatches.send(ch, float64(l.Batches), id, l.Name)
	nodeLaneBusy.send(ch, l.BusyTime.Seconds(), id, l.Name)
	for reason, n := range l.Drops.All() {
		if reason != rafthttp.DropLocal { // local drops reach no lane
			nodeLaneDropped.send(ch, float64(n), id, l.Name, string(reason))
		}
	}
}

// selected returns the states of the groups that have series of their own, each once.
func (c *Collector) selected() (all []rafthttp.GroupStatus) {
	if c.worst > 0 {
		all = c.t.WorstGroups(c.worst)
	}
	if c.groups == nil {
		return all
	}
	seen := map[uint64]bool{}
	for i := range all {
		seen[all[i].ID] = true
	}
	for _, id := range c.groups() {
		if st, ok := c.t.GroupStatus(id); ok && !seen[id] {
			seen[id] = true
			all = append(all, st)
		}
	}
	return all
}

func collectGroup(ch chan<- prometheus.Metric, g rafthttp.GroupStatus) {
	id, inactive := strconv.FormatUint(g.ID, 10), 0
	for _, r := range g.Replicas {
		if r.ActiveSince.IsZero() {
			inactive++
		}
	}
	groupBlocked.send(ch, g.BlockedFor.Seconds(), id)
	groupFailing.send(ch, yes(g.Failing), id)
	groupReplicas.send(ch, float64(len(g.Replicas)), id)
	groupInactive.send(ch, float64(inactive), id)
	groupQueued.send(ch, float64(g.QueuedBytes), id)
	groupDropped.send(ch, float64(g.Drops.Total()), id)
	groupRefused.send(ch, float64(g.Refused), id)
}
