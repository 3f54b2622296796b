package rafthttp

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"

	"github.com/seed-4d73690b/rafthttp/internal/wire"
)

// serveSnapshot saves a database and hands over the message at its head
// (protocol: endpoints, POST /raft/snapshot).
func (q *request) serveSnapshot() error {
	if err := q.learn(); err != nil {
		return err
	}
	if q.snapshotter == nil {
		return errNoSnapshotter
	}
	t, ok := q.receiving.begin(q.from)
	if !ok {
		return errBusy
	}
	defer q.receiving.end(t)
	body := q.body()
	defer body.release()
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
	if p := q.peerOf(q.from); p != nil {
		if p.paused.Load() {
			return ErrPaused
		}
		t.peerBytes = &p.counters.gotSnapshots
	}
	t.head(m, q.r.ContentLength)
	err = q.saveSnapshot(t, m, src)
	if f := q.observer.SnapshotReceived; f != nil {
		f(q.from, t.index.Load(), t.bytes.Load(), time.Since(t.started), err)
	}
	if err != nil {
		return err
	}
	q.w.WriteHeader(http.StatusNoContent)
	return nil
}

// saveSnapshot has the database saved, and after that the message processed.
func (q *request) saveSnapshot(t *incomingSnapshot, m *raftpb.Message, src *wire.Reader) error {
	log := q.log.With(zap.String("remote-peer-id", q.from.String()), zap.Uint64("snapshot-index", t.index.Load()))
	log.Info("receiving database snapshot", zap.Int64("bytes", t.total.Load()))
	n, err := q.snapshotter.SaveDBFrom(&countingReader{r: src, t: t}, t.index.Load())
	if err != nil {
		log.Warn("failed to save incoming database snapshot", zap.Int64("bytes", t.bytes.Load()), zap.Error(err))
		return fmt.Errorf("failed to save database snapshot: %w", err)
	}
	log.Info("received and saved database snapshot", zap.Int64("bytes", n), zap.Duration("took", time.Since(t.started)))
	// A database that is saved is of use even if the sender has gone meanwhile:
	// the request's context does not matter any more, the transport's does.
	ctx, cancel := context.WithTimeoutCause(q.ctx, q.snapshotAnswerTimeout, ErrStalled)
	defer cancel()
	if ctx.Err() != nil {
		return ErrStopped
	}
	if err := q.process(ctx, q.from, laneSnapshot, m); err != nil {
		return &processError{err, false}
	}
	return nil
}

// countingReader is the database, and knows its length where the sender declared
// it.
type countingReader struct {
	r *wire.Reader
	t *incomingSnapshot
}

// Len returns how many bytes are still to come, below 0 if that is not known.
func (c *countingReader) Len() int64 {
	if total := c.t.total.Load(); total >= 0 {
		return total - c.t.bytes.Load()
	}
	return -1
}

// Read implements io.Reader.
func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.t.bytes.Add(int64(n))
	if c.t.peerBytes != nil {
		c.t.peerBytes.Add(uint64(n))
	}
	return n, err
}

// incomingSnapshot is one transfer to us.
type incomingSnapshot struct {
	from    types.ID
	started time.Time
	index   atomic.Uint64
	bytes   atomic.Int64 // of the database
	total   atomic.Int64 // -1: not known

	peerBytes *atomic.Uint64 // counts bytes for the peer; nil if the sender is none
}

func (t *incomingSnapshot) head(m *raftpb.Message, contentLength int64) {
	t.index.Store(m.GetSnapshot().GetMetadata().GetIndex())
	if contentLength >= 0 {
		t.total.Store(max(0, contentLength-int64(8+wire.MessageSize(m))))
	}
}

// incomingSnapshots are the transfers to us, at most max at once.
type incomingSnapshots struct {
	max int

	mu  sync.Mutex
	all map[*incomingSnapshot]struct{}
}

func (s *incomingSnapshots) begin(from types.ID) (*incomingSnapshot, bool) {
	t := &incomingSnapshot{from: from, started: time.Now()}
	t.total.Store(-1)
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.all) >= s.max {
		return nil, false
	}
	s.all[t] = struct{}{}
	return t, true
}

func (s *incomingSnapshots) end(t *incomingSnapshot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, t)
}

func (s *incomingSnapshots) status() (all []SnapshotStatus) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for t := range s.all {
		all = append(all, SnapshotStatus{
			Peer: t.from, Index: t.index.Load(), Bytes: t.bytes.Load(), Total: t.total.Load(), Started: t.started,
		})
	}
	return all
}

// refusals remember which refusals were logged lately. They are bounded: what a
// stranger sends decides neither memory nor log volume.
type refusals struct {
	mu     sync.Mutex
	logged map[refusal]time.Time
}

type refusal struct {
	from types.ID
	code int
}

const (
	refusalQuiet = time.Minute
	maxRefusals  = 64 // log lines for each refusalQuiet
)

// first reports whether a refusal is to be logged.
func (r *refusals) first(from types.ID, code int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	key := refusal{from, code}
	if at, ok := r.logged[key]; ok && now.Sub(at) < refusalQuiet {
		return false
	}
	if len(r.logged) >= maxRefusals {
		for k, at := range r.logged {
			if now.Sub(at) >= refusalQuiet {
				delete(r.logged, k)
			}
		}
		if len(r.logged) >= maxRefusals {
			return false
		}
	}
	if r.logged == nil {
		r.logged = map[refusal]time.Time{}
	}
	r.logged[key] = now
	return true
}
