package rafthttp

import (
	"context"
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

func (s *snapshotSettings) resuming() ResumingSnapshotter {
	store, _ := s.store.(ResumingSnapshotter)
	return store
}

// serveSnapshot saves a database and delivers the message at its head
// (PROTOCOL.md, sections 1 and 3.7).
func (q *request) serveSnapshot() error {
	if err := q.rememberRemote(); err != nil {
		return err
	}
	if q.engine.snapshots.store == nil {
		return protocol.ErrNoSnapshotter
	}
	in := &incomingSnapshot{request: q, log: q.engine.cfg.Log.With(zap.String("remote-peer-id", q.from.String()))}
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
	offset, sum, err := q.engine.receiving.Offset(q.engine.ctx, question, q.partialDB)
	if err != nil {
		return err
	}
	protocol.SnapshotOffset{Offset: offset, Sum: sum}.StateIn(q.w.Header())
	q.w.WriteHeader(http.StatusNoContent)
	return nil
}

// partialDB asks the Snapshotter how much of a database it has.
func (q *request) partialDB(t snap.Transfer) (int64, uint32) {
	defer q.engine.cfg.Guard.End(q.engine.cfg.Guard.Begin(callback.Call{Name: "Snapshotter.PartialDB", Peer: q.from}))
	return q.engine.snapshots.resuming().PartialDB(t)
}

// mayResume returns why the sender of a request may not resume a database.
func (q *request) mayResume() error {
	if q.engine.snapshots.resuming() == nil {
		return protocol.ErrNotResuming
	}
	if q.from == 0 {
		return protocol.BadRequest("no %s", protocol.HeaderFrom)
	}
	return q.engine.cfg.Self.CheckTo(q.r.Header)
}

// incomingSnapshot is a request with a snapshot. It implements
// snapshot.Incoming.
type incomingSnapshot struct {
	request *request
	log     *zap.Logger // names the sender
	saver   Snapshotter // of the database, once known
}

func (in *incomingSnapshot) Sender() types.ID          { return in.request.from }
func (in *incomingSnapshot) TLS() *tls.ConnectionState { return in.request.r.TLS }
func (in *incomingSnapshot) Header() http.Header       { return in.request.r.Header }
func (in *incomingSnapshot) Body() (io.Reader, int64) {
	return in.request.r.Body, in.request.r.ContentLength
}
func (in *incomingSnapshot) SetReadDeadline(t time.Time) error {
	return in.request.rc.SetReadDeadline(t)
}
func (in *incomingSnapshot) ProtoMajor() int { return in.request.r.ProtoMajor }
func (in *incomingSnapshot) CloseAfter()     { in.request.w.Header().Set("Connection", "close") }
func (in *incomingSnapshot) Resumes() error  { return in.request.mayResume() }

// Hijack implements snapshot.Incoming.
func (in *incomingSnapshot) Hijack(ended bool) (c net.Conn, prefetched []byte, err error) {
	// A sender that closes the connection afterwards does not need it. HTTP/1.0 has no interim responses.
	if !in.request.r.Close || in.request.r.ProtoMajor != 1 || in.request.r.ProtoMinor == 0 {
		return nil, nil, http.ErrNotSupported
	}
	return conn.Hijack(in.request.engine.ctx, in.request.rc, ended)
}

// Respond implements snapshot.Incoming.
func (in *incomingSnapshot) Respond(w *snapshot.Response) {
	maps.Copy(w.Header(), in.request.w.Header())
	in.request.w, in.request.taken = w, w
}

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
	c := callback.Call{Name: "Snapshotter.PrepareDB", Peer: in.request.from, Lane: laneSnapshot, Type: m.GetType(), From: m.GetFrom()}
	defer in.request.engine.cfg.Guard.End(in.request.engine.cfg.Guard.Begin(c))
	in.saver = in.request.engine.snapshots.store
	if s, ok := in.request.engine.snapshots.store.(PreparingSnapshotter); ok {
		ctx, cancel := context.WithTimeoutCause(in.request.engine.ctx, in.request.engine.cfg.ReadTimeout, ErrStalled)
		defer cancel()
		saver, err := s.PrepareDB(ctx, m, size)
		if err != nil {
			return nil, err
		}
		if saver != nil && !callback.IsNil(saver) {
			in.saver = saver
		}
	}
	if s, ok := in.saver.(ResumingSnapshotter); ok {
		return guardedResumer{guardedSaver{s, in.request.engine.cfg.Guard, c}, s}, nil
	}
	return guardedSaver{in.saver, in.request.engine.cfg.Guard, c}, nil
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
	if d, ok := in.saver.(DiscardingSnapshotter); ok && !in.request.left { // Stop may have returned if left is set
		defer in.request.engine.cfg.Guard.End(in.request.engine.cfg.Guard.Begin(callback.Call{Name: "Snapshotter.DiscardDB", Peer: in.request.from}))
		d.DiscardDB(index, cause)
	}
}

// guardedSaver is a Snapshotter under guard.
type guardedSaver struct {
	Snapshotter
	guard callback.Guard
	in    callback.Call
}

func (s guardedSaver) SaveDBFrom(r io.Reader, id uint64) (int64, error) {
	s.in.Name = "Snapshotter.SaveDBFrom"
	defer s.guard.End(s.guard.Begin(s.in))
	return s.Snapshotter.SaveDBFrom(r, id)
}

// guardedResumer is a ResumingSnapshotter under guard.
type guardedResumer struct {
	guardedSaver
	s ResumingSnapshotter
}

func (s guardedResumer) ResumeDBFrom(r io.Reader, t snap.Transfer, offset int64, sum func() (uint32, error)) (int64, error) {
	s.in.Name = "Snapshotter.ResumeDBFrom"
	defer s.guard.End(s.guard.Begin(s.in))
	return s.s.ResumeDBFrom(r, t, offset, sum)
}

// finish sends the answer of a connection that was taken over, and closes it.
func (q *request) finish() {
	if q.taken != nil {
		q.taken.Finish(q.engine.cfg.WriteTimeout)
	}
}
