package groups

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/internal/conn"
	"github.com/seed-4d73690b/rafthttp/internal/errs"
	"github.com/seed-4d73690b/rafthttp/internal/fair"
	"github.com/seed-4d73690b/rafthttp/internal/faultpoint"
	"github.com/seed-4d73690b/rafthttp/internal/protocol"
	"github.com/seed-4d73690b/rafthttp/internal/queue"
	"github.com/seed-4d73690b/rafthttp/internal/stream"
	"github.com/seed-4d73690b/rafthttp/internal/wire"
)

const (
	postWorkers  = 4       // concurrent POSTs of one kind to one node
	postMessages = 512     // in one POST
	postBytes    = 1 << 20 // of them, about
)

// posts sends batches of messages by POST (extensions: groups): all messages while the streams to the node are down, and
// each MsgSnap. Each kind has a queue and workers: a POST of one waits for none of another. Batches of one kind may overtake each other.
type posts struct {
	node   *node
	queues [queue.Kinds]*fair.SendQueue
}

func newPosts(n *node) *posts {
	p := &posts{node: n}
	for k := range p.queues {
		p.queues[k] = fair.NewSendQueue(fair.SendConfig{
			Name: "grouppost", Limits: n.groups.node.SendLimits, Workers: postWorkers, Work: func() { p.work(p.queues[k]) }, Wait: n.member.Wait,
		})
		p.queues[k].Open()
	}
	return p
}

// close closes the queues permanently. The node's context has ended.
func (p *posts) close() {
	for _, q := range p.queues {
		p.node.groups.lose(q, q.Close(), p.node.member.Cause())
	}
}

// status returns the state of the queues together.
func (p *posts) status() fair.SendStatus {
	all := p.queues[0].Status()
	for _, q := range p.queues[1:] {
		all.Add(q.Status())
	}
	return all
}

func (p *posts) work(q *fair.SendQueue) {
	var items []fair.Item
	for {
		var ok bool
		if items, ok = q.Take(items, postMessages, postBytes); !ok {
			return
		}
		for rest := items; len(rest) > 0; {
			some := rest[:together(rest)]
			rest = rest[len(some):]
			p.deliver(q, some)
			q.Release(some)
		}
		clear(items)
	}
}

// together returns how many of the first items go in one POST: about postBytes. A large one goes alone, since the others would be lost with it
// if the node does not take it, and a MsgSnap without another message to its replica: a refusal in the answer does not say which of them it
// is of.
func together(items []fair.Item) (n int) {
	isSnap := func(it fair.Item) bool { return it.Msg.GetType() == raftpb.MsgSnap }
	var hasSnap map[wire.GroupRefusal]bool // those of the messages, without reasons; nil: there is no MsgSnap
	if slices.ContainsFunc(items, isSnap) {
		hasSnap = map[wire.GroupRefusal]bool{}
	}
	for left := int64(postBytes); n < len(items) && left > 0 && items[n].Size <= postBytes; n++ {
		left -= items[n].Size
		if hasSnap == nil {
			continue
		}
		one := refusalOf(items[n])
		if other, ok := hasSnap[one]; ok && (other || isSnap(items[n])) {
			break
		}
		hasSnap[one] = isSnap(items[n])
	}
	return max(n, 1)
}

// deliver posts messages, and reports the result.
func (p *posts) deliver(q *fair.SendQueue, items []fair.Item) {
	start := time.Now()
	var batch wire.Batch
	enc := wire.NewGroupEncoder()
	for _, it := range items {
		enc.Append(&batch, it.Flow.Group, it.Msg)
	}
	enc.Finish(&batch)
	body := batchBytes(&batch)
	m := p.node.member
	refused, err := p.post(body)
	faultpoint.Hit(faultpoint.GroupPostAnswered)
	if err != nil {
		m.Activity.PostFailed(start, err)
		p.node.groups.lose(q, items, err)
		return
	}
	m.Activity.PostOK(start)
	q.Done(len(items), uint64(len(body)), time.Since(start))
	for _, it := range items {
		if it.Msg.GetType() != raftpb.MsgSnap {
			continue
		}
		it.Flow.Owner.(*Group).posted(it.Msg, refused.cause(it))
	}
}

// tell posts a body that has no messages.
func (p *posts) tell(body []byte) error {
	start, activity := time.Now(), p.node.member.Activity
	_, err := p.post(body)
	if err != nil {
		activity.PostFailed(start, err)
	} else {
		activity.PostOK(start)
	}
	return err
}

// post sends one body to the node's current URL, if the node has groups: a stock member is sent probes only. It returns what the node
// has refused.
func (p *posts) post(body []byte) (refused refusedMessages, err error) {
	asked := p.node.serves.Ask()
	u := p.node.member.URLs.Pick()
	if err = p.ask(u, asked); err == nil {
		faultpoint.Hit(faultpoint.GroupPostAsked)
		refused, err = p.postTo(u, body)
	}
	if err != nil {
		p.node.member.URLs.Unreachable(u)
		return nil, fmt.Errorf("post of groups to %s at %s: %w", p.node.member.RemoteID, u.String(), err)
	}
	return refused, nil
}

// ask returns an error unless the node serves groups. It sends a probe if that is not known: the readers ask each time they
// dial, and what they learn counts until the stream ends, or for an interval of link heartbeats if there are no groups.
func (p *posts) ask(u url.URL, asked stream.Question) error {
	switch m := p.node.member; {
	case p.node.serves.IsPresent():
		return nil
	case p.node.serves.IsLacking():
		return errs.ErrNoGroups
	default:
		ctx, stop := context.WithTimeout(m.Ctx, m.Cfg.ReadTimeout)
		defer stop()
		req, err := conn.NewGet(u, protocol.ProbingPath, m.Cfg.RequestHeader())
		if err != nil {
			return err
		}
		resp, err := m.PostClient.RoundTrip(req.WithContext(ctx))
		if err != nil {
			return conn.CauseOf(ctx, err)
		}
		defer closeBody(resp)
		if err := m.Cfg.Conclude(resp, protocol.EndpointProbe); err != nil {
			return err
		}
		if !p.node.serves.Learn(asked, resp.Header) {
			return errs.ErrNoGroups
		}
		return nil
	}
}

// closeBody ends the use of an answer, whose connection may be used again.
func closeBody(resp *http.Response) {
	_, _ = io.CopyN(io.Discard, resp.Body, protocol.MaxAnswerBytes)
	resp.Body.Close()
}

func (p *posts) postTo(u url.URL, body []byte) (refusedMessages, error) {
	m := p.node.member
	ctx, pace, stop := conn.NewBodyPace(m.Ctx, body, m.Cfg.PostTimeout(), errs.ErrStalled)
	defer stop()
	target, err := conn.RequestURL(u, protocol.GroupsPath)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target.String(), pace.Body())
	if err != nil {
		return nil, err
	}
	req.ContentLength = int64(len(body))
	req.Header = m.Cfg.RequestHeader()
	req.Header.Set("Content-Type", "application/octet-stream")
	req.Header.Set(protocol.HeaderRaftTo, m.RemoteID.String()) // another node may be at its URL
	resp, err := m.PostClient.RoundTrip(req)
	if err != nil {
		p.node.serves.Forget()
		return nil, conn.CauseOf(ctx, err)
	}
	defer closeBody(resp)
	err = m.Cfg.Conclude(resp, protocol.EndpointGroupPost)
	if unexpected := (*protocol.UnexpectedAnswer)(nil); errors.As(err, &unexpected) && unexpected.Code == http.StatusNotFound {
		p.node.serves.Forget()
		return nil, errs.ErrNoGroups
	}
	if err != nil {
		return nil, conn.CauseOf(ctx, err)
	}
	if !m.Cfg.Self.IsOfOurCluster(resp.Header) { // perhaps a proxy, or another server at the address of the node
		return nil, errNoMember
	}
	refused, err := p.node.groups.readRefusals(p.node, io.LimitReader(resp.Body, protocol.MaxAnswerBytes))
	if err != nil {
		return nil, conn.CauseOf(ctx, err)
	}
	return refused, nil
}
