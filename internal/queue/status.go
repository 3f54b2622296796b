package queue

import "time"

// Status is the state of a queue at one moment.
type Status struct {
	Name string
	Open bool // it accepts messages
	// Queued counts messages that wait or are in a worker's hands, QueuedBytes their memory;
	// Capacity and CapacityBytes are their bounds. Of a queue with room for each kind it is the
	// fullest of the three.
	Queued        int
	QueuedBytes   int64
	Capacity      int
	CapacityBytes int64
	// OldestAge is how long the oldest of them has been in the queue, too high by at most the time
	// that the batch before it took.
	OldestAge time.Duration
	// Messages, Bytes, Batches and BusyTime are what Counters.Done was told in all.
	Messages, Bytes, Batches uint64
	BusyTime                 time.Duration
	// Duplicates counts appends that were not queued, or not sent, since their entries were under
	// way, or in a snapshot.
	Duplicates uint64
	Dropped    Drops
}
