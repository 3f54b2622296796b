// Package queue is for messages that wait: for a connection on the way out, for raft on the
// way in. It knows messages by their size and their kind, and nothing of peers, of
// connections or of requests.
package queue
