package groups

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/internal/conn"
	"github.com/seed-4d73690b/rafthttp/internal/errs"
	"github.com/seed-4d73690b/rafthttp/internal/fair"
	"github.com/seed-4d73690b/rafthttp/internal/protocol"
	"github.com/seed-4d73690b/rafthttp/internal/wire"
)

const (
	postWorkers  = 4       // concurrent POSTs to one node
	postMessages = 512     // in one POST
	postBytes    = 1 << 20 // of them, about
)

// posts sends batches of messages by POST (extensions: groups): all messages while the streams to the node are down, and
// each MsgSnap. Batches of one kind may overtake each other.
type posts struct {
	node  *node
	queue *fair.SendQueue
}

func newPosts(n *node) *posts {
	p := &posts{node: n}
	p.queue = fair.NewSendQueue(fair.SendConfig{Name: "grouppost", Limits: n.groups.node.SendLimits, Workers: postWorkers, Work: p.work, Wait: n.member.Wait})
	p.queue.Open()
	return p
}

// close closes the queue permanently. The node's context has ended.
func (p *posts) close() { p.node.groups.lose(p.queue, p.queue.Close(), p.node.member.Cause()) }

func (p *posts) work() {
	var items []fair.Item
	for {
		var ok bool
		if items, ok = p.queue.Take(items, postMessages, postBytes); !ok {
			return
		}
		if len(items) > 0 {
			p.deliver(items)
		}
		p.queue.Release(items)
		clear(items)
	}
}

// deliver posts messages, and reports the result.
func (p *posts) deliver(items []fair.Item) {
	start := time.Now()
	var batch wire.Batch
	enc := wire.NewGroupEncoder()
	for _, it := range items {
		enc.Append(&batch, it.Flow.Group, it.Msg)
	}
	enc.Finish(&batch)
	body := batchBytes(&batch)
	m := p.node.member
	if err := p.post(body); err != nil {
		m.Activity.PostFailed(start, err)
		p.node.groups.lose(p.queue, items, err)
		return
	}
	m.Activity.PostOK()
	p.queue.Done(len(items), uint64(len(body)), time.Since(start))
	for _, it := range items {
		if it.Msg.GetType() == raftpb.MsgSnap {
			p.node.groups.snapshotSent(it)
		}
	}
}

// snapshotSent reports that a MsgSnap has arrived.
func (gs *Groups) snapshotSent(it fair.Item) {
	gs.mu.RLock()
	defer gs.mu.RUnlock()
	if g := gs.all[it.Flow.Group]; g != nil {
		g.snapshotEnded(it.Msg.GetTo(), nil)
	}
}

// post sends one body to the node's current URL.
func (p *posts) post(body []byte) error {
	m := p.node.member
	ctx, pace, stop := conn.NewBodyPace(m.Ctx, body, m.Cfg.PostTimeout(), errs.ErrStalled)
	defer stop()
	u := m.URLs.Pick()
	target, err := conn.RequestURL(u, protocol.GroupsPath)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target.String(), pace.Body())
	if err != nil {
		return err
	}
	req.ContentLength = int64(len(body))
	req.Header = m.Cfg.RequestHeader()
	req.Header.Set("Content-Type", "application/octet-stream")
	resp, err := m.PostClient.RoundTrip(req)
	if err == nil {
		if err = m.Cfg.Conclude(resp, protocol.EndpointGroupPost); err == nil {
			p.node.groups.readRefusals(p.node, io.LimitReader(resp.Body, protocol.MaxAnswerBytes))
		}
		_, _ = io.CopyN(io.Discard, resp.Body, protocol.MaxAnswerBytes)
		resp.Body.Close()
	}
	if err != nil {
		m.URLs.Unreachable(u)
		if unexpected := (*protocol.UnexpectedAnswer)(nil); errors.As(err, &unexpected) && unexpected.Code == http.StatusNotFound {
			err = errs.ErrNoGroups
		}
		return fmt.Errorf("post of groups to %s at %s: %w", m.RemoteID, u.String(), conn.CauseOf(ctx, err))
	}
	return nil
}
