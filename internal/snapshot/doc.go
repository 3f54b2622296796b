// Package snapshot moves databases that go with snapshots between members: both ends, and what they say to each other.
//
// It knows connections, readers and Snapshotters, and nothing of the rest of a Transport: what is concluded from the end
// of a transfer, and told to raft, is up to package rafthttp.
package snapshot

import "github.com/seed-4d73690b/rafthttp/internal/conn"

// DefaultTimeout is the timeout of stock members.
const DefaultTimeout = conn.DefaultTimeout
