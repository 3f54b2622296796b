package stream

import (
	"cmp"
	"context"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/internal/conn"
	"github.com/seed-4d73690b/rafthttp/internal/member"
	"github.com/seed-4d73690b/rafthttp/internal/wire"
)

// GroupItem is a received message of a raft group.
type GroupItem struct {
	Group uint64
	Msg   *raftpb.Message
	Size  int64 // bytes of memory that the message occupies
}

// ReceiveGroups takes messages of raft groups. It may keep the slice of items only until it returns. Appends
// wait up to wait for room; an error ends the stream.
type ReceiveGroups func(ctx context.Context, items []GroupItem, wait time.Duration) error

// GroupHandler receives what a group reader reads. The readers of a node call its functions concurrently.
type GroupHandler struct {
	Receive ReceiveGroups
	// Refused is told that a message to the node was not processed. It does not block.
	Refused func(r wire.GroupRefusal)
	// Skipped is told of a message that was larger than allowed, by what refuses it. It does not block.
	Skipped func(r wire.GroupRefusal)
	// Extension is what is known about the node. A reader asks each time it dials.
	Extension *Extension
}

// NewGroupReader returns a reader for a stream of messages of raft groups; Run makes it dial.
func NewGroupReader(m *member.Member, kind Kind, to GroupHandler) *Reader {
	r := newReader(m, kind)
	r.extension = to.Extension
	r.read = func(ctx context.Context, s *incoming) error {
		defer r.extension.Forget() // the node may be started again as a stock member
		return r.deliverGroups(ctx, s, to)
	}
	return r
}

// deliverGroups reads messages of groups from the stream and gives them to the handler until the stream ends.
func (r *Reader) deliverGroups(ctx context.Context, s *incoming, to GroupHandler) error {
	d := &groupDelivery{ctx: ctx, to: to}
	d.source = source{reader: r, s: s, out: d, delayAcks: conn.DelayAcks(s.conn)}
	if err := s.conn.SetWriteDeadline(time.Time{}); err != nil {
		return err
	}
	if r.Kind == GroupAppend {
		d.wait = r.member.Cfg.ReadTimeout
	}
	return d.source.ended(d.run(wire.NewGroupDecoder(wire.NewReader(&d.source), r.member.Cfg.MessageLimits)))
}

// groupDelivery delivers the messages of one connection.
type groupDelivery struct {
	ctx    context.Context
	to     GroupHandler
	wait   time.Duration // how long Process may make no progress while there is no room for appends; 0: do not wait
	source source
	items  []GroupItem
}

// waiting implements output.
func (d *groupDelivery) waiting() int { return len(d.items) }

// flush implements output.
func (d *groupDelivery) flush() error {
	if len(d.items) == 0 {
		return nil
	}
	err := d.to.Receive(d.ctx, d.items, d.wait)
	clear(d.items)
	d.items = d.items[:0]
	return err
}

func (d *groupDelivery) run(dec *wire.GroupDecoder) error {
	for {
		group, m, err := dec.Decode()
		if err != nil {
			return cmp.Or(d.flush(), err)
		}
		d.source.frame()
		if m == nil {
			if refusal, ok := dec.Refusal(); ok {
				d.to.Refused(refusal)
			} else if refusal, ok := dec.Skipped(); ok {
				d.to.Skipped(refusal)
			}
			continue // or a link heartbeat
		}
		if d.items = append(d.items, GroupItem{group, m, dec.Memory()}); len(d.items) == deliverGroupMessages {
			if err := d.flush(); err != nil {
				return err
			}
		}
	}
}
