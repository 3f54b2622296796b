package rafthttp

import (
	"errors"
	"net/http"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"

	"github.com/seed-4d73690b/rafthttp/internal/snapshot"
	"github.com/seed-4d73690b/rafthttp/internal/wire"
	"github.com/seed-4d73690b/rafthttp/snap"
)

// serveSnapshot saves a database and hands over the message at its head
// (protocol: endpoints, POST /raft/snapshot).
func (q *request) serveSnapshot() error {
	if err := q.learn(); err != nil {
		return err
	}
	if q.snapshotter == nil {
		return snapshot.ErrNoSnapshotter
	}
	resumed, err := q.resumption()
	if err != nil {
		return err
	}
	t, ok := q.receiving.begin(q)
	if !ok {
		return snapshot.ErrTooMany
	}
	defer q.receiving.end(t)
	body := q.body()
	defer body.release()
	q.receiving.interruptible(t, body.cut)
	src := wire.NewReader(body)
	m, err := wire.NewMessageDecoder(src, q.snapshotHeadLimits).Decode()
	if err != nil {
		return q.badBody("failed to read the message at the head of a snapshot", err)
	}
	if m == nil || m.GetType() != raftpb.MsgSnap {
		return &badRequest{http.StatusBadRequest, "wrong raft message type"}
	}
	if raft.IsEmptySnap(m.GetSnapshot()) {
		return &badRequest{http.StatusBadRequest, "the message carries no snapshot"}
	}
	if err := q.admitted(m); err != nil {
		return err
	}
	if q.isPaused() {
		return ErrPaused
	}
	if p := q.peerOf(q.from); p != nil {
		t.PeerBytes = &p.counters.gotSnapshots
	}
	db := &databaseReader{q: q, t: t, src: src, body: body, left: -1, waits: networkWaits{base: time.Now()}}
	if q.r.ContentLength >= 0 {
		// What was read and not used is the database's. The length of the message is no
		// guide: its encoding may be another's.
		db.left = max(0, q.r.ContentLength-int64(body.bytes)+int64(src.Buffered()))
	}
	if resumed != nil {
		if err := resumed.begin(q, t, m, db); err != nil {
			return err
		}
	}
	t.head(m, db.left)
	defer db.takeOver().stop()
	err = q.saveSnapshot(t, m, db, resumed)
	t.Ended(err)
	if f, st := q.observer.SnapshotReceived, t.State(); !q.eventsOf(q.from).ended(f, st, err) {
		q.events.ended(f, st, err)
	}
	if err != nil {
		return err
	}
	q.w.WriteHeader(http.StatusNoContent)
	return nil
}

// saveSnapshot has the database saved, and after that the message processed.
func (q *request) saveSnapshot(t *incomingSnapshot, m *raftpb.Message, db *databaseReader, resumed *resumption) error {
	lines := q.receiving.lines
	if p := q.peerOf(q.from); p != nil {
		lines = p.snapshotLines // which strangers cannot use up
	}
	log := snapshot.TransferLog(lines, q.log.With(zap.String("remote-peer-id", q.from.String()), zap.Uint64("snapshot-index", t.Index.Load())))
	log.Info("receiving database snapshot", zap.Int64("bytes", t.Total.Load()), zap.Int64("resumed-at", t.Bytes.Load()))
	snapshot.WarnUnlessNamed(log, uint64(q.id), m.GetSnapshot())
	saver, n, err := q.saveDatabase(t, m, db, resumed)
	if err != nil {
		log.Warn("failed to save incoming database snapshot", zap.Int64("bytes", t.Bytes.Load()), zap.Error(err))
		return err
	}
	q.receiving.saved(t)
	log.Info("received and saved database snapshot", zap.Int64("bytes", n), zap.Duration("took", time.Since(t.Started)))
	if err := q.processSaved(m); err != nil {
		q.discard(saver, t.Index.Load(), err)
		return err
	}
	return nil
}

// processSaved has the message of a database processed that was saved.
func (q *request) processSaved(m *raftpb.Message) error {
	if err := q.admitted(m); err != nil { // once more: it took a while
		return err
	}
	return q.deliver(m, laneSnapshot, q.snapshotAnswerTimeout)
}

// saveDatabase returns who has saved the database, and its size. Its errors say
// why it was not saved.
func (q *request) saveDatabase(t *incomingSnapshot, m *raftpb.Message, db *databaseReader, resumed *resumption) (saver Snapshotter, n int64, err error) {
	defer q.guard(callback{"Snapshotter", q.from, laneSnapshot, m.GetType(), m.GetFrom()})
	size := db.left
	if resumed != nil {
		size = resumed.key.Size
	}
	if saver, err = q.saver(m, size); err != nil {
		return nil, 0, snapshot.NotSaved(err)
	}
	if resumed == nil {
		n, err = saver.SaveDBFrom(db, t.Index.Load())
	} else if store, ok := saver.(ResumingSnapshotter); ok {
		n, err = store.ResumeDBFrom(db, resumed.key, resumed.offset, db.trailer)
		n += resumed.offset
	} else {
		return nil, 0, snapshot.ErrNotResuming
	}
	switch {
	case err == nil:
		return saver, n, nil
	case errors.Is(err, snap.ErrOffset):
		return nil, 0, snapshot.ErrOffset
	case db.err != nil && !errors.Is(err, db.err): // a Snapshotter that says nothing of it
		err = errors.Join(err, db.err)
	}
	return nil, 0, snapshot.NotSaved(err)
}
