package promise

// guarantees are the sentences of the guarantees of package rafthttp, each with the judges who look whether it is kept, or
// with the reason why nobody does here.
var guarantees = []struct {
	sentence string
	judges   []string
	exempt   string // why there is no judge
}{
	{"Send never blocks, does no I/O and calls nothing of Raft.", []string{"send"}, ""},
	{"Each message is taken by exactly one lane, a queue bounded in messages and bytes, or it is reported; what a lane has taken and cannot write is reported as well.", []string{"reported", "once", "bounds"}, ""},
	{"Raft learns of it by ReportUnreachable, once for any number of messages, and sends again.", []string{"reported"}, ""},
	{"A message over MaxMessageBytes is dropped with ErrExceedSizeLimit.", []string{"reported"}, ""},
	{"A message that was written to a connection may still be lost with the connection, so its loss is reported whatever was queued.", []string{"reported"}, ""},
	{"Within one lane order is kept, except on the pipeline, whose posts run four at a time for each kind.", []string{"order"}, ""},
	{"Control messages (heartbeats, votes, responses), appends and proposals wait apart for the message stream, each within the bounds of its lane, and control messages go first.", []string{"healthy link", "bounds"}, ""},
	{"MsgApp goes over the msgapp stream, all else over the message stream.", nil, "what a lane carries is seen from outside by its order only: tests of the root package read the streams"},
	{"While a stream is down MsgApp falls back to the message stream, and everything to the pipeline, one post for each message; a MsgSnap given to Send always goes there, and so does, once its stream was lost, a MsgApp larger than all that the peer has taken by post since it last dialled that stream: perhaps the peer takes none that large, and says so to a post only.", []string{"reported", "healthy link", "recovery"}, ""},
	{"The pipeline has room and workers for each of the three kinds: control messages (heartbeats, votes, responses) wait for no append and no proposal there.", []string{"healthy link"}, ""},
	{"Received messages wait for Process in three lanes for each peer: control (heartbeats, votes, responses), append, and proposal.", []string{"order", "bounds"}, ""},
	{"Process may block on one without holding up the others.", []string{"healthy link"}, ""},
	{"That holds for whatever a peer sends, by streams, by posts, or with a snapshot, and for members that post and are no peers yet; it stays so while a member becomes a peer, is removed or added again.", []string{"healthy link", "order"}, ""},
	{"A full append lane slows its stream down for as long as Process takes something within ReadTimeout; after that the stream ends, which the sender's raft is told (ErrProcessStalled).", []string{"reported"}, ""},
	{"The other two drop at once, as raft expects of a network, as does the append lane for what the message stream brings: waiting for it would hold up heartbeats.", []string{"reported", "healthy link"}, ""},
	{"A post waits for its turn, and for what Process returns, which it is answered; it is answered with an error if its lane is full or its time is over.", []string{"reported", "snapshot ends"}, ""},
	{"A slow follower gets what its line carries, whatever raft's limits of appends in flight.", nil, "without raft nothing is sent again: tests of the root package and bench measure it"},
	{"Raft may have more of them than the lane holds, and learns of the dropped ones only once half of the lane has drained; what it then sends again while it is still on its way is not sent twice.", []string{"reported"}, ""},
	{"So a report of dropped appends may be late: by the time that half of the lane takes, or by the end of the stream.", []string{"reported"}, ""},
	{"This holds for both streams and for the pipeline, where a post that fails ends it as the end of a stream does; a remote's appends are reported at once.", []string{"reported"}, ""},
	{"Transport.LimitInflight keeps raft from filling the lane at all.", nil, "it changes the configuration of raft, which is not here"},
	{"Appends that wait while the follower takes a snapshot that has all their entries are not sent after it, nor reported.", []string{"reported"}, ""},
	{"This is for one raft group in a Transport.", nil, "it says where the sentences around it hold"},
	{"Where messages carry a Context, by which several groups share one, copies cannot be told: an append without room is reported once none with a Context is queued any more, and what is on the line by then is sent twice.", []string{"reported"}, ""},
	{"Such groups should each have a MaxInflightBytes, so that together they fill no lane.", nil, "it is advice"},
	{"SendSnapshot ends in exactly one ReportSnapshot, one Close of the reader and one value from CloseNotify, however it ends, but for a transport that was stopped before or not started: that one does not report.", []string{"snapshot ends"}, ""},
	{"The reader is never closed by the goroutine that calls SendSnapshot.", []string{"snapshot ends"}, ""},
	{"Process runs only after the Snapshotter has saved the whole database, and a database whose message is not processed is taken back ([DiscardingSnapshotter]).", []string{"snapshot bytes"}, ""},
	{"There is no limit to how long a transfer takes, as long as bytes move; one that breaks is resumed where both members can.", []string{"snapshot arrives"}, ""},
	{"A failure names its cause: ErrSnapshotDiskFull and the others.", nil, "tests of the root package compare causes; raft is told none"},
	{"A peer is active from the first frame that a stream of it (direction \"in\") brings, be it a link heartbeat, or the first post or snapshot to or from it that succeeds, which is to say that Process took it.", []string{"noticed"}, ""},
	{"A stream on which nothing arrives for ReadTimeout is closed and dialled again, and link heartbeats keep an idle one alive.", []string{"noticed", "streams", "recovery", "healthy link"}, ""},
	{"While any stream is up, a failed post does not make the peer inactive.", []string{"active"}, ""},
	{"A post or a snapshot of it that succeeded keeps the peer active for ReadTimeout, also while its streams are down, and so does one to it until the next that fails: a peer that restarts within that time may stay active throughout.", []string{"noticed", "active"}, ""},
	{"A panic of a callback (of Raft, Snapshotter, Observer, VerifyPeer, DialContext, or the log) ends the process, whichever way a message came: by stream, post or snapshot.", nil, "it would end the simulation: tests of the root package do it in processes of their own"},
	{"It is logged with the type and the sender of the message, and then raised again where nobody recovers it, as net/http would for what came by post.", nil, "as the sentence before"},
	{"Only a panic of the reader of a snapshot is no more than a failure of the snapshot.", []string{"snapshot ends"}, ""},
	{"Stop waits until no goroutine of the transport runs and no callback will come, with these exceptions: the Close of a snapshot's reader or of a connection of the application's own kind that hangs, the Read of a body behind a handler that hides its deadlines, and the Close of a snapshot that SendSnapshot is given once Stop was called.", []string{"stop", "silence", "goroutines"}, ""},
	{"So Stop must not be called from inside a callback, and Process has to return soon after its context ended.", nil, "it is what callers have to do"},
}
