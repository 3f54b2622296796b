package snapshot

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"math"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"

	"github.com/seed-4d73690b/rafthttp/internal/conn"
	"github.com/seed-4d73690b/rafthttp/internal/faultpoint"
	"github.com/seed-4d73690b/rafthttp/internal/protocol"
	"github.com/seed-4d73690b/rafthttp/internal/wire"
	"github.com/seed-4d73690b/rafthttp/snap"
)

// Request is a request with a snapshot. It is used by one goroutine, except SetReadDeadline.
type Request interface {
	Sender() types.ID          // 0: not stated
	TLS() *tls.ConnectionState // nil: no TLS
	Header() http.Header
	// Body returns the body, and its length; below 0: not declared.
	Body() (body io.Reader, length int64)
	SetReadDeadline(time.Time) error
	// ProtoMajor is the version of HTTP.
	ProtoMajor() int
	// CloseAfter closes the connection after the answer.
	CloseAfter()
	// Hijack takes the connection over from the server, with the bytes already read. ended means that the body has been
	// read to its end. An error leaves everything unchanged: the connection is not one that is closed after the answer,
	// or cannot be hijacked. Respond then sets the destination of the answer.
	Hijack(ended bool) (conn net.Conn, prefetched []byte, err error)
	Respond(*Response)
	// CheckNotRevoked returns an error if the connection is not accepted any more.
	CheckNotRevoked() error
}

// Incoming is a request with a snapshot, and what becomes of it. It is used by one goroutine, except SetReadDeadline.
type Incoming interface {
	Request

	// Resumes returns why the sender cannot resume an earlier attempt; nil if it can.
	Resumes() error
	// Authorize returns why the message is refused.
	Authorize(m *raftpb.Message) error
	// Began is called once it is authorized, with the index of the snapshot. The counter of bytes may be nil.
	Began(index uint64) (log *zap.Logger, bytes *atomic.Uint64)
	// Saver returns the Saver for the database of size bytes; below 0: unknown.
	Saver(m *raftpb.Message, size int64) (snap.Saver, error)
	// Process processes the message, after its database was saved. The message must not be used afterwards.
	Process(m *raftpb.Message) error
	// Discard tells the Saver that its database is not used, and why.
	Discard(index uint64, cause error)
}

// Resumer is a Saver that can resume an earlier attempt.
type Resumer interface {
	snap.Saver
	ResumeDBFrom(r io.Reader, t snap.Transfer, offset int64, checksum func() (uint32, error)) (int64, error)
}

// reception is the work on one request.
type reception struct {
	receiver *Receiver
	transfer *incoming
	in       Incoming
	plan     protocol.SnapshotPlan
	m        *raftpb.Message
	db       *database
	sum      *uint32 // of the database, once the sender has stated it
	log      *zap.Logger
}

// Receive saves a database, and after that processes the message at its head. Its error is the answer. began says
// whether the message was accepted, so that the transfer counts as one; st is its final status then. It observes
// progress by observe, which may be nil.
func (r *Receiver) Receive(ctx context.Context, in Incoming, observe func(*Progress) func(Status)) (st Status, began bool, err error) {
	plan, err := protocol.SnapshotPlanIn(in.Header())
	if err != nil {
		return st, false, err
	}
	if plan.Resumable {
		if err := in.Resumes(); err != nil {
			return st, false, err
		}
	}
	src, length := in.Body()
	body := conn.NewRequestBody(ctx, src, length, r.cfg.ReadTimeout, in.SetReadDeadline)
	defer body.Release()
	if in.ProtoMajor() > 1 {
		body.RemoveDeadlines()
	}
	cut := func() { body.Cut(protocol.ErrSnapshotCut) }
	t := &incoming{tls: in.TLS(), id: protocol.TransferIn(in.Header()), done: make(chan struct{}), interrupt: cut, waits: networkWaits{base: time.Now()}}
	t.peer, t.group, t.Progress.incoming, t.every = in.Sender(), r.group, true, r.cfg.ReadTimeout/stallTicks
	t.begin(time.Now(), -1) // before others see it
	if observe != nil {
		t.observe = observe(&t.Progress)
	}
	if known := r.installed.begin(t.peer, t.id, plan, body); known != nil {
		defer r.installed.end(known, body)
		return st, false, r.readAgain(in, body)
	}
	if err := r.begin(t); err != nil {
		return st, false, err
	}
	defer r.end(t)
	c := &reception{receiver: r, transfer: t, in: in, plan: plan}
	if err := c.readHead(body); err != nil {
		return st, false, err
	}
	defer c.db.takeOver(ctx).stop()
	if err = c.save(); c.db.err != nil {
		in.CloseAfter() // a Read may still be in progress
	}
	t.ended(err)
	return t.state(), true, err
}

// readHead reads the message at the head of the body, and what it says of the database after it.
func (c *reception) readHead(b *conn.RequestBody) error {
	src := wire.NewReader(b)
	m, err := wire.NewMessageDecoder(src, c.receiver.head).Decode()
	if err != nil {
		c.in.CloseAfter() // the start of the next request is unknown
		if err := b.Err(); err != nil && !errors.Is(err, io.EOF) {
			return protocol.SnapshotNotSaved(broke(b, err)) // not a fault of the message
		}
		return protocol.BadRequest("failed to read the message at the head of a snapshot: %s", err)
	}
	if m == nil || m.GetType() != raftpb.MsgSnap {
		return protocol.BadRequest("wrong raft message type")
	}
	if raft.IsEmptySnap(m.GetSnapshot()) {
		return protocol.BadRequest("the message carries no snapshot")
	}
	if err := c.in.Authorize(m); err != nil {
		return err
	}
	meta := m.GetSnapshot().GetMetadata()
	c.m, c.db = m, &database{rec: c, src: src, body: b, remaining: -1}
	if b.Length() >= 0 {
		// Bytes read and not used belong to the database. The length of the message does not tell: its encoding may be
		// another's.
		c.db.remaining = max(0, b.Length()-b.BytesRead()+int64(src.Buffered()))
	}
	if c.plan.Resumable {
		remaining := c.db.remaining - protocol.SnapshotTrailerBytes
		if remaining < 0 || remaining > math.MaxInt64-c.plan.Offset {
			return protocol.BadRequest("a resumed snapshot without a length that fits")
		}
		key := snap.Transfer{From: uint64(c.transfer.peer), Term: meta.GetTerm(), Index: meta.GetIndex(), Size: c.plan.Offset + remaining}
		if !c.receiver.name(c.transfer, key) {
			return protocol.ErrStillWriting
		}
		c.db.remaining = remaining
		c.transfer.jump(c.plan.Offset)
	}
	c.transfer.index.Store(meta.GetIndex())
	if c.db.remaining >= 0 {
		c.transfer.total.Store(c.plan.Offset + c.db.remaining)
	}
	c.log, c.transfer.peerBytes = c.in.Began(meta.GetIndex())
	return nil
}

// save saves the database, and after that processes the message.
func (c *reception) save() error {
	c.log.Info("receiving database snapshot", zap.Int64("bytes", c.transfer.total.Load()), zap.Int64("resumed-at", c.transfer.bytes.Load()))
	WarnUnlessNamed(c.log, cmp.Or(c.m.GetTo(), uint64(c.receiver.cfg.ID)), c.m.GetSnapshot())
	n, err := c.saveDatabase()
	if err != nil {
		c.log.Warn("failed to save incoming database snapshot", zap.Int64("bytes", c.transfer.bytes.Load()), zap.Error(err))
		return err
	}
	c.transfer.saved.Store(true)
	c.log.Info("received and saved database snapshot", zap.Int64("bytes", n), zap.Duration("took", time.Since(c.transfer.started)))
	if err := c.process(); err != nil {
		c.in.Discard(c.transfer.index.Load(), err)
		return err
	}
	if c.transfer.id != 0 && c.sum != nil {
		c.receiver.installed.add(&installed{id: c.transfer.id, key: c.transfer.key, sum: *c.sum})
	}
	return nil
}

func (c *reception) process() error {
	if faultpoint.Fails(faultpoint.SnapshotSaved) {
		return errors.New("fault point")
	}
	return c.in.Process(c.m)
}

// saveDatabase returns the size of the database. Its errors are the causes of a failure to save it.
func (c *reception) saveDatabase() (n int64, err error) {
	saver, err := c.in.Saver(c.m, c.transfer.total.Load())
	if err != nil {
		return 0, protocol.SnapshotNotSaved(err)
	}
	if !c.plan.Resumable {
		n, err = saver.SaveDBFrom(c.db, c.transfer.index.Load())
	} else if store, ok := saver.(Resumer); ok {
		n, err = store.ResumeDBFrom(c.db, c.transfer.key, c.plan.Offset, c.db.trailer)
		n += c.plan.Offset
	} else {
		n, err = c.saveVerified(saver)
	}
	if err == nil {
		if err = c.db.incomplete(); err == nil {
			return n, nil
		}
		c.in.Discard(c.transfer.index.Load(), err)
	}
	switch {
	case errors.Is(err, snap.ErrOffset):
		return 0, protocol.ErrSnapshotOffset
	case c.db.err != nil && !errors.Is(err, c.db.err): // a Snapshotter that does not return it
		err = errors.Join(err, c.db.err)
	}
	return 0, protocol.SnapshotNotSaved(err)
}
