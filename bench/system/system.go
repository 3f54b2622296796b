// Package system drives transports of different makes through one interface, so that a scenario measures each of them
// in the same way. Each file is an adapter that uses a transport through its public API, with the settings that its
// documentation recommends for throughput.
package system

import (
	"fmt"
	"slices"
	"strings"
)

// System is a make of transport.
type System struct {
	Name  string // as the command line has it
	Title string // as tables have it
	// Module is the path of the Go module that is measured; empty for what is part of this one.
	Module string
	// Start runs a cluster, nil if the system is not for that: one member that sends, and cfg.Peers that receive, over sockets of loopback. All
	// connections are up when it returns.
	Start func(cfg Config) (Cluster, error)
	// StartMember runs a member of a group; nil: the system has no such members.
	StartMember func(cfg MemberConfig) (Member, error)
	// MaxInflightBytes is what raft is told for groups; 0: no bound, as in etcd.
	MaxInflightBytes uint64
	// NoIdle says that the system has no life of its own between messages, so that measuring it idle means nothing.
	NoIdle bool
	// Snapshots says that its clusters are SnapshotSenders.
	Snapshots bool
}

// Names of systems that the others are compared with.
const (
	Ours     = "ours"
	Upstream = "upstream"
)

// All are the systems in the order of the tables.
func All() []System {
	return []System{ours, oursBounded, upstream, grpcSystem, hashicorp, tcp}
}

// ByName returns the system with this name.
func ByName(name string) (System, error) {
	for _, s := range append(All(), byName...) {
		if s.Name == name {
			return s, nil
		}
	}
	return System{}, fmt.Errorf("there is no system %q", name)
}

// Select returns the systems that a comma-separated list names, in the order of the tables; for an empty list those of All.
func Select(list string) ([]System, error) {
	if list == "" {
		return All(), nil
	}
	names := strings.Split(list, ",")
	for _, n := range names {
		if _, err := ByName(n); err != nil {
			return nil, err
		}
	}
	return slices.DeleteFunc(append(All(), byName...), func(s System) bool { return !slices.Contains(names, s.Name) }), nil
}

// Config says what cluster to start.
type Config struct {
	Peers int   // that receive
	Load  *Load // what Send sends
	TLS   *TLS  // mutual TLS 1.3 between all members; nil: none
	Sink  Sink
	// SnapshotDir is where peers save databases, each in a folder of its own; empty: they are sent none.
	SnapshotDir string
	// Checksum says that databases are verified by one, where the system can.
	Checksum bool
}

// Sink learns what arrives. Its methods are called on the goroutines of the system, concurrently for different peers.
type Sink interface {
	// Appended says that n appends have arrived at a peer.
	Appended(peer, n int)
	// Ponged says that the answer to a heartbeat to the peer has arrived at the sender.
	Ponged(peer int)
	// Failed says that something was lost, or is not what was sent: the run is void.
	Failed(err error)
}

// Cluster is a running system. Peers are counted from 0.
type Cluster interface {
	// Send sends n appends, from number `from` of the load on, to each peer. It may block, as the system does. It is
	// not called concurrently with itself.
	Send(from, n int)
	// Ping sends a heartbeat, which the peer answers. It is not called again for the peer before the answer arrived,
	// but concurrently with Send.
	Ping(peer int)
	// Close ends the cluster and all its goroutines.
	Close()
}

// SnapshotSender is a Cluster that sends databases.
type SnapshotSender interface {
	// SendSnapshot sends a file to peer 0, which saves it durably. It returns the path there when the sender knows that
	// it has arrived.
	SendSnapshot(path string) (saved string, err error)
}

// Ids of members, in messages and URLs.
const senderID = 1

func peerID(peer int) uint64 { return uint64(peer) + 2 }
