package rafthttp

import (
	"cmp"
	"slices"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
)

// Status is what a Transport knows of itself and its peers at one moment: a
// copy, safe to keep and to marshal as JSON.
type Status struct {
	ID        types.ID `json:"id"`
	ClusterID types.ID `json:"cluster_id"`
	// Peers, sorted by id.
	Peers []PeerStatus `json:"peers"`
	// Remotes are members that are known from AddRemote or from their requests,
	// sorted by id.
	Remotes []types.ID `json:"remotes,omitempty"`
	// Receiving are the database snapshots that come in, from anybody.
	Receiving []SnapshotStatus `json:"receiving,omitempty"`
}

// PeerStatus is what a Transport knows of one peer.
type PeerStatus struct {
	ID     types.ID `json:"id"`
	URLs   []string `json:"urls"`
	Active bool     `json:"active"`
	// ActiveSince is the zero time while the peer is inactive.
	ActiveSince time.Time `json:"active_since,omitzero"`
	// LastError is the last failure with the peer, and LastErrorAt when it was.
	LastError   string    `json:"last_error,omitempty"`
	LastErrorAt time.Time `json:"last_error_at,omitzero"`
	// RTT is the smoothed round-trip time of probes, in nanoseconds; 0 until it
	// was measured.
	RTT time.Duration `json:"rtt_ns"`
	// ClockOffset is the peer's clock minus ours, in nanoseconds.
	ClockOffset time.Duration `json:"clock_offset_ns"`
	// Lanes are those to the peer, "message", "msgapp" and "pipeline", and those
	// from it, "control", "append" and "proposal".
	Lanes []LaneStatus `json:"lanes"`
	// Snapshots are the transfers to the peer, waiting and under way.
	Snapshots []SnapshotStatus `json:"snapshots,omitempty"`
}

// LaneStatus is the state of one bounded queue.
type LaneStatus struct {
	Name string `json:"name"`
	// Up says that the lane takes messages: its stream is connected.
	Up bool `json:"up"`
	// Queued counts messages that wait or are being written or processed,
	// QueuedBytes their memory.
	Queued      int   `json:"queued"`
	QueuedBytes int64 `json:"queued_bytes"`
	// Messages counts what was written to the network, or handed to Process;
	// Bytes the same in bytes, on the wire or in memory.
	Messages uint64 `json:"messages"`
	Bytes    uint64 `json:"bytes"`
	// Dropped counts messages that were not delivered.
	Dropped uint64 `json:"dropped"`
}

// SnapshotStatus is the state of one transfer of a database.
type SnapshotStatus struct {
	// Peer is the other member; set for Status.Receiving.
	Peer  types.ID `json:"peer,omitempty"`
	Index uint64   `json:"index"`
	// Bytes of the database that were transferred, of Total; -1 if that is not
	// known.
	Bytes   int64     `json:"bytes"`
	Total   int64     `json:"total"`
	Started time.Time `json:"started"`
}

// Status returns the state of the transport and its peers. It does not block on
// I/O, may be called at any time, and is empty before Start.
func (t *Transport) Status() Status {
	e := t.engine.Load()
	if e == nil {
		return Status{}
	}
	st := Status{ID: e.id, ClusterID: e.clusterID, Peers: []PeerStatus{}, Remotes: e.remotes.ids(), Receiving: e.receiving.status()}
	for _, p := range e.peerMap() {
		st.Peers = append(st.Peers, p.status())
	}
	slices.SortFunc(st.Peers, func(a, b PeerStatus) int { return cmp.Compare(a.ID, b.ID) })
	return st
}

// status fills in what activity knows.
func (a *activity) status(st *PeerStatus) {
	a.mu.Lock()
	defer a.mu.Unlock()
	st.Active, st.ActiveSince = !a.since.IsZero(), a.since
	if a.last != nil {
		st.LastError, st.LastErrorAt = a.last.Error(), a.lastAt
	}
}
