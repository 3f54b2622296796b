package rafthttp

import (
	"cmp"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"

	"github.com/seed-4d73690b/rafthttp/internal/member"
	"github.com/seed-4d73690b/rafthttp/internal/queue"
	"github.com/seed-4d73690b/rafthttp/internal/snapshot"
)

// Status is the state of a Transport and its peers at one moment: a
// copy, safe to keep and to marshal as JSON.
type Status struct {
	ID        types.ID `json:"id"`
	ClusterID types.ID `json:"cluster_id"`
	// URLs and Version are those of the local member, as requests state them.
	URLs    []string `json:"urls,omitempty"`
	Version string   `json:"version"`
	// Stopped says that Stop was called.
	Stopped bool `json:"stopped,omitempty"`
	// Time is when the status was taken, Started when the transport was started.
	Time    time.Time `json:"time"`
	Started time.Time `json:"started"`
	// QueuedBytes is the part of MaxQueuedBytes that the queues have: their messages, and
	// some room reserved in advance.
	QueuedBytes    int64 `json:"queued_bytes"`
	MaxQueuedBytes int64 `json:"max_queued_bytes"`
	// Voters are the members that vote, and VotersOutgoing those of the configuration that a
	// joint one replaces, both from SetConfState; empty: not known.
	Voters         []types.ID `json:"voters,omitempty"`
	VotersOutgoing []types.ID `json:"voters_outgoing,omitempty"`
	// Peers are sorted by id.
	Peers []PeerStatus `json:"peers"`
	// Remotes are members known from AddRemote or from their requests,
	// sorted by id.
	Remotes []types.ID `json:"remotes,omitempty"`
	// Refused counts requests, messages and dials refused because they are not of their
	// stated member, or of another cluster.
	Refused IdentityStatus `json:"refused"`
	// RefusingSince is since when requests that state no peer are refused without a pause of
	// 10 s, the zero time while none are, and Refusing how many were since then.
	RefusingSince time.Time      `json:"refusing_since,omitzero"`
	Refusing      IdentityStatus `json:"refusing,omitzero"`
	// Handshakes counts TLS handshakes of clients that failed at the listener that
	// NewServer serves the Handler with, for each reason, in a fixed order. With a Mux,
	// those of its listener are in the Status of its first Transport that runs.
	Handshakes []HandshakeStatus `json:"handshakes,omitempty"`
	// Drops counts messages that Send dropped before they reached a lane: Drops.Local, those for
	// the local member or for raft's local threads. DroppingSince and Dropping are as of a lane.
	Drops         Drops     `json:"drops"`
	DroppingSince time.Time `json:"dropping_since,omitzero"`
	Dropping      Drops     `json:"dropping,omitzero"`
	// Groups are the raft groups; nil: Transport.Group was not called.
	Groups *GroupsStatus `json:"groups,omitempty"`
	// Receiving are the incoming database snapshots, from all members.
	Receiving []SnapshotStatus `json:"receiving,omitempty"`
	// LastReceived is the one that ended last, with success or failure, from any member.
	LastReceived *SnapshotStatus `json:"last_received,omitempty"`
}

// PeerStatus is the state of one peer.
type PeerStatus struct {
	ID     types.ID `json:"id"`
	URLs   []string `json:"urls"`
	Active bool     `json:"active"`
	// ActiveSince is the zero time while the peer is inactive.
	ActiveSince time.Time `json:"active_since,omitzero"`
	// InactiveSince is when it became inactive, or was added; the zero time while it is active.
	InactiveSince time.Time `json:"inactive_since,omitzero"`
	// Disconnects counts how often the peer became inactive.
	Disconnects uint64 `json:"disconnects"`
	// LastError is the last failure with the peer at its present URLs, and LastErrorAt
	// when it was: the present cause while the peer is inactive.
	LastError   string    `json:"last_error,omitempty"`
	LastErrorAt time.Time `json:"last_error_at,omitzero"`
	// Refused is the part of Status.Refused with this peer as the stated member, except dials of its
	// former URLs; Refusing and RefusingSince are those of it that go on, as in Status.
	Refused       IdentityStatus `json:"refused"`
	RefusingSince time.Time      `json:"refusing_since,omitzero"`
	Refusing      IdentityStatus `json:"refusing,omitzero"`
	// ProbeStale says that RTT and ClockOffset are not current: the peer is inactive, or
	// has answered no probe for 5 minutes, or for twice the usual interval if that is longer.
	ProbeStale bool `json:"probe_stale,omitempty"`
	// RTT is the smoothed round-trip time of probes, in nanoseconds; 0 until it was
	// measured. UpdatePeer clears what probes have measured, except for their numbers.
	RTT time.Duration `json:"rtt_ns"`
	// ClockOffset is the peer's clock minus ours, in nanoseconds, which may be wrong by ClockWithin: half of a round trip. Probes
	// that were answered late change it only if they show that it is wrong.
	ClockOffset time.Duration `json:"clock_offset_ns"`
	ClockWithin time.Duration `json:"clock_within_ns"`
	// ProbedAt is when RTT and ClockOffset were measured, and ProbesSince since when the peer is active, or has its
	// present URLs if that is later. Probes counts attempts, ProbeFailures failed ones.
	ProbedAt      time.Time `json:"probed_at,omitzero"`
	ProbesSince   time.Time `json:"probes_since,omitzero"`
	Probes        uint64    `json:"probes"`
	ProbeFailures uint64    `json:"probe_failures"`
	// ProbeError is why the last probe failed; empty after one that succeeded.
	ProbeError string `json:"probe_error,omitempty"`
	// Version is the peer's stated version; empty until it connected.
	Version string `json:"version,omitempty"`
	// VersionStale says that it did so before it became inactive.
	VersionStale bool `json:"version_stale,omitempty"`
	// CertificateStarts and CertificateExpires are the validity of the peer's certificate at the last dial of its present URLs;
	// the zero time without TLS. A peer that has dialled us with a new certificate is dialled at once, for a probe; a new one that
	// it has not used yet is seen with the next probe.
	CertificateStarts  time.Time `json:"certificate_starts,omitzero"`
	CertificateExpires time.Time `json:"certificate_expires,omitzero"`
	// SentBytes and ReceivedBytes count streams, POSTs and database snapshots, on the wire without HTTP headers.
	SentBytes     uint64 `json:"sent_bytes"`
	ReceivedBytes uint64 `json:"received_bytes"`
	// SendFailures counts messages and snapshots not delivered to the peer, ReceiveFailures messages
	// from it not delivered to Process, and POSTs that could not be read.
	SendFailures    uint64 `json:"send_failures"`
	ReceiveFailures uint64 `json:"receive_failures"`
	// Streams are the four stream connections with the peer: "message" and
	// "msgapp", each in both directions.
	Streams []StreamStatus `json:"streams"`
	// Lanes are the lanes to the peer, "message", "msgapp" and "pipeline", and the lanes
	// from it, "control", "append" and "proposal".
	Lanes []LaneStatus `json:"lanes"`
	// Appends is how long appends take on their way to the peer and from it, and which part of that is slow.
	Appends AppendStatus `json:"appends"`
	// Snapshots are the transfers to the peer, waiting and in progress.
	Snapshots []SnapshotStatus `json:"snapshots,omitempty"`
	// LastSnapshot and LastReceived are the transfers to the peer and from it that ended last, with success or failure.
	LastSnapshot *SnapshotStatus `json:"last_snapshot,omitempty"`
	LastReceived *SnapshotStatus `json:"last_received,omitempty"`
	// SnapshotRetryAt is when raft is told of failed snapshots that SnapshotBackoff holds
	// back; in the past while a later snapshot is under way; the zero time: there are none.
	SnapshotRetryAt time.Time `json:"snapshot_retry_at,omitzero"`
	// GroupSnapshots are the other snapshots of raft groups, of a node (GroupsStatus).
	GroupSnapshots GroupSnapshots `json:"group_snapshots,omitzero"`
}

// IdentityStatus counts refusals with ErrIdentity, and those of other clusters.
type IdentityStatus struct {
	// Dials counts connections dialled to a member whose certificate Transport.VerifyPeer refused, Requests requests of members that it refused.
	Dials    uint64 `json:"dials"`
	Requests uint64 `json:"requests"`
	// Messages counts messages whose From is not the member that sent them.
	Messages     uint64 `json:"messages"`
	OtherCluster uint64 `json:"other_cluster"` // requests of members of another cluster (ErrClusterIDMismatch)
}

func identityStatus(c *member.IdentityCounters) (all, now IdentityStatus, since time.Time) {
	total, run, since := c.Get()
	return IdentityStatus(total), IdentityStatus(run), since
}

// HandshakeStatus is what is known of the TLS handshakes of clients that failed for one
// reason. Clients that only connect, as checks of health do, are not counted.
type HandshakeStatus struct {
	// Reason is that of the log, such as "unknown authority" or "expired".
	Reason   string `json:"reason"`
	Failures uint64 `json:"failures"`
	// Since is when they began: there was none for this reason in the 5 minutes before. LastAt, LastAddress and LastError are of the last
	// one: when it was, the client's address with its port, and the error, up to 256 bytes, which the client contributes to.
	Since       time.Time `json:"since,omitzero"`
	LastAt      time.Time `json:"last_at,omitzero"`
	LastAddress string    `json:"last_address,omitempty"`
	LastError   string    `json:"last_error,omitempty"`
}

// LaneStatus is the state of one bounded queue.
type LaneStatus struct {
	Name string `json:"name"`
	// Up means that the lane accepts messages: its stream is connected.
	Up bool `json:"up"`
	// Queued counts messages that wait or are being written or processed, QueuedBytes their memory. Capacity and CapacityBytes are the limits,
	// of each kind if each has a queue of its own: then the fullest counts. Up to 512 heartbeats of raft groups count as one.
	Queued        int   `json:"queued"`
	QueuedBytes   int64 `json:"queued_bytes"`
	Capacity      int   `json:"capacity"`
	CapacityBytes int64 `json:"capacity_bytes"`
	// OldestAge is how long the oldest of them has been in the lane, in nanoseconds; too high by at most the duration of the batch
	// before it. OldSince is since when that has been 2 s, one message after another; FullSince since when the lane uses 80 % of a limit. Zero: it is less.
	OldestAge time.Duration `json:"oldest_age_ns"`
	OldSince  time.Time     `json:"old_since,omitzero"`
	FullSince time.Time     `json:"full_since,omitzero"`
	// Messages counts messages written to the network, or handed to Process; Bytes the same in bytes, on the wire or in memory. Batches counts
	// the writes or handovers, and BusyTime is the time spent on them, in nanoseconds: encoding and writing, posting, or processing.
	Messages uint64        `json:"messages"`
	Bytes    uint64        `json:"bytes"`
	Batches  uint64        `json:"batches"`
	BusyTime time.Duration `json:"busy_ns"`
	// Duplicates counts appends that raft sent again while they were queued or in transit and that were not sent twice, and appends that were
	// no longer sent because the follower had received a snapshot with all their entries.
	Duplicates uint64 `json:"duplicates"`
	// Dropped counts messages that were not delivered, Drops the same by reason.
	Dropped uint64 `json:"dropped"`
	Drops   Drops  `json:"drops"`
	// DroppingSince is since when messages are dropped without a pause of 10 s, the zero time while none are, and Dropping how many since then.
	DroppingSince time.Time `json:"dropping_since,omitzero"`
	Dropping      Drops     `json:"dropping,omitzero"`
}

// Drops counts messages that were not delivered, by reason.
type Drops struct {
	QueueFull    uint64 `json:"queue_full"`
	Disconnected uint64 `json:"disconnected"`
	Refused      uint64 `json:"refused"`
	Paused       uint64 `json:"paused"`
	Ended        uint64 `json:"ended"`
	MemoryLimit  uint64 `json:"memory_limit"`
	TooLarge     uint64 `json:"too_large"`
	Local        uint64 `json:"local"`
}

// Total returns the sum.
func (d Drops) Total() uint64 {
	return d.QueueFull + d.Disconnected + d.Refused + d.Paused + d.Ended + d.MemoryLimit + d.TooLarge + d.Local
}

func (d *Drops) add(o Drops) {
	d.QueueFull += o.QueueFull
	d.Disconnected += o.Disconnected
	d.Refused += o.Refused
	d.Paused += o.Paused
	d.Ended += o.Ended
	d.MemoryLimit += o.MemoryLimit
	d.TooLarge += o.TooLarge
	d.Local += o.Local
}

// All returns each reason with its count, in a fixed order.
func (d Drops) All() iter.Seq2[DropReason, uint64] {
	return func(yield func(DropReason, uint64) bool) {
		for i, n := range [...]uint64{d.QueueFull, d.Disconnected, d.Refused, d.Paused, d.Ended, d.MemoryLimit, d.TooLarge, d.Local} {
			if !yield(dropReasons[i], n) {
				return
			}
		}
	}
}

// The directions of a stream.
const (
	StreamOut = "out" // dialled by the peer, written by us
	StreamIn  = "in"  // dialled and read by us
)

// StreamStatus is the state of one kind of stream in one direction.
type StreamStatus struct {
	Name      string `json:"name"`      // "message" or "msgapp"
	Direction string `json:"direction"` // StreamOut or StreamIn
	Up        bool   `json:"up"`
	// Since is when the connection was established; the zero time if there is none.
	Since time.Time `json:"since,omitzero"`
	// DownSince is when the last connection ended, or the peer was added; the zero time
	// while there is one.
	DownSince time.Time `json:"down_since,omitzero"`
	// Reconnects counts those of the last two minutes, up to 16, and ReconnectsSince is when the first of them was.
	Reconnects      int       `json:"reconnects,omitempty"`
	ReconnectsSince time.Time `json:"reconnects_since,omitzero"`
	// Connects counts connections: all except the first are reconnects. DialFailures counts failed attempts to dial an inbound stream.
	Connects     uint64 `json:"connects"`
	DialFailures uint64 `json:"dial_failures"`
	// Bytes counts the bytes of all its connections.
	Bytes uint64 `json:"bytes"`
	// TCP is what the system knows of the connection; nil for streams from the peer, and where it does not tell: without a
	// connection, on systems other than Linux, and where DialContext or a listener has connections of its own kind.
	TCP *TCPStatus `json:"tcp,omitempty"`
}

// Status returns the state of the transport and its peers. It does not block on
// I/O, may be called at any time, and is empty before Start.
func (t *Transport) Status() Status {
	e := t.engine.Load()
	if e == nil {
		return Status{}
	}
	st := Status{
		ID: e.cfg.ID, Stopped: e.ctx.Err() != nil, ClusterID: e.cfg.Self.ClusterID, Version: e.cfg.Self.VersionText, Time: time.Now(), Started: e.started,
		QueuedBytes: e.cfg.Queued.Used(), MaxQueuedBytes: e.cfg.Queued.Max(),
		Peers: []PeerStatus{}, Remotes: e.remotes.IDs(), Drops: Drops(e.local.Dropped().Named()),
	}
	st.Refused, _, _ = identityStatus(e.cfg.AllRefused)
	_, st.Refusing, st.RefusingSince = identityStatus(e.cfg.OthersRefused)
	local := e.local.Dropping()
	st.DroppingSince, st.Dropping = local.Since, Drops(local.Drops.Named())
	for _, h := range t.clientFailures.Handshakes() {
		st.Handshakes = append(st.Handshakes, HandshakeStatus(h))
	}
	st.Voters, st.VotersOutgoing = t.voters.Get()
	st.Receiving, st.LastReceived = snapshotStatuses(e.receiving.Status())
	st.Groups = e.groupsStatus()
	if urls := *e.cfg.URLs.Load(); urls != "" {
		st.URLs = strings.Split(urls, ",")
	}
	peers := slices.Collect(maps.Values(e.peerMap()))
	for i, appends := range appendStatuses(peers) {
		p := peers[i].status()
		p.Appends = appends
		st.Peers = append(st.Peers, p)
	}
	slices.SortFunc(st.Peers, func(a, b PeerStatus) int { return cmp.Compare(a.ID, b.ID) })
	return st
}

// SnapshotStatus is the state of one transfer of a database.
type SnapshotStatus struct {
	// Peer is the other member.
	Peer types.ID `json:"peer"`
	// Incoming means that the peer is the sender.
	Incoming bool   `json:"incoming"`
	Index    uint64 `json:"index"` // of the snapshot
	// Bytes of the database that were transferred, of Total; -1 if that is not
	// known. Both include the bytes of earlier attempts.
	Bytes int64 `json:"bytes"`
	Total int64 `json:"total"`
	// Rate is the speed of the last one or two seconds, in bytes a second.
	Rate float64 `json:"rate"`
	// ETA is the remaining time at that rate, in nanoseconds; 0 if that is not
	// known.
	ETA     time.Duration `json:"eta_ns,omitempty"`
	Started time.Time     `json:"started"`
	// Attempts counts the attempts of an outgoing transfer; 0 while it waits.
	Attempts int `json:"attempts,omitempty"`
	// Error is the failure of the last attempt, and Ended the end of the transfer: the
	// zero time while it is in progress.
	Error string    `json:"error,omitempty"`
	Ended time.Time `json:"ended,omitzero"`
	// Group is the raft group whose snapshot it is; 0: none.
	Group uint64 `json:"group,omitempty"`
}

func (s SnapshotStatus) peer() types.ID { return s.Peer }

// snapshotStatuses converts the transfers in progress and
// the one that ended last, which may be nil, for Status and Observer.
func snapshotStatuses(all []snapshot.Status, last *snapshot.Status) ([]SnapshotStatus, *SnapshotStatus) {
	var told []SnapshotStatus
	for _, st := range all {
		told = append(told, SnapshotStatus(st))
	}
	if last != nil {
		last = new(*last)
	}
	return told, (*SnapshotStatus)(last)
}

// DropReason is the reason why a message was not delivered. There are few, so that it
// can be the label of a metric.
type DropReason string

// The reasons.
const (
	// DropQueueFull: the lane's limit in messages or bytes was reached.
	DropQueueFull DropReason = "queue_full"
	// DropDisconnected: the connection could not be made, broke, or made no progress.
	DropDisconnected DropReason = "disconnected"
	// DropRefused: the peer answered with an error, or the message was refused
	// because it is not from the peer (ErrIdentity).
	DropRefused DropReason = "refused"
	// DropPaused: Pause or CutPeer.
	DropPaused DropReason = "paused"
	// DropEnded: the peer was removed, or the transport stopped.
	DropEnded DropReason = "ended"
	// DropMemoryLimit: MaxQueuedBytes was reached, by all queues together
	// (ErrMemoryLimit).
	DropMemoryLimit DropReason = "memory_limit"
	// DropTooLarge: the message is larger than MaxMessageBytes
	// (ErrExceedSizeLimit).
	DropTooLarge DropReason = "too_large"
	// DropLocal: Send was given a message for the local member, or for one of raft's
	// local threads (ErrLocalMessage).
	DropLocal DropReason = "local"
)

// dropReasons are all reasons.
var dropReasons = [queue.DropReasons]DropReason{
	queue.DropQueueFull: DropQueueFull, queue.DropDisconnected: DropDisconnected, queue.DropRefused: DropRefused, queue.DropPaused: DropPaused,
	queue.DropEnded: DropEnded, queue.DropMemoryLimit: DropMemoryLimit, queue.DropTooLarge: DropTooLarge, queue.DropLocal: DropLocal,
}

// DropReasonOf classifies the cause given to Observer.Dropped.
func DropReasonOf(cause error) DropReason { return dropReasons[member.ReasonOf(cause)] }
