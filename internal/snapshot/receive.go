package snapshot

import (
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

// Incoming is a request that brings a snapshot. It is used by one goroutine, but for SetReadDeadline.
type Incoming interface {
	Sender() types.ID          // 0: not stated
	TLS() *tls.ConnectionState // nil: not encrypted
	Header() http.Header
	// Body returns the body, and its length; below 0: not declared.
	Body() (body io.Reader, length int64)
	SetReadDeadline(time.Time) error
	// CloseAfter has the connection closed after the answer.
	CloseAfter()
	// Hijack takes the connection over from the server, with what was read of it already. Ended says that nothing of the
	// body is still to come. An error leaves everything as it is: the connection is not one that is closed after the answer,
	// or cannot be had. Respond says where the answer goes then.
	Hijack(ended bool) (conn net.Conn, prefetched []byte, err error)
	Respond(*Response)

	// Resumes returns why the sender cannot go on with what an earlier attempt has brought; nil if it can.
	Resumes() error
	// Authorize returns why the message is not taken.
	Authorize(m *raftpb.Message) error
	// Began is called once it is, with the index of the snapshot. What counts bytes may be nil.
	Began(index uint64) (log *zap.Logger, bytes *atomic.Uint64)
	// Saver returns who saves the database of size bytes; below 0: not known.
	Saver(m *raftpb.Message, size int64) (snap.Saver, error)
	// Process has the message processed, whose database was saved. It must not be used afterwards.
	Process(m *raftpb.Message) error
	// Discard tells who has saved the database that it is not used, and why.
	Discard(index uint64, cause error)
}

// Resumer is a Saver that can go on with what an earlier attempt has brought.
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
	sum      *uint32 // of the database, once the sender has said it
	log      *zap.Logger
}

// Receive has a database saved, and after that the message at its head processed. Its error is the answer. Began says
// whether the message was taken, so that the transfer counts as one; st is how it ended then. It observes progress by
// observe, which may be nil.
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
	cut := func() { body.Cut(protocol.ErrSnapshotCut) }
	t := &incoming{tls: in.TLS(), id: protocol.TransferIn(in.Header()), done: make(chan struct{}), interrupt: cut, waits: networkWaits{base: time.Now()}}
	t.peer, t.Progress.incoming, t.every = in.Sender(), true, r.cfg.ReadTimeout/stallTicks
	if observe != nil {
		t.observe = observe(&t.Progress)
	}
	t.begin(time.Now(), -1)
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
		in.CloseAfter() // a Read may still be under way
	}
	t.ended(err)
	return t.state(), true, err
}

// readHead reads the message at the head of the body, and what it says of the database behind it.
func (c *reception) readHead(b *conn.RequestBody) error {
	src := wire.NewReader(b)
	m, err := wire.NewMessageDecoder(src, c.receiver.head).Decode()
	if err != nil {
		c.in.CloseAfter() // where the next request begins is not known
		if err := b.Err(); err != nil && !errors.Is(err, io.EOF) {
			return protocol.SnapshotNotSaved(broke(b, err)) // which says nothing of the message
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
		// What was read and not used is the database's. The length of the message is no guide: its encoding may be another's.
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

// save has the database saved, and after that the message processed.
func (c *reception) save() error {
	c.log.Info("receiving database snapshot", zap.Int64("bytes", c.transfer.total.Load()), zap.Int64("resumed-at", c.transfer.bytes.Load()))
	WarnUnlessNamed(c.log, uint64(c.receiver.cfg.ID), c.m.GetSnapshot())
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

// saveDatabase returns the size of the database. Its errors say why it was not saved.
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
	case c.db.err != nil && !errors.Is(err, c.db.err): // a Snapshotter that says nothing of it
		err = errors.Join(err, c.db.err)
	}
	return 0, protocol.SnapshotNotSaved(err)
}
