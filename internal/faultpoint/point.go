// Package faultpoint has named places in the library at which a test can inject a fault: where a goroutine of
// another connection, a Stop or a crash may interfere, and where a step may fail that rarely does.
//
// Without the build tag faultpoints no part of it is compiled into the library: the functions are empty and are
// inlined. With the tag, a seed decides at each hit: usually to do nothing, or to let other goroutines run, to sleep
// for up to [MaxSleep], or to fail if the place can. In a bubble of testing/synctest the sleep is virtual time;
// elsewhere it is at most [MaxRealSleep].
//
//	faultpoint.Seed(7)           // from here on; 0, as at first, only counts
//	…                            // the scenario
//	hits := faultpoint.Hits()    // by name, 0 for those that were not hit
//	faultpoint.Seed(0)
//
// The effect of the n-th hit of a point depends only on the seed, the point and n. The scheduler decides which
// goroutine makes that hit.
//
// A sleep is not ended by the context of the place. So Stop takes longer by the sleeps that it waits for, an end of a
// connection is reported later by one, and the timeouts may close the connection to a peer that sleeps in place of an
// answer. A judge of time has to allow for that; a judge of messages, reports and contents does not. A place where
// a lock is held does not sleep.
package faultpoint

import "time"

// Enabled reports whether the library was built with the tag. It is a constant.
const Enabled = enabled

const (
	// MaxSleep is the longest sleep in a bubble, in virtual time.
	MaxSleep = 10 * time.Second
	// MaxRealSleep is the longest sleep elsewhere.
	MaxRealSleep = 5 * time.Millisecond
)

// Point is one place, or several that are the same step.
type Point uint8

// The points. Each is described in the table.
const (
	StreamAttach Point = iota
	StreamAttached
	StreamDetach
	StreamShut
	StreamClosed
	StreamOpened
	StreamEnded
	PeerRemoved
	PostProcessed
	PostAnswered
	SnapshotQuestion
	SnapshotPlanned
	SnapshotSaved
	SnapshotProcessed
	SnapshotAnswered
	TLSFileRead
	QueueReservation
	DiskReservation
	points // number of points
)

// Spec describes a point.
type Spec struct {
	Name  string
	Place string // when it is hit
	Waits bool   // it may yield and sleep: no lock is held
	Fails bool   // it may fail
	How   string // meaning of a failure
}

// table has each point once.
var table = [points]Spec{
	StreamAttach:      {"stream-attach", "a peer has dialled a stream, which the writer does not have yet", true, true, "the connection is closed"},
	StreamAttached:    {"stream-attached", "the writer has the stream, and has not written to it", true, false, ""},
	StreamDetach:      {"stream-detach", "a stream has ended, which the writer still has", true, false, ""},
	StreamShut:        {"stream-shut", "the lane of a stream that ended is shut, and what was in it is not reported yet", true, false, ""},
	StreamClosed:      {"stream-closed", "the lane of a stream is closed with its peer, and what was in it is not reported yet", true, false, ""},
	StreamOpened:      {"stream-opened", "we have dialled a stream, and have not read of it", true, true, "the connection is closed"},
	StreamEnded:       {"stream-ended", "a stream that we read has ended, and nobody knows", true, false, ""},
	PeerRemoved:       {"peer-removed", "a peer is none any more, and has not ended", true, false, ""},
	PostProcessed:     {"post-processed", "the message of a post was processed, and the post is not answered", true, false, ""},
	PostAnswered:      {"post-answered", "a post was answered, and nobody knows", true, false, ""},
	SnapshotQuestion:  {"snapshot-question", "a sender asks how much of a database is there, and has no answer", true, false, ""},
	SnapshotPlanned:   {"snapshot-planned", "the plan of an attempt is made, and nothing is sent by it", true, true, "the connection breaks"},
	SnapshotSaved:     {"snapshot-saved", "a database is saved, and its message is not processed", true, true, "the message is refused"},
	SnapshotProcessed: {"snapshot-processed", "the message of a database was processed, and its sender is not answered", true, false, ""},
	SnapshotAnswered:  {"snapshot-answered", "the last attempt of a snapshot has ended, and that is not reported", true, false, ""},
	TLSFileRead:       {"tls-file-read", "a file of TLSInfo was read again, in a handshake, perhaps, whose lock crypto/tls holds", false, true, "only a part of it was there"},
	QueueReservation:  {"queue-reservation", "a queue wants more of MaxQueuedBytes; its lock is held", false, true, "there is no more"},
	DiskReservation:   {"disk-reservation", "a database wants room on the disk", true, true, "the disk is full"},
}

// Table returns the points, in order.
func Table() []Spec { return append([]Spec(nil), table[:]...) }

// String returns the name of the point.
func (p Point) String() string { return table[p].Name }
