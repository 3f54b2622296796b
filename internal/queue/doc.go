// Package queue has bounded queues of messages, with workers, the memory limit that all queues
// share, and their counters. Outgoing messages wait in them for a connection, incoming ones for
// raft.
//
// It knows the size and kind of messages, and the entries of appends, so that copies
// of appends in transit are not queued. It knows nothing of peers, connections or requests.
package queue
