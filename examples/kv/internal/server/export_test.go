package server

import (
	"context"
	"strings"

	"go.etcd.io/raft/v3"
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

// BeginSnapshot and EndSnapshot are what sending a snapshot of this index does.
func (s *Server) BeginSnapshot(index uint64) (ok bool) { return s.snapshots.begin(index) }
func (s *Server) EndSnapshot(index uint64)             { s.snapshots.end(index, true) }

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
