// Package snapshot transfers the databases of snapshots between members: both ends, and their messages to each other.
//
// It uses connections, readers and Snapshotters, and knows nothing of the rest of a Transport: package rafthttp decides
// on the result of a transfer and reports it to raft.
package snapshot

import "github.com/seed-4d73690b/rafthttp/internal/conn"

// DefaultTimeout is the timeout of stock members.
const DefaultTimeout = conn.DefaultTimeout
