package server

import (
	"context"
	"strings"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/examples/kv/internal/storage"
)

// DecodeCommand decodes what an entry carries, and encodes it again.
func DecodeCommand(b []byte) (again []byte, err error) {
	c, err := decodeCommand(b)
	return c.encode(), err
}

// EncodePut encodes a command that sets a key.
func EncodePut(request uint64, key, value string) []byte {
	return command{op: opPut, request: request, key: []byte(key), value: []byte(value)}.encode()
}

// SaveSnapshot saves what the transport brings with a snapshot of which raft is not told, or which it does not want.
func (s *Server) SaveSnapshot(index uint64, data string) error {
	_, err := s.snapshots.SaveDBFrom(strings.NewReader(data), index)
	return err
}

// BeginSnapshot and EndSnapshot are what sending a snapshot of this index to a member does, and ReleaseSnapshot what its
// installation does.
func (s *Server) BeginSnapshot(to, index uint64) (ok bool) { return s.snapshots.begin(to, index) }
func (s *Server) EndSnapshot()                             { s.snapshots.end(raft.None, true) }
func (s *Server) ReleaseSnapshot(to, index uint64)         { s.snapshots.release(to, index) }

// ApplyWith applies the committed entries of a storage with one of the loops, and returns the first index of the log when
// raft hears of it, and after that.
func ApplyWith(cfg Config, st *storage.Storage, committed []*raftpb.Entry) (then, after uint64, err error) {
	snapshots, err := openSnapshots(cfg.DataDir)
	if err != nil {
		return 0, 0, err
	}
	defer snapshots.store.Close()
	s := newApplier(cfg, st, snapshots)
	s.node = toldNode{told: func() { then, _, _ = st.Log.Extent() }}
	err = s.applyCommitted(committed)
	after, _, _ = st.Log.Extent()
	return then, after, err
}

// newApplier returns the part of a Server that applies entries; its raft is told nothing.
func newApplier(cfg Config, st *storage.Storage, snapshots *snapshots) *Server {
	s := &Server{cfg: cfg, log: zap.NewNop(), storage: st, snapshots: snapshots, waiters: newWaiters(), transport: &rafthttp.Transport{}, readySeconds: newReadySeconds()}
	s.life, s.end = context.WithCancelCause(context.Background())
	s.node = toldNode{told: func() {}}
	return s
}

// applyCommitted applies committed entries with the one loop or the other.
func (s *Server) applyCommitted(entries []*raftpb.Entry) error {
	if s.cfg.AsyncStorageWrites {
		applied := &raftpb.Message{To: new(s.cfg.ID), From: new(raft.LocalApplyThread)}
		return s.applyAll([]*raftpb.Message{{From: new(s.cfg.ID), Entries: entries, Responses: []*raftpb.Message{applied}}})
	}
	return s.handleReady(raft.Ready{CommittedEntries: entries})
}

// toldNode is a raft that is told what has been applied.
type toldNode struct {
	raft.Node
	told func()
}

func (n toldNode) Advance()                                    { n.told() }
func (n toldNode) Step(context.Context, *raftpb.Message) error { n.told(); return nil }

// Reader is the part of a Server that makes reads linearizable, with a raft that
// answers as the test says.
type Reader struct {
	Ask func(id []byte) // called for each question to raft
	s   *Server
}

// NewReader returns a Reader that has applied everything up to an index.
func NewReader(ctx context.Context, applied uint64) *Reader {
	r := &Reader{s: &Server{life: ctx, reads: newReads()}}
	r.s.node = askedNode{Reader: r}
	r.s.applied.set(applied)
	return r
}

// Confirm returns when reads that came in before it was called may be answered.
func (r *Reader) Confirm() error { return r.s.confirmReads() }

// Answer is raft's answer to a question.
func (r *Reader) Answer(id []byte, index uint64) {
	r.s.reads.answer(raft.ReadState{Index: index, RequestCtx: id})
}

// Apply says that everything up to an index is applied.
func (r *Reader) Apply(index uint64) { r.s.applied.set(index) }

type askedNode struct {
	raft.Node
	*Reader
}

func (n askedNode) ReadIndex(_ context.Context, id []byte) error {
	n.Ask(id)
	return nil
}
