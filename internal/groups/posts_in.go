package groups

import (
	"context"
	"errors"
	"io"
	"math"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/internal/errs"
	"github.com/seed-4d73690b/rafthttp/internal/faultpoint"
	"github.com/seed-4d73690b/rafthttp/internal/protocol"
	"github.com/seed-4d73690b/rafthttp/internal/stream"
	"github.com/seed-4d73690b/rafthttp/internal/wire"
)

const (
	maxPostFrames = 4096    // messages, and frames without one, in a POST that is received
	maxPostBytes  = 2 << 20 // of its body, beside one message of MaxMessageBytes if the length is declared
)

// Post is a POST that is received.
type Post struct {
	From   types.ID
	Body   io.Reader
	Length int64 // declared; below 0: none

	// Reserve makes room for bytes of a message in memory, or fails; the bytes of the body are counted in Body. Queued is called
	// when inboxes account for what was reserved.
	Reserve func(bytes uint64) error
	Queued  func()
}

var (
	errLongPost   = protocol.BadRequest("a post of groups is too long")
	errManyFrames = protocol.BadRequest("a post of groups has more than %d messages", maxPostFrames)
)

// limited returns the body of a POST, which fails if it is longer than one may be.
func (p *Post) limited(lim wire.Limits) (io.Reader, error) {
	most := int64(maxPostBytes)
	if p.Length >= 0 {
		most += int64(min(lim.MaxMessageBytes, math.MaxInt64/2))
	}
	if p.Length > most {
		return nil, errLongPost
	}
	return &limitedBody{p.Body, most}, nil
}

// limitedBody fails after some bytes.
type limitedBody struct {
	body io.Reader
	left int64
}

// Read implements io.Reader.
func (b *limitedBody) Read(p []byte) (int, error) {
	n, err := b.body.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, errLongPost
	}
	return n, err
}

// ReceivePost reads the messages of a POST (extensions: groups) from a node, or from another that is not one yet, and gives them to
// their inboxes. It does not wait for Process. The answer has the refusals.
func (gs *Groups) ReceivePost(ctx context.Context, post Post) (answer []byte, err error) {
	n := gs.nodeOf(post.From)
	var refused wire.Batch
	enc, told := wire.NewGroupEncoder(), 0
	refuse := func(group uint64, m *raftpb.Message, why wire.RefusalReason) {
		if told++; told <= maxPostRefusals || why == wire.TooLarge || m.GetType() == raftpb.MsgSnap {
			enc.AppendRefusal(&refused, wire.GroupRefusal{Group: group, From: m.GetFrom(), To: m.GetTo(), Reason: why})
		}
	}
	lim := gs.node.MessageLimits
	body, err := post.limited(lim)
	if err != nil {
		return nil, err
	}
	lim.Reserve = post.Reserve
	dec := wire.NewGroupDecoder(wire.NewReader(body), lim)
	for range maxPostFrames + 1 {
		group, m, err := dec.Decode()
		switch {
		case errors.Is(err, io.EOF):
			faultpoint.Hit(faultpoint.GroupPostQueued)
			if n != nil {
				n.member.Activity.PostOf()
			}
			return batchBytes(&refused), nil
		case err != nil:
			return nil, err
		case m == nil:
			if r, ok := dec.Skipped(); ok { // which may have been a MsgSnap
				gs.tooLarge(r, refuse)
			} else if r, ok := dec.Refusal(); ok && n != nil {
				if gs.node.VerifyPeer == nil && r.Reason == wire.WasRemoved {
					r.Reason = wire.NoSuchReplica // anybody may say so: this ends a replica if we have dialled who does
				}
				gs.refused(n, r)
			}
			continue
		}
		if gs.wasRemoved(group, m) {
			refuse(group, m, wire.WasRemoved)
		} else if err := gs.receive(ctx, post.From, n, []stream.GroupItem{{Group: group, Msg: m, Size: dec.Memory()}}, 0, refuse); err != nil {
			return nil, err
		}
		post.Queued()
	}
	return nil, errManyFrames
}

// wasRemoved reports whether the sender of a message was removed from its group, as far as the application has said so of a message
// before: it is not asked here, where the other groups of the POST would wait for it.
func (gs *Groups) wasRemoved(group uint64, m *raftpb.Message) bool {
	if gs.cfg.Receiver != nil {
		return false
	}
	gs.mu.RLock()
	g := gs.all[group]
	gs.mu.RUnlock()
	if g == nil || m.GetTo() != g.self || g.find(m.GetFrom()) != nil {
		return false
	}
	s := g.strangers.Load()
	if s == nil || !s.wasRemoved(m.GetFrom()) {
		return false
	}
	g.drop(1, errs.ErrOfRemoved)
	return true
}
