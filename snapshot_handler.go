package rafthttp

import (
	"crypto/tls"
	"io"
	"maps"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"

	"github.com/seed-4d73690b/rafthttp/internal/callback"
	"github.com/seed-4d73690b/rafthttp/internal/conn"
	"github.com/seed-4d73690b/rafthttp/internal/faultpoint"
	"github.com/seed-4d73690b/rafthttp/internal/protocol"
	"github.com/seed-4d73690b/rafthttp/internal/snapshot"
	"github.com/seed-4d73690b/rafthttp/snap"
)

// serveSnapshot saves a database and delivers the message at its head
// (PROTOCOL.md, sections 1 and 3.7).
func (q *request) serveSnapshot() error {
	if protocol.StatesGroup(q.r.Header) {
		return protocol.BadRequest("a snapshot of a raft group, at the path of others")
	}
	if err := q.rememberRemote(); err != nil {
		return err
	}
	if q.engine.snapshots.store == nil {
		return protocol.ErrNoSnapshotter
	}
	in := &incomingSnapshot{snapshotRequest: snapshotRequest{q}, saving: q.engine.snapshots.store.Begin(q.from), log: q.engine.cfg.Log.With(zap.String("remote-peer-id", q.from.String()))}
	var observe func(*snapshot.Progress) func(snapshot.Status)
	sender := q.engine.cfg.Notifiers.AcquireForRequest(q.from)
	if sender != nil {
		defer q.engine.cfg.Notifiers.Release(q.from, sender)
		in.log = sender.Log
		observe = func(p *snapshot.Progress) func(snapshot.Status) {
			return q.engine.snapshots.observeProgress(sender.Events, p)
		}
	}
	st, began, err := q.engine.receiving.Receive(q.engine.ctx, in, observe)
	if began && sender != nil {
		snapshotEnded(sender.Events, q.engine.snapshots.received, st, err)
	}
	if p := q.engine.peerOf(q.from); began && p != nil {
		p.lastReceived.Store(&st)
	}
	if err != nil {
		return err
	}
	faultpoint.Hit(faultpoint.SnapshotProcessed)
	q.succeed()
	return nil
}

// serveSnapshotOffset answers how much of a database is present (extensions: the
// question).
func (q *request) serveSnapshotOffset() error {
	if err := q.mayResume(); err != nil {
		return err
	}
	question, err := protocol.SnapshotQuestionIn(q.r.Header, q.from)
	if err != nil {
		return err
	}
	if err := q.unlessRemoved(q.from, protocol.ErrMemberGone); err != nil {
		return err
	}
	return q.stateOffset(q.engine.receiving.Offset(q.engine.ctx, question, q.engine.snapshots.store.PartialDB(q.from)))
}

// stateOffset answers a question, or returns err.
func (q *request) stateOffset(offset int64, sum uint32, err error) error {
	if err != nil {
		return err
	}
	protocol.SnapshotOffset{Offset: offset, Sum: sum}.StateIn(q.w.Header())
	q.w.WriteHeader(http.StatusNoContent)
	return nil
}

// serveGroupOffset is serveSnapshotOffset for a raft group (extensions: snapshots of groups).
func (q *request) serveGroupOffset() error {
	return q.stateOffset(q.engine.groups.SnapshotOffset(q.from, q.r.Header, q.w.Header()))
}

// serveGroupSnapshot receives a snapshot of a raft group (extensions: snapshots of groups).
func (q *request) serveGroupSnapshot() error {
	if err := q.engine.groups.ReceiveSnapshot(snapshotRequest{q}); err != nil {
		return err
	}
	q.w.WriteHeader(http.StatusNoContent)
	return nil
}

// mayResume returns why the sender of a request may not resume a database.
func (q *request) mayResume() error {
	if !q.engine.snapshots.store.Resumes() {
		return protocol.ErrNotResuming
	}
	if q.from == 0 {
		return protocol.BadRequest("no %s", protocol.HeaderFrom)
	}
	return q.engine.cfg.Self.CheckTo(q.r.Header)
}

// snapshotRequest is a request with a snapshot. It implements snapshot.Request.
type snapshotRequest struct{ request *request }

func (in snapshotRequest) Sender() types.ID          { return in.request.from }
func (in snapshotRequest) TLS() *tls.ConnectionState { return in.request.r.TLS }
func (in snapshotRequest) Header() http.Header       { return in.request.r.Header }
func (in snapshotRequest) Body() (io.Reader, int64) {
	return in.request.r.Body, in.request.r.ContentLength
}
func (in snapshotRequest) SetReadDeadline(t time.Time) error {
	return in.request.rc.SetReadDeadline(t)
}
func (in snapshotRequest) CheckNotRevoked() error { return in.request.checkNotRevoked() }
func (in snapshotRequest) ProtoMajor() int        { return in.request.r.ProtoMajor }
func (in snapshotRequest) CloseAfter()            { in.request.w.Header().Set("Connection", "close") }

// Hijack implements snapshot.Request.
func (in snapshotRequest) Hijack(ended bool) (c net.Conn, prefetched []byte, err error) {
	// A sender that closes the connection afterwards does not need it. HTTP/1.0 has no interim responses.
	if !in.request.r.Close || in.request.r.ProtoMajor != 1 || in.request.r.ProtoMinor == 0 {
		return nil, nil, http.ErrNotSupported
	}
	return conn.Hijack(in.request.engine.ctx, in.request.rc, ended)
}

// Respond implements snapshot.Request.
func (in snapshotRequest) Respond(w *snapshot.Response) {
	maps.Copy(w.Header(), in.request.w.Header())
	in.request.w, in.request.taken = w, w
}

// incomingSnapshot is a snapshot of a member. It implements snapshot.Incoming.
type incomingSnapshot struct {
	snapshotRequest
	log    *zap.Logger // names the sender
	saving *callback.Saving
}

// Resumes implements snapshot.Incoming.
func (in *incomingSnapshot) Resumes() error { return in.request.mayResume() }

// Authorize implements snapshot.Incoming.
func (in *incomingSnapshot) Authorize(m *raftpb.Message) error {
	if err := in.request.authorize(m); err != nil {
		return err
	}
	if in.request.isPaused() {
		in.request.engine.peerOf(in.request.from).dropPost(m, ErrPaused)
		return ErrPaused
	}
	return nil
}

// Began implements snapshot.Incoming.
func (in *incomingSnapshot) Began(index uint64) (*zap.Logger, *atomic.Uint64) {
	lines, bytes := in.request.engine.snapshotLines, (*atomic.Uint64)(nil)
	if p := in.request.engine.peerOf(in.request.from); p != nil {
		lines, bytes = p.snapshotLines, &p.member.Counters.GotSnapshots // unauthenticated clients cannot use them up
	}
	return snapshot.TransferLog(lines, in.log.With(zap.Uint64("snapshot-index", index))), bytes
}

// Saver implements snapshot.Incoming: it asks which Saver saves the database of m.
func (in *incomingSnapshot) Saver(m *raftpb.Message, size int64) (snap.Saver, error) {
	return in.saving.Saver(in.request.engine.ctx, laneSnapshot, m, size)
}

// Process implements snapshot.Incoming.
func (in *incomingSnapshot) Process(m *raftpb.Message) error {
	if err := in.request.authorize(m); err != nil { // again: saving took a while
		return err
	}
	return in.request.deliver(m, laneSnapshot, in.request.engine.snapshots.transfer.AnswerTimeout, func() {})
}

// Discard implements snapshot.Incoming.
func (in *incomingSnapshot) Discard(index uint64, cause error) {
	if !in.request.left { // Stop may have returned if left is set
		in.saving.Discard(index, cause)
	}
}

// finish sends the answer of a connection that was taken over, and closes it.
func (q *request) finish() {
	if q.taken != nil {
		q.taken.Finish(q.engine.cfg.WriteTimeout)
	}
}
