// Package rafthttp carries the messages of go.etcd.io/raft/v3 between the
// members of a cluster, over the wire that etcd's members speak.
//
// A [Transport] is one member's end of it. It serves the other members by an
// http.Handler, sends what Send and SendSnapshot are given, and calls the
// application's [Raft] with what arrives and with what could not be delivered.
//
// # Usage
//
// The application is a Raft; around a raft.Node it is four lines:
//
//	type server struct {
//		node    raft.Node
//		removed sync.Map // ids of members that left: part of the state, also after a restart
//	}
//
//	func (s *server) Process(ctx context.Context, m *raftpb.Message) error { return s.node.Step(ctx, m) }
//	func (s *server) IsIDRemoved(id uint64) bool                           { _, gone := s.removed.Load(id); return gone }
//	func (s *server) ReportUnreachable(id uint64)                          { s.node.ReportUnreachable(id) }
//	func (s *server) ReportSnapshot(id uint64, st raft.SnapshotStatus)     { s.node.ReportSnapshot(id, st) }
//
// Process has nothing to check: messages for other members, of members that
// IsIDRemoved names, and in the name of raft's local threads do not get there. The
// node has to run before AddPeer is called or the handler is served, since Process may
// be called from then on. A server that has applied its own removal ends.
//
// Where the log is compacted and members change, Process hands a MsgSnap to the Ready
// loop below, which calls Step between two Readys, and waits for the result: a change
// of the members that is older, and still to be applied, would change those that the
// snapshot has brought (docs/snapshots-and-members.md).
//
// Make a transport, tell it who the other members are, and serve them:
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
// Before the node starts, t.LimitInflight(config) fits the appends that raft has in
// flight to the transport's queues. Then send from the Ready loop, once what the messages promise is durable:
//
//	case rd := <-s.node.Ready():
//		save(rd.HardState, rd.Entries, rd.Snapshot)
//		t.Send(rd.Messages)
//		apply(rd.CommittedEntries) // a ConfChange ends in AddPeer, UpdatePeer, or RemovePeer and s.removed
//		s.node.Advance()
//	case err := <-t.ErrorC: // the local member was removed from the cluster
//		return err
//
// While this member leads (the last SoftState, that of the same Ready included, says
// raft.StateLeader), Send may come before save: a leader's messages promise nothing of
// its own disk. A follower's and a candidate's do.
//
// With raft.Config.AsyncStorageWrites the loop waits for no disk. [SplitMessages] takes
// the messages apart, and each of two goroutines does its part in order:
//
//	case rd := <-s.node.Ready():
//		peers, appends, applies := rafthttp.SplitMessages(rd.Messages)
//		t.Send(peers) // at once; what promises something is not among them
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
// To end, stop the loop first, then the transport, then the node, and close the
// storage last: until Stop returns, Process is called, which needs the node.
//
// A MsgSnap whose data is a database of its own goes through SendSnapshot
// instead, as a [snap.Message]; the other side saves the database with its
// Snapshotter, for which [snap.Store] is made, before Process sees the message.
// Before Start, the server claims the databases of an earlier life that it still
// needs, and the store removes the others ([snap.Store.RemoveUnclaimed]); after Stop
// it closes the store.
// The folder examples/kv is a whole server built this way.
//
// # Guarantees
//
// Send never blocks, does no I/O and calls nothing of Raft. Each message is
// taken by exactly one lane, a queue bounded in messages and bytes, or it is
// reported; what a lane has taken and cannot write is reported as well. Raft
// learns of it by ReportUnreachable, once for any number of messages, and sends
// again. A message over MaxMessageBytes is dropped with ErrExceedSizeLimit. A message that was written to a connection may still be lost with the
// connection, so its loss is reported whatever was queued. Within one lane order
// is kept, except on the pipeline, whose posts run four at a time for each kind.
//
// Control messages (heartbeats, votes, responses), appends and proposals wait apart
// for the message stream, each within the bounds of its lane, and control messages
// go first. MsgApp goes over the msgapp stream, all else over the message stream. While a
// stream is down MsgApp falls back to the message stream, and everything to the
// pipeline, one post for each message; a MsgSnap given to Send always goes there,
// and so does, once its stream was lost, a MsgApp larger than all that the peer has taken
// by post since it last dialled that stream: perhaps the peer takes none that large, and
// says so to a post only.
// The pipeline has room and workers for each of the three kinds: control messages
// (heartbeats, votes, responses) wait for no append and no proposal there.
//
// Received messages wait for Process in three lanes for each peer: control
// (heartbeats, votes, responses), append, and proposal. Process may block on one
// without holding up the others. That holds for whatever a peer sends, by streams,
// by posts, or with a snapshot, and for members that post and are no peers yet; it
// stays so while a member becomes a peer, is removed or added again. A
// full append lane slows its stream down for as long as Process takes something
// within ReadTimeout; after that the stream ends, which the sender's raft is told
// (ErrProcessStalled). The other two drop at once, as raft expects of a network, as
// does the append lane for what the message stream brings: waiting for it would hold
// up heartbeats. A
// post waits for its turn, and for what Process returns, which it is answered; it is
// answered with an error if its lane is full or its time is over.
//
// A slow follower gets what its line carries, whatever raft's limits of appends in
// flight. Raft may have more of them than the lane holds, and learns of the dropped
// ones only once half of the lane has drained; what it then sends again while it is
// still on its way is not sent twice. So a report of dropped appends may be late: by
// the time that half of the lane takes, or by the end of the stream. This holds for
// both streams and for the pipeline, where a post that fails ends it as the end of a
// stream does; a remote's appends are reported at once. Transport.LimitInflight keeps
// raft from filling the lane at all. Appends that wait while the follower takes a
// snapshot that has all their entries are not sent after it, nor reported.
//
// This is for one raft group in a Transport. Where messages carry a Context, by which
// several groups share one, copies cannot be told: an append without room is reported
// once none with a Context is queued any more, and what is on the line by then is sent
// twice. Such groups should each have a MaxInflightBytes, so that together they fill no
// lane.
//
// SendSnapshot ends in exactly one ReportSnapshot, one Close of the reader and
// one value from CloseNotify, however it ends, but for a transport that was
// stopped before or not started: that one does not report. The reader is never
// closed by the goroutine that calls SendSnapshot. Process runs only
// after the Snapshotter has saved the whole database, and a database whose message
// is not processed is taken back ([DiscardingSnapshotter]). There is no limit to how long
// a transfer takes, as long as bytes move; one that breaks is resumed where both
// members can. A failure names its cause: ErrSnapshotDiskFull and the others.
//
// A peer is active from the first frame that a stream of it (direction "in")
// brings, be it a link heartbeat, or the first post or snapshot to or from it that
// succeeds, which is to say that Process took it. A stream on which nothing arrives for ReadTimeout is closed and
// dialled again, and link heartbeats keep an idle one alive. While any stream is
// up, a failed post does not make the peer inactive. A post or a snapshot of it that
// succeeded keeps the peer active for ReadTimeout, also while its streams are down, and
// so does one to it until the next that fails: a peer that restarts within that time may
// stay active throughout.
//
// A panic of a callback (of Raft, Snapshotter, Observer, VerifyPeer, DialContext,
// or the log) ends the process, whichever way a message came: by stream, post or
// snapshot. It is logged with the type and the sender of the message, and then
// raised again where nobody recovers it, as net/http would for what came by post.
// Only a panic of the reader of a snapshot is no more than a failure of the
// snapshot.
//
// Stop waits until no goroutine of the transport runs and no callback will come, with
// these exceptions: the Close of a snapshot's reader or of a connection of the
// application's own kind that hangs, the Read of a body behind a handler that hides its
// deadlines, and the Close of a snapshot that SendSnapshot is given once Stop was called.
// So Stop must not be called from inside a callback, and Process has to return soon
// after its context ended.
//
// # Limits
//
// Nothing that a peer sends is trusted. A declared length allocates at most
// 1 MiB ahead of the bytes that arrived, MaxMessageBytes bounds a message both on
// the wire and in memory, headers are parsed with errors, and bodies of answers
// are read to 64 KiB. A bad peer loses its own connection and nothing else.
// Everything that waits is bounded: queues, each and all together, posts,
// snapshots in flight, remotes, connections and TLS handshakes of strangers, and
// log lines: each message has a limit for each peer, which docs/operating.md says.
// What that is for each kind of attacker is in docs/threat-model.md.
//
// # Concurrency
//
// All methods of a Transport may be called concurrently, by any goroutine, also
// from inside Process and under locks that callbacks take; only Stop may not.
// Callbacks (of Raft, of the Observer, and the log) come from several goroutines at
// once, under no lock, and never from one that is inside a method of the Transport.
// Reports, lines of the log, and hooks about states, drops and snapshots come in order
// and one after another for each member, whether it is a peer, was one, or will be one.
// One that is slow costs the member that it is about, and no other. A peer costs two
// goroutines, one for each stream that is read, and two more for connections that
// the peer reads; queues have goroutines only while they are in use, callbacks while
// there is something to tell, and posts for as long as their connections are kept.
//
// # Wire compatibility
//
// Members that run etcd 3.4 to 3.7, or anything on
// go.etcd.io/etcd/server/v3/etcdserver/api/rafthttp, are peers like any other:
// endpoints, headers, both streams, posts, snapshots, probes, and status codes
// are theirs; the tests run against 3.6 and 3.7. The names are upstream's too, so
// that code written for it compiles after changing imports, with these
// differences: [snap.Message] is ours; Snapshotter is an interface; there are no
// ServerStats and LeaderStats, use Status or Observer; the timeouts of
// connections are fields of Transport.
//
// # Deviations from upstream
//
// What can be observed is what etcd 3.7's package does but for what follows, all
// of it on purpose. Sending:
//
//   - Losses are reported from a goroutine of the transport and coalesced, never
//     from inside Send. The end of a stream that the peer read reports it
//     unreachable, even if nothing was queued.
//   - Queues are bounded in bytes as well as in messages, each and together.
//   - Appends without room are reported once the queue has drained, and an append
//     whose entries are queued or on their way is not sent twice meanwhile.
//   - A message goes in the short form of the msgapp stream only if that carries
//     all its fields; upstream's sender loses the others.
//   - Messages for the local member, and for raft's local threads, are counted and
//     logged (ErrLocalMessage), whoever calls itself by the id of such a thread.
//   - A stream that is down, or that ends within ReadTimeout, is dialled less and
//     less often, down to once a second; upstream dials ten times a second for as
//     long as it takes.
//   - A peer that answers probes is probed every 28 s, by default, and every 4 s
//     while it does not, on a connection that is closed again; upstream probes every
//     4 s, twice.
//   - Proxies of the environment are not used between members.
//   - A peer is active from the first frame of a stream, not from the answer that
//     begins it; a post that fails does not make it inactive while a stream is up.
//   - A post on a connection that the peer was closing is made again, unless it
//     is a proposal, which raft would append twice; upstream makes none again.
//
// Receiving:
//
//   - Appends have a receive lane of their own beside proposals and the rest, posts
//     and snapshots go through the same lanes, so that those of one kind from one
//     member are processed one after another (upstream processes posts at once),
//     and a full one slows the stream down.
//   - ReadTimeout holds for streams: a silent peer is noticed. Upstream's has
//     had no effect on the dialling side since etcd 3.5.
//   - MaxMessageBytes holds for posts, and for the memory of a message.
//   - At most 256 posts are read at once, 16 of one member, and 128 of members that
//     are no peers; of each kind (control, append, proposal) as many may wait for
//     Process. The next is answered 503. A body that takes longer than ReadTimeout
//     and WriteTimeout together must come with 16 KiB a second.
//   - Headers that do not parse, a sender 0, and one that differs from the one in
//     the path of a stream, are answered 400; upstream panics at some, and adds 0
//     as a remote.
//   - An error of Process that is ErrMemberRemoved is answered 403, unless the
//     message is one that its sender has passed on for another member.
//   - The context of Process for a post ends after ReadTimeout and WriteTimeout
//     together, that for a snapshot after SnapshotAnswerTimeout; upstream's has
//     no deadline.
//   - A panic of a callback ends the process also below a handler, where net/http
//     recovers it with upstream.
//   - After Stop, and before Start, every request is answered 503; upstream goes on
//     to answer probes, and to process posts.
//   - Data from the reading end of a stream closes it.
//   - A stream on a response that can neither be hijacked nor have its writes bounded
//     and flushed, because of a wrapper, is answered 501.
//   - The answer of a stream ends with its connection instead of being chunked,
//     where the connection can be taken over from the server (HTTP/1.1).
//
// Snapshots:
//
//   - SendSnapshot for a member that is no peer is reported as a failure;
//     upstream only closes the message.
//   - A transfer that stands still for ReadTimeout is ended, at both ends. The
//     answer has SnapshotAnswerTimeout, a minute; upstream waits 5 s. A receiver
//     that works without reading says so (docs/extensions.md), and has longer.
//   - A reader longer or shorter than declared is a failure.
//   - At most MaxSnapshots are sent, and received, at a time, and of one member no
//     more than leave a place to each other peer, up to half of them. The next to be
//     sent waits, and fails over 16 for one peer; the next to be received is answered
//     503. One that is sent no longer counts while its receiver says that it works.
//   - Without a Snapshotter they are answered 501.
//   - The body of an answer 500 says why a database was not saved, in words that a
//     sender of this package understands.
//   - A Snapshotter can be asked before the database comes, and is told when it is
//     not used: PreparingSnapshotter, DiscardingSnapshotter. snap.Store refuses one
//     for which the disk has no room, and keeps none whose message is not processed.
//   - snap.Store replaces a database of the same index by one that came whole;
//     upstream throws the new one away.
//   - Between two members with a ResumingSnapshotter, such as snap.Store, a
//     database carries a checksum, and a transfer that breaks is resumed, by
//     headers that stock members ignore: docs/extensions.md. Before a snapshot a
//     peer is sent a probe, which tells. To a stock member goes the stock request,
//     on another connection.
//
// Members:
//
//   - Start reports a field that cannot work by a [ConfigError]. A wrong URL given
//     to AddPeer, AddRemote or UpdatePeer panics with and without a Logger, as does
//     the id 0 given to AddPeer or AddRemote: upstream takes it for a member.
//   - There are at most 128 remotes. One that is not used for 10 minutes is
//     dropped, as is one that becomes a peer; those learned from headers never
//     displace those of AddRemote. A header may name 32 URLs. A member that was
//     removed (IsIDRemoved) does not become one.
//   - UpdatePeer moves live streams too, not only those dialled later.
//   - The field URLs is read by Start, as all fields are: SetURLs changes them later.
//   - Authorities and revocation list are read again when they change, not only
//     certificates, and connections that are up are held to them: see TLSRecheck. A
//     file of them that is not whole is an error; upstream uses the part before.
//   - A stream that is replaced by a newer one of the same peer is closed between
//     two messages, if that takes no longer than half a second.
//   - An answer says that the local member was removed (410 to a stream, 403 to a
//     post or a snapshot) only if it states our cluster id, as members' answers do.
//   - VerifyPeer can bind certificates to member ids; package peerid has ready
//     ones. A stream that fails it is answered 403, anything else 401: to posts and
//     snapshots, 403 would say that the sender was removed, and it would stop. With
//     VerifyPeer, messages whose From is another member are refused, but for
//     MsgProp and MsgTransferLeader, as are those of types that raft sends only to
//     itself.
//   - A message whose From is a local thread of raft is refused in any case: raft
//     would take it for the word of its own storage. So is MsgForgetLeader, which
//     is for an application to give to its own raft.
//   - A message whose To is neither 0 nor the local member, which has a wrong
//     address, is refused: a post and a snapshot with 412 before anything is saved,
//     one from a stream by dropping it. Upstream leaves that to the server.
//   - So is one of a removed member (IsIDRemoved): its posts and snapshots are
//     answered 403 before Process, and 500 if the message is another's, or another
//     member passes it on. A stream ends with RemovePeer.
package rafthttp
