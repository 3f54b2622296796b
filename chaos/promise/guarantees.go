package promise

// guarantee is a sentence, or a part of one, that promises something, with the judges who look whether it is kept.
type guarantee struct {
	sentence string
	judges   []string
	exempt   string // why there is no judge
}

// guarantees are the sentences of the sections Guarantees and Concurrency of package rafthttp, each with judges, or with the
// reason why nobody looks here.
var guarantees = []guarantee{
	{"Send never blocks, does no I/O and never calls into Raft or the Observer.", []string{"send"}, ""},
	{"Each message is either accepted by exactly one queue, which is bounded in messages and in bytes, or reported as lost; an accepted message that cannot be written is reported as well.", []string{"reported", "once", "bounds"}, ""},
	{"Raft is told by ReportUnreachable, once for any number of messages, and sends again.", []string{"reported", "coalesced"}, ""},
	{"A message over MaxMessageBytes is dropped with ErrExceedSizeLimit.", []string{"reported"}, ""},
	{"A message that was written to a connection may still be lost with the connection, so the loss of a stream to the peer is always reported, even with an empty queue.", []string{"reported"}, ""},
	{"Order is kept within a queue, except on the pipeline, which posts up to four messages of each kind at a time.", []string{"order"}, ""},
	{"Control messages (heartbeats, votes, responses), appends and proposals have separate queues on the message stream, each with the bounds of its lane, and control messages are sent first.", []string{"healthy link", "bounds"}, ""},
	{"MsgApp uses the msgapp stream, all other messages the message stream.", nil, "what a lane carries is seen from outside by its order only: tests of the root module read the streams"},
	{"While a stream is down, MsgApp falls back to the message stream, and all messages to the pipeline, with one POST per message; a MsgSnap given to Send always uses the pipeline, and so does, after its stream broke, a MsgApp larger than any that the peer has accepted by POST since it last dialled that stream: the peer may have a lower size limit, which only the answer to a POST reports.", []string{"reported", "healthy link", "recovery"}, ""},
	{"The pipeline has separate room and workers for each of the three kinds: control messages wait for no append and no proposal there.", []string{"healthy link"}, ""},
	{"Received messages wait for Process in three queues per peer: control, append and proposal.", []string{"order", "bounds"}, ""},
	{"A blocked Process on one queue does not delay the others.", []string{"healthy link"}, ""},
	{"That holds for messages from streams, from POSTs and with snapshots, and for senders that are not peers yet; it also holds while a member becomes a peer, is removed or is added again.", []string{"healthy link", "order"}, ""},
	{"A full append queue slows its stream down for as long as Process returns within ReadTimeout; after that the stream is closed, and the sender's raft is told (ErrProcessStalled).", []string{"reported"}, ""},
	{"The other two queues drop messages at once, as raft expects of a network, and so does the append queue for appends from the message stream: waiting would delay heartbeats.", []string{"reported", "healthy link"}, ""},
	{"A POST waits for its turn and for Process, whose result is the answer; it is answered with an error if its queue is full or its time is over.", []string{"reported", "snapshot ends"}, ""},
	{"A slow follower receives what its line can carry, with any of raft's limits of appends in flight.", nil, "without raft nothing is sent again: tests of the root module and bench measure it"},
	{"Raft may have more appends in flight than the queue holds, and is told of dropped ones only after half of the queue has drained; an append that raft sends again while the first copy is still in transit is not sent twice.", []string{"reported"}, ""},
	{"So a report of dropped appends may be delayed: until half of the queue has drained, or until the stream ends.", []string{"reported"}, ""},
	{"This holds for both streams and for the pipeline, where a failed POST has the effect of the end of a stream; for a remote, dropped appends are reported at once.", []string{"reported"}, ""},
	{"Transport.LimitInflight keeps raft from filling the queue at all.", nil, "it changes the configuration of raft, which is not here"},
	{"Appends that are queued while the follower receives a snapshot with all their entries are neither sent after it nor reported.", []string{"reported"}, ""},
	{"This holds for one raft group per Transport.", nil, "it says where the sentences around it hold"},
	{"If messages carry a Context, by which several groups share a Transport, copies cannot be recognized: an append without room is reported after the last one with a Context has left the queue, and those in transit by then are sent twice.", []string{"reported"}, ""},
	{"Such groups should each have a MaxInflightBytes, so that together they never fill a queue.", nil, "it is advice"},
	{"SendSnapshot ends in exactly one ReportSnapshot, one Close of the reader and one value from CloseNotify, however it ends; only a transport that is stopped or not started does not report.", []string{"snapshot ends"}, ""},
	{"SnapshotBackoff holds reports of failures back, and nothing else.", nil, "no member of the simulation has a back-off: tests/operating looks at its reports"},
	{"The reader is never closed by the goroutine that calls SendSnapshot.", []string{"snapshot ends"}, ""},
	{"Process is called only after the Snapshotter has saved the whole database, and a database is discarded if its message is not processed ([DiscardingSnapshotter]).", []string{"snapshot bytes"}, ""},
	{"There is no limit to how long a transfer takes while bytes move; an interrupted transfer is resumed if both members can.", []string{"snapshot arrives"}, ""},
	{"An error names its cause: ErrSnapshotDiskFull and others.", nil, "tests of the root module compare causes; raft is told none"},
	{"A peer is active from the first frame of an inbound stream (direction \"in\"), including link heartbeats, or from the first POST or snapshot, in either direction, that Process has accepted.", []string{"noticed"}, ""},
	{"A stream that delivers nothing for ReadTimeout is closed and dialled again, and link heartbeats keep an idle one alive.", []string{"noticed", "streams", "recovery", "healthy link"}, ""},
	{"While any stream is up, a failed POST does not make the peer inactive.", []string{"active"}, ""},
	{"A successful POST or snapshot from the peer keeps it active for ReadTimeout, also while its streams are down, and a successful one to it does so until the next failure: a peer that restarts within that time may stay active throughout.", []string{"noticed", "active"}, ""},
	{"A panic of a callback (of Raft, Snapshotter, Observer, VerifyPeer, DialContext, or the log) ends the process, however the message arrived: by stream, POST or snapshot.", nil, "it would end the simulation: tests of the root module do it in processes of their own"},
	{"It is logged with the type and the sender of the message, and then raised again on a goroutine without recover, because net/http would recover it in a handler.", nil, "as the sentence before"},
	{"A panic of a snapshot's reader does not end the process: it fails the snapshot.", []string{"snapshot ends"}, ""},
	{"Stop waits until no goroutine of the transport runs and no callback will be invoked, with these exceptions: a blocked Close of a snapshot's reader or of a connection of the application's own type, the Read of a body behind a handler that hides its deadlines, and the Close of a snapshot given to SendSnapshot after Stop was called.", []string{"stop", "silence", "goroutines"}, ""},
	{"So Stop must not be called from inside a callback, and Process must return soon after its context is cancelled.", nil, "it is what callers have to do"},
	{"All methods of a Transport are safe for concurrent use, also from inside Process and under locks that callbacks take; only Stop must not be called there.", []string{"send"}, ""},
	{"Callbacks (of Raft, of the Observer, and the log) are invoked from several goroutines at once, under no lock, and never from a goroutine that is inside a method of the Transport.", []string{"send"}, ""},
	{"Reports, log lines, and hooks about states, drops and snapshots are delivered in order, one at a time per member, whether it is a peer, was one, or will be one.", []string{"in turn"}, ""},
	{"A slow callback delays only the member that it is about.", []string{"healthy link", "reported"}, ""},
	{"A peer costs two goroutines, one per stream that is read, and two more for connections that the peer reads; queues have goroutines only while they are in use, callbacks while there is something to deliver, and POSTs for as long as their connections are kept.", []string{"goroutines"}, ""},
}

// elsewhere are parts of other comments that promise something, by file.
var elsewhere = []struct {
	file string
	guarantee
}{
	{"doc.go", guarantee{"open connections are revalidated against them: see TLSRecheck", []string{"revoked"}, ""}},
	{"transport.go", guarantee{"A member that is revoked, or refused by VerifyPeer, is disconnected", []string{"revoked", "refused"}, ""}},
	{"transport.go", guarantee{"ErrorC gets ErrMemberRemoved when a peer says that the local member was removed", []string{"removed"}, ""}},
	{"doc.go", guarantee{"it is never called with messages for other members", []string{"addressee"}, ""}},
	{"doc.go", guarantee{"the short form of the msgapp stream only if that form carries", []string{"invented"}, ""}},
	{"doc.go", guarantee{"Everything that waits is bounded", []string{"bounds"}, ""}},
	{"doc.go", guarantee{"log lines (each message has a limit per peer", []string{"log lines"}, ""}},
	{"observer.go", guarantee{"PeerState is called when a peer became active, or inactive with its cause: in order", []string{"in turn"}, ""}},
}
