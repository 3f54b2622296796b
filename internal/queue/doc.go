// Package queue has bounded queues of messages, with workers, the memory limit that all queues
// share, and their counters. Messages wait in them for a connection on the way out, for raft on the
// way in.
//
// It knows messages by their size and their kind, and of appends which entries they have, so that copies
// of what is under way are not queued. It knows nothing of peers, of connections or of requests.
package queue
