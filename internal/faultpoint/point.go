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
	// OftenShorter is how many times shorter the sleeps of points that are hit often are.
	OftenShorter = 100
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
	GroupReplicaMoved
	GroupReplicaRemoved
	GroupNodeUnused
	GroupStreamAsked
	GroupFound
	GroupSorted
	GroupTaken
	GroupBegun
	GroupPassed
	GroupRefusal
	GroupRefused
	GroupLeft
	GroupEnded
	GroupWrite
	GroupSlot
	GroupPostAsked
	GroupPostQueued
	GroupPostAnswered
	GroupReport
	GroupSnapshot
	points // number of points
)

// Spec describes a point.
type Spec struct {
	Name   string
	Place  string // when it is hit
	Waits  bool   // it may yield and sleep: no lock is held
	Yields bool   // it may yield: a lock is held of which readers take none, or the caller may not sleep
	Fails  bool   // it may fail
	Often  bool   // it is hit for each message: it sleeps up to MaxSleep / OftenShorter, so that messages do not pile up
	Groups bool   // it is in the code of raft groups
	How    string // meaning of a failure
}

// table has each point once.
var table = [points]Spec{
	StreamAttach:      {Name: "stream-attach", Place: "a peer has dialled a stream, which the writer does not have yet", Waits: true, Fails: true, How: "the connection is closed"},
	StreamAttached:    {Name: "stream-attached", Place: "the writer has the stream, and has not written to it", Waits: true},
	StreamDetach:      {Name: "stream-detach", Place: "a stream has ended, which the writer still has", Waits: true},
	StreamShut:        {Name: "stream-shut", Place: "the lane of a stream that ended is shut, and what was in it is not reported yet", Waits: true},
	StreamClosed:      {Name: "stream-closed", Place: "the lane of a stream is closed with its peer, and what was in it is not reported yet", Waits: true},
	StreamOpened:      {Name: "stream-opened", Place: "we have dialled a stream, and have not read of it", Waits: true, Fails: true, How: "the connection is closed"},
	StreamEnded:       {Name: "stream-ended", Place: "a stream that we read has ended, and nobody knows", Waits: true},
	PeerRemoved:       {Name: "peer-removed", Place: "a peer is none any more, and has not ended", Waits: true},
	PostProcessed:     {Name: "post-processed", Place: "the message of a post was processed, and the post is not answered", Waits: true},
	PostAnswered:      {Name: "post-answered", Place: "a post was answered, and nobody knows", Waits: true},
	SnapshotQuestion:  {Name: "snapshot-question", Place: "a sender asks how much of a database is there, and has no answer", Waits: true},
	SnapshotPlanned:   {Name: "snapshot-planned", Place: "the plan of an attempt is made, and nothing is sent by it", Waits: true, Fails: true, How: "the connection breaks"},
	SnapshotSaved:     {Name: "snapshot-saved", Place: "a database is saved, and its message is not processed", Waits: true, Fails: true, How: "the message is refused"},
	SnapshotProcessed: {Name: "snapshot-processed", Place: "the message of a database was processed, and its sender is not answered", Waits: true},
	SnapshotAnswered:  {Name: "snapshot-answered", Place: "the last attempt of a snapshot has ended, and that is not reported", Waits: true},
	TLSFileRead:       {Name: "tls-file-read", Place: "a file of TLSInfo was read again, in a handshake, perhaps, whose lock crypto/tls holds", Fails: true, How: "only a part of it was there"},
	QueueReservation:  {Name: "queue-reservation", Place: "a queue wants more of MaxQueuedBytes; its lock is held", Fails: true, How: "there is no more"},
	DiskReservation:   {Name: "disk-reservation", Place: "a database wants room on the disk", Waits: true, Fails: true, How: "the disk is full"},

	GroupReplicaMoved:   {Name: "group-replica-moved", Groups: true, Place: "a replica has ended that moves to another node, and is not there; the lock of the group is held", Yields: true},
	GroupReplicaRemoved: {Name: "group-replica-removed", Groups: true, Place: "a replica is none any more, and has not ended; the lock of the group is held", Yields: true},
	GroupNodeUnused:     {Name: "group-node-unused", Groups: true, Place: "the last replica has left a node, which has not ended; the lock of the group may be held", Yields: true},
	GroupStreamAsked:    {Name: "group-stream-asked", Groups: true, Place: "a node asks for a stream of groups, whose writer does not have the connection", Waits: true},
	GroupFound:          {Name: "group-found", Groups: true, Place: "the groups of received messages are found, and their replicas are not", Waits: true, Often: true},
	GroupSorted:         {Name: "group-sorted", Groups: true, Place: "the inboxes of received messages are found, and do not have them", Waits: true, Often: true},
	GroupTaken:          {Name: "group-taken", Groups: true, Place: "a worker has a message, and has not looked at its replica", Waits: true, Often: true},
	GroupBegun:          {Name: "group-begun", Groups: true, Place: "a message may be processed, and is not yet", Waits: true, Often: true},
	GroupPassed:         {Name: "group-passed", Groups: true, Place: "a message was processed, and nobody knows", Waits: true, Often: true},
	GroupRefusal:        {Name: "group-refusal", Groups: true, Place: "a message is refused, and its node is not told", Waits: true, Often: true},
	GroupRefused:        {Name: "group-refused", Groups: true, Place: "a refusal has come, and its replica is not told", Waits: true, Often: true},
	GroupLeft:           {Name: "group-left", Groups: true, Place: "a group is not found any more, and has not ended", Waits: true},
	GroupEnded:          {Name: "group-ended", Groups: true, Place: "a group has ended, and its reports are not made", Waits: true},
	GroupWrite:          {Name: "group-write", Groups: true, Place: "a worker has taken messages for a stream, and has not looked at the connection", Waits: true, Often: true},
	GroupSlot:           {Name: "group-slot", Groups: true, Place: "a flow wants a slot of a stream or a body", Fails: true, How: "it gets that of another"},
	GroupPostAsked:      {Name: "group-post-asked", Groups: true, Place: "a node is known to have groups, and a POST to it is not sent", Waits: true},
	GroupPostQueued:     {Name: "group-post-queued", Groups: true, Place: "the messages of a POST are queued, and it is not answered", Waits: true},
	GroupPostAnswered:   {Name: "group-post-answered", Groups: true, Place: "a POST of messages was answered, and nobody knows", Waits: true},
	GroupReport:         {Name: "group-report", Groups: true, Place: "a group is about to be told of a loss or of the result of a snapshot", Waits: true},
	GroupSnapshot:       {Name: "group-snapshot", Groups: true, Place: "a snapshot has the sender of its replica, which does not have it; Send takes no time", Yields: true},
}

// Table returns the points, in order.
func Table() []Spec { return append([]Spec(nil), table[:]...) }

// String returns the name of the point.
func (p Point) String() string { return table[p].Name }
