// Package faultpoint has named places in the library at which a test can make something go wrong: where a goroutine of
// another connection, a Stop or a crash may come in between, and where a step may fail that hardly ever does.
//
// Without the build tag faultpoints nothing of it is compiled into the library: the functions are empty and are inlined.
// With the tag, a seed decides at each hit: nothing, mostly, or to let other goroutines run, to sleep for up to
// [MaxSleep], or to fail where the place can. In a bubble of testing/synctest the sleep is virtual time; elsewhere it is
// [MaxRealSleep] at most.
//
//	faultpoint.Seed(7)           // from here on; 0, as at first, only counts
//	…                            // the scenario
//	hits := faultpoint.Hits()    // by name, 0 for those that were not hit
//	faultpoint.Seed(0)
//
// What the n-th hit of a point brings depends on the seed, the point and n alone. Which goroutine makes that hit is up to
// the scheduler.
//
// A sleep is not ended by the context of the place. So Stop takes longer by the sleeps that it waits for, an end of a
// connection is reported later by one, and a peer that sleeps in place of an answer may be given up by its timeouts. A
// judge of time has to allow for that; no judge of messages, reports and contents has to allow for anything. A place where
// a lock is held does not sleep.
package faultpoint

import "time"

// Enabled says whether the library was built with the tag. It is a constant.
const Enabled = enabled

const (
	// MaxSleep is the longest sleep in a bubble, in virtual time.
	MaxSleep = 10 * time.Second
	// MaxRealSleep is the longest sleep elsewhere.
	MaxRealSleep = 5 * time.Millisecond
)

// Point is one place, or several that are the same moment of the same story.
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
	points // how many there are
)

// Spec describes a point.
type Spec struct {
	Name  string
	Place string // when it is hit
	Waits bool   // it may yield and sleep: no lock is held
	Fails bool   // it may fail
	How   string // what a failure is
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
