// Package rafthttp carries the messages of go.etcd.io/raft/v3 between the
// members of a cluster, over the wire that etcd's members speak.
//
// A [Transport] is one member's end of it. It serves the other members by an
// http.Handler, sends the messages given to Send and SendSnapshot, and passes
// received messages and losses to the application's [Raft].
//
// # Usage
//
// The application is a Raft; around a raft.Node it is four lines:
//
//	type server struct {
//		node    raft.Node
//		removed sync.Map // ids of removed members: part of the durable state
//	}
//
//	func (s *server) Process(ctx context.Context, m *raftpb.Message) error { return s.node.Step(ctx, m) }
//	func (s *server) IsIDRemoved(id uint64) bool                           { _, gone := s.removed.Load(id); return gone }
//	func (s *server) ReportUnreachable(id uint64)                          { s.node.ReportUnreachable(id) }
//	func (s *server) ReportSnapshot(id uint64, st raft.SnapshotStatus)     { s.node.ReportSnapshot(id, st) }
//
// Process has nothing to check: it is never called with messages for other members,
// from members that IsIDRemoved reports, or in the name of raft's local threads.
// Process may be called as soon as AddPeer is called or the handler is served, so the
// node must be running by then. A server that has applied its own removal exits.
//
// If the log is compacted and membership changes, Process passes a MsgSnap to the
// Ready loop below, which calls Step between two Readys, and waits for the result.
// Otherwise an older membership change that is not applied yet would modify the
// membership that the snapshot brings (docs/snapshots-and-members.md).
//
// Create a transport, add the other members, and serve them:
//
//	t := &rafthttp.Transport{
//		ID: 1, ClusterID: clusterID, // drawn at random when the cluster was founded
//		URLs: urls, // our own peer URLs
//		Raft: s, Snapshotter: store, ErrorC: make(chan error, 1), TLSInfo: tlsInfo,
//	}
//	if err := t.Start(); err != nil {
//		return err
//	}
//	defer t.Stop()
//	t.AddPeer(2, []string{"https://10.0.0.2:2380"})
//	t.AddPeer(3, []string{"https://10.0.0.3:2380"})
//	ln, err := rafthttp.NewListener(urls[0], &tlsInfo)
//	if err != nil {
//		return err
//	}
//	defer ln.Close()
//	go rafthttp.NewServer(t.Handler()).Serve(ln) // or mount it on /raft and /raft/
//
// Before the node starts, t.LimitInflight(config) fits raft's appends in flight to
// the transport's queues. Then send from the Ready loop, after the state that the
// messages acknowledge is durable:
//
//	case rd := <-s.node.Ready():
//		save(rd.HardState, rd.Entries, rd.Snapshot)
//		t.Send(rd.Messages)
//		apply(rd.CommittedEntries) // a ConfChange ends in AddPeer, UpdatePeer, or RemovePeer and s.removed, and in SetConfState
//		s.node.Advance()
//	case err := <-t.ErrorC: // the local member was removed from the cluster
//		return err
//
// A leader (raft.StateLeader in the last SoftState, including that of the same Ready)
// may call Send before save: its messages acknowledge nothing on its own disk. Those of
// a follower and of a candidate do.
//
// With raft.Config.AsyncStorageWrites the loop does not wait for the disk.
// [SplitMessages] sorts the messages, and two goroutines handle theirs in order:
//
//	case rd := <-s.node.Ready():
//		peers, appends, applies := rafthttp.SplitMessages(rd.Messages)
//		t.Send(peers) // at once: none of these waits for the disk
//		toAppend <- appends
//		toApply <- applies
//
//	for _, m := range <-toAppend { // and the same for toApply, with apply(m.Entries)
//		save(&raftpb.HardState{Term: m.Term, Vote: m.Vote, Commit: m.Commit}, m.Entries, m.Snapshot)
//		rafthttp.DeliverResponses(m, step, t.Send) // step calls s.node.Step
//	}
//
// The rules are in docs/async-storage-writes.md.
//
// To shut down, stop the loop first, then the transport, then the node, and close the
// storage last: Process may be called until Stop returns, and it needs the node.
//
// A MsgSnap with a separate database goes through SendSnapshot instead, as a
// [snap.Message]. The receiver saves the database with its Snapshotter, normally a
// [snap.Store], before Process is called with the message. Before Start, the server
// claims the databases from its previous run that it still needs, and the store
// removes the others ([snap.Store.RemoveUnclaimed]). After Stop the server closes the
// store. The folder examples/kv is a complete server built this way.
//
// # Guarantees
//
// Send never blocks, does no I/O and never calls into Raft or the Observer. Each message is either
// accepted by exactly one queue, which is bounded in messages and in bytes, or reported
// as lost; an accepted message that cannot be written is reported as well. Raft is told
// by ReportUnreachable, once for any number of messages, and sends again. A message over
// MaxMessageBytes is dropped with ErrExceedSizeLimit. A message that was written to a
// connection may still be lost with the connection, so the loss of a stream to the peer
// is always reported, even with an empty queue. Order is kept within a queue, except on the
// pipeline, which posts up to four messages of each kind at a time.
//
// Control messages (heartbeats, votes, responses), appends and proposals have separate
// queues on the message stream, each with the bounds of its lane, and control messages
// are sent first. MsgApp uses the msgapp stream, all other messages the message stream.
// While a stream is down, MsgApp falls back to the message stream, and all messages to
// the pipeline, with one POST per message; a MsgSnap given to Send always uses the
// pipeline, and so does, after its stream broke, a MsgApp larger than any that the peer
// has accepted by POST since it last dialled that stream: the peer may have a lower size
// limit, which only the answer to a POST reports. The pipeline has separate room and
// workers for each of the three kinds: control messages wait for no append and no
// proposal there.
//
// Received messages wait for Process in three queues per peer: control, append and
// proposal. A blocked Process on one queue does not delay the others. That holds for
// messages from streams, from POSTs and with snapshots, and for senders that are not
// peers yet; it also holds while a member becomes a peer, is removed or is added again.
// A full append queue slows its stream down for as long as Process returns within
// ReadTimeout; after that the stream is closed, and the sender's raft is told
// (ErrProcessStalled). The other two queues drop messages at once, as raft expects of a
// network, and so does the append queue for appends from the message stream: waiting
// would delay heartbeats. A POST waits for its turn and for Process, whose result is the
// answer; it is answered with an error if its queue is full or its time is over.
//
// A slow follower receives what its line can carry, with any of raft's limits of appends
// in flight. Raft may have more appends in flight than the queue holds, and is told of
// dropped ones only after half of the queue has drained; an append that raft sends again
// while the first copy is still in transit is not sent twice. So a report of dropped
// appends may be delayed: until half of the queue has drained, or until the stream ends.
// This holds for both streams and for the pipeline, where a failed POST has the effect of
// the end of a stream; for a remote, dropped appends are reported at once.
// Transport.LimitInflight keeps raft from filling the queue at all. Appends that are
// queued while the follower receives a snapshot with all their entries are neither sent
// after it nor reported.
//
// This holds for one raft group per Transport. If messages carry a Context, by which
// several groups share a Transport, copies cannot be recognized: an append without room
// is reported after the last one with a Context has left the queue, and those in transit
// by then are sent twice. Such groups should each have a MaxInflightBytes, so that
// together they never fill a queue.
//
// SendSnapshot ends in exactly one ReportSnapshot, one Close of the reader and one value
// from CloseNotify, however it ends; only a transport that is stopped or not started does
// not report. SnapshotBackoff holds reports of failures back, and nothing else. The
// reader is never closed by the goroutine that calls SendSnapshot.
// Process is called only after the Snapshotter has saved the whole database, and a
// database is discarded if its message is not processed ([DiscardingSnapshotter]). There
// is no limit to how long a transfer takes while bytes move; an interrupted transfer is
// resumed if both members can. An error names its cause: ErrSnapshotDiskFull and others.
//
// A peer is active from the first frame of an inbound stream (direction "in"), including
// link heartbeats, or from the first POST or snapshot, in either direction, that Process
// has accepted. A stream that delivers nothing for ReadTimeout is closed and dialled
// again, and link heartbeats keep an idle one alive. While any stream is up, a failed POST
// does not make the peer inactive. A successful POST or snapshot from the peer keeps it
// active for ReadTimeout, also while its streams are down, and a successful one to it does
// so until the next failure: a peer that restarts within that time may stay active
// throughout.
//
// A panic of a callback (of Raft, Snapshotter, Observer, VerifyPeer, DialContext, or the
// log) ends the process, however the message arrived: by stream, POST or snapshot. It is
// logged with the type and the sender of the message, and then raised again on a
// goroutine without recover, because net/http would recover it in a handler. A panic of a
// snapshot's reader does not end the process: it fails the snapshot.
//
// Stop waits until no goroutine of the transport runs and no callback will be invoked,
// with these exceptions: a blocked Close of a snapshot's reader or of a connection of the
// application's own type, the Read of a body behind a handler that hides its deadlines,
// and the Close of a snapshot given to SendSnapshot after Stop was called. So Stop must
// not be called from inside a callback, and Process must return soon after its context is
// cancelled.
//
// # Limits
//
// Nothing that a peer sends is trusted. A declared length allocates at most 1 MiB ahead
// of the bytes that have arrived, MaxMessageBytes bounds a message on the wire and in
// memory, malformed headers are errors, and at most 64 KiB of an answer's body are read.
// A misbehaving peer loses its own connection and nothing else. Everything that waits is
// bounded: queues (a limit for each and one for all), POSTs, snapshots in flight, remotes,
// connections and TLS handshakes from one address and in all, and log lines (each message
// has a limit per peer, see docs/operating.md). docs/threat-model.md lists these limits
// for each kind of attacker.
//
// # Concurrency
//
// All methods of a Transport are safe for concurrent use, also from inside Process and
// under locks that callbacks take; only Stop must not be called there. Callbacks (of Raft,
// of the Observer, and the log) are invoked from several goroutines at once, under no
// lock, and never from a goroutine that is inside a method of the Transport. Reports, log
// lines, and hooks about states, drops and snapshots are delivered in order, one at a time
// per member, whether it is a peer, was one, or will be one. A slow callback delays only
// the member that it is about. A peer costs two goroutines, one per stream that is read,
// and two more for connections that the peer reads; queues have goroutines only while they
// are in use, callbacks while there is something to deliver, and POSTs for as long as
// their connections are kept.
//
// # Wire compatibility
//
// Members that run etcd 3.4 to 3.7, or any server on
// go.etcd.io/etcd/server/v3/etcdserver/api/rafthttp, can be peers: endpoints, headers, both
// streams, POSTs, snapshots, probes and status codes are the same; the tests run against
// 3.6 and 3.7. The API names are upstream's too, so code written for it compiles after
// changing imports, with these differences: [snap.Message] is defined by this module;
// Snapshotter is an interface; there are no ServerStats and LeaderStats, use Status or
// Observer; the timeouts of connections are fields of Transport.
//
// # Deviations from upstream
//
// Behavior matches etcd 3.7, with these exceptions. Sending:
//
//   - Losses are reported from a goroutine of the transport and coalesced, never from
//     inside Send. When a stream to the peer ends, the peer is reported unreachable even
//     if nothing was queued.
//   - Queues are bounded in bytes as well as in messages, each and together.
//   - Appends without room are reported once the queue has drained, and an append whose
//     entries are queued or in transit is not sent twice meanwhile.
//   - A message is sent in the short form of the msgapp stream only if that form carries
//     all its fields; upstream's sender loses the others.
//   - Messages for the local member, and for raft's local threads, are counted and logged
//     (ErrLocalMessage), even if a member claims the id of such a thread.
//   - A stream that is down, or that ends within ReadTimeout, is redialled at growing
//     intervals, up to one second; upstream always redials ten times a second.
//   - A peer that answers probes is probed every 28 s by default, and every 4 s while it
//     does not, on a connection that is closed afterwards; upstream probes every 4 s,
//     twice.
//   - Proxies from the environment are not used between members.
//   - A peer is active from the first frame of a stream, not from the answer that precedes
//     it; a failed POST does not make it inactive while a stream is up.
//   - A POST on a connection that the peer was closing is repeated, unless it is a
//     proposal, which raft would append twice; upstream repeats none.
//
// Receiving:
//
//   - Appends have a receive queue apart from proposals and from control messages. POSTs
//     and snapshots use the same queues, so messages of one kind from one member are
//     processed one after another (upstream processes POSTs concurrently), and a full
//     queue slows the stream down.
//   - ReadTimeout applies to streams: a silent peer is noticed. Upstream's has had no
//     effect on the dialling side since etcd 3.5.
//   - MaxMessageBytes applies to POSTs, and to the memory of a message.
//   - At most 256 POSTs are read at once, 16 per member, and 128 from members that are not
//     peers; of each kind (control, append, proposal) as many may wait for Process. Others
//     are answered 503. A body that takes longer than ReadTimeout and WriteTimeout together
//     must arrive at 16 KiB/s or more.
//   - Malformed headers, a sender 0, and a sender that differs from the one in the path of
//     a stream are answered 400; upstream panics on some, and adds 0 as a remote.
//   - If Process returns ErrMemberRemoved, the answer is 403, unless the sender has
//     forwarded the message for another member.
//   - The context of Process for a POST ends after ReadTimeout and WriteTimeout together,
//     that for a snapshot after SnapshotAnswerTimeout; upstream's has no deadline.
//   - A panic of a callback ends the process also in a handler, where net/http recovers it
//     with upstream.
//   - After Stop, and before Start, every request is answered 503; upstream still answers
//     probes and processes POSTs.
//   - Data from the reading end of a stream closes it.
//   - A stream on a response that can neither be hijacked nor have its writes bounded and
//     flushed, because of a wrapper, is answered 501.
//   - If the connection can be taken over from the server (HTTP/1.1), the answer of a
//     stream ends with its connection instead of being chunked.
//
// Snapshots:
//
//   - SendSnapshot to a member that is not a peer is reported as a failure; upstream only
//     closes the message.
//   - A transfer that makes no progress for ReadTimeout is aborted, at both ends. The answer
//     has SnapshotAnswerTimeout, one minute; upstream waits 5 s. A receiver that works
//     without reading says so (docs/extensions.md), and has longer.
//   - A reader that is longer or shorter than declared is a failure.
//   - At most MaxSnapshots are sent, and received, at a time. One member may use only so
//     many that each other peer has a place, up to half of them. A snapshot to send waits
//     for a place, and fails if 16 to the same peer are waiting or under way; one to receive
//     without a place is answered 503. One that is sent no longer counts while its receiver reports that it works.
//   - Without a Snapshotter they are answered 501.
//   - The body of an answer 500 says why a database was not saved, in words that a sender
//     of this package understands.
//   - A Snapshotter can be asked before the database arrives, and is told when it is not
//     used: PreparingSnapshotter, DiscardingSnapshotter. snap.Store refuses a database for
//     which the disk has no room, and keeps none whose message is not processed.
//   - snap.Store replaces a database of the same index with a later complete one; upstream
//     discards the later one.
//   - Between two members with a ResumingSnapshotter, such as snap.Store, a database carries
//     a checksum, and an interrupted transfer is resumed, by headers that stock members
//     ignore: docs/extensions.md. Before a snapshot the peer is probed, to find out. A stock
//     member gets the stock request, on another connection.
//
// Members:
//
//   - Start reports an invalid field by a [ConfigError]. A malformed URL given to AddPeer,
//     AddRemote or UpdatePeer panics with and without a Logger, as does the id 0 given to
//     AddPeer or AddRemote, which upstream accepts as a member.
//   - There are at most 128 remotes. One that is not used for 10 minutes is dropped, as is
//     one that becomes a peer; those learned from headers never displace those of AddRemote.
//     A header may name 32 URLs. A removed member (IsIDRemoved) does not become a remote.
//   - UpdatePeer moves live streams too, not only those dialled later.
//   - The field URLs is read by Start, as all fields are; SetURLs changes them later.
//   - Authorities and the revocation list are reloaded when they change, not only
//     certificates, and open connections are revalidated against them: see TLSRecheck. A
//     truncated file is an error; upstream uses the part that it can parse.
//   - A stream that is replaced by a newer one of the same peer is closed between two
//     messages, if that takes no longer than half a second.
//   - An answer says that the local member was removed (410 to a stream, 403 to a POST or a
//     snapshot) only if it states the local cluster id, as members' answers do.
//   - VerifyPeer can bind certificates to member ids; package peerid has implementations. A
//     stream that fails it is answered 403, other requests 401: to POSTs and snapshots, 403
//     would mean that the sender was removed, and the sender would stop. With VerifyPeer,
//     messages whose From is another member are refused, except MsgProp and
//     MsgTransferLeader, as are those of types that raft sends only to itself.
//   - A message whose From is a local thread of raft is always refused: raft would take it
//     for an answer of its own storage. So is MsgForgetLeader, which only an application may
//     give to its own raft.
//   - A message whose To is neither 0 nor the local member was sent to a wrong address and is
//     refused: a POST and a snapshot with 412 before anything is saved, one from a stream by
//     dropping it. Upstream leaves this to the server.
//   - So is a message from a removed member (IsIDRemoved): its POSTs and snapshots are
//     answered 403 before Process, and 500 if the message is another's, or another member
//     forwards it. A stream ends with RemovePeer.
package rafthttp
