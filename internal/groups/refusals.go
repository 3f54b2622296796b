package groups

import (
	"bytes"
	"errors"
	"io"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/internal/fair"
	"github.com/seed-4d73690b/rafthttp/internal/faultpoint"
	"github.com/seed-4d73690b/rafthttp/internal/wire"
)

// refuser is told of a message that is not processed, and why.
type refuser func(group uint64, m *raftpb.Message, why wire.RefusalReason)

// maxPostRefusals limits the refusals in the answer to one POST.
const maxPostRefusals = 1024

// batchBytes returns the bytes of a batch.
func batchBytes(b *wire.Batch) []byte {
	var body bytes.Buffer
	body.Grow(b.Len())
	_, _ = b.WriteTo(&body) // which does not fail
	return body.Bytes()
}

// refusedMessages has the refusals of messages of a POST, without reasons. The zero value has none.
type refusedMessages map[wire.GroupRefusal]struct{}

// cause returns why a message was not taken, or nil.
func (r refusedMessages) cause(it fair.Item) error {
	if _, ok := r[refusalOf(it)]; ok {
		return errRefused
	}
	return nil
}

// refusalOf returns the refusal of a message, without a reason.
func refusalOf(it fair.Item) wire.GroupRefusal {
	return wire.GroupRefusal{Group: it.Flow.Group, From: it.Msg.GetFrom(), To: it.Msg.GetTo()}
}

var (
	errRefused  = errors.New("the node has refused the message")
	errNoMember = errors.New("the answer does not state our cluster")
)

// readRefusals reads the answer to a POST to a node, and returns what was refused. An error means that more may have been.
func (gs *Groups) readRefusals(n *node, body io.Reader) (all refusedMessages, err error) {
	for dec := wire.NewGroupDecoder(wire.NewReader(body), gs.node.MessageLimits); ; {
		switch _, _, err := dec.Decode(); {
		case errors.Is(err, io.EOF):
			return all, nil
		case err != nil:
			return nil, err
		}
		if r, ok := dec.Refusal(); ok {
			gs.refused(n, r)
			if r.Reason = 0; all == nil {
				all = refusedMessages{}
			}
			all[r] = struct{}{}
		}
	}
}

// refuse tells a node, which may be nil, why a message of it was not processed.
func (n *node) refuse(group uint64, m *raftpb.Message, why wire.RefusalReason) {
	if n != nil {
		faultpoint.Hit(faultpoint.GroupRefusal)
		n.writers[messages].Refuse(wire.GroupRefusal{Group: group, From: m.GetFrom(), To: m.GetTo(), Reason: why})
	}
}

// maxTellings is how many POSTs with a refusal may fail until it is left out.
const maxTellings = 60

// postRefusals sends the refusals that wait for a stream that the node does not have, by one POST at a time. What fails goes with the next.
func (n *node) postRefusals() {
	if !n.telling.CompareAndSwap(false, true) {
		return
	}
	all := n.writers[messages].TakeRefusals()
	tell := func() {
		defer n.telling.Store(false)
		var batch wire.Batch
		enc := wire.NewGroupEncoder()
		for _, r := range all {
			enc.AppendRefusal(&batch, r)
		}
		if err := n.posts.tell(batchBytes(&batch)); err != nil {
			n.writers[messages].ReturnRefusals(n.notArrived(all))
		} else {
			n.untold = nil
		}
	}
	if len(all) == 0 || !n.member.Spawn(tell) {
		n.telling.Store(false)
	}
}

// notArrived notes that a POST with these refusals has failed, and returns those that are told again. Only the POST calls it.
func (n *node) notArrived(all []wire.GroupRefusal) (again []wire.GroupRefusal) {
	untold := map[wire.GroupRefusal]int{}
	for _, r := range all {
		if failed := n.untold[r] + 1; failed < maxTellings {
			untold[r], again = failed, append(again, r)
		}
	}
	n.untold = untold
	return again
}

// refusalNow returns what a refusal says that may have waited for long: a replica that the group has by now was not removed.
func (gs *Groups) refusalNow(r wire.GroupRefusal) wire.GroupRefusal {
	if r.Reason == wire.WasRemoved {
		gs.mu.RLock()
		g := gs.all[r.Group]
		gs.mu.RUnlock()
		if g != nil && g.find(r.From) != nil {
			r.Reason = wire.NoSuchReplica // its message was lost
		}
	}
	return r
}

// tooLarge refuses a message that was skipped.
func (gs *Groups) tooLarge(r wire.GroupRefusal, refuse refuser) {
	gs.mu.RLock()
	g := gs.all[r.Group]
	gs.mu.RUnlock()
	m := &raftpb.Message{From: &r.From, To: &r.To}
	if g == nil {
		gs.unknown.Add(1)
		refuse(r.Group, m, wire.NoSuchGroup)
	} else {
		g.refuse(m, wire.ErrExceedSizeLimit, refuse)
	}
}

// refused acts on the refusal of a message to a node.
func (gs *Groups) refused(n *node, refusal wire.GroupRefusal) {
	faultpoint.Hit(faultpoint.GroupRefused)
	gs.mu.RLock()
	g := gs.all[refusal.Group]
	gs.mu.RUnlock()
	if g == nil || refusal.From != g.self {
		return
	}
	r := g.find(refusal.To)
	if r == nil || r.node != n { // it was not sent to this node
		return
	}
	switch refusal.Reason {
	case wire.WasRemoved:
		g.tellRemoved()
	case wire.NoSuchGroup, wire.NoSuchReplica, wire.TooLarge:
		g.drops().refused.Add(1)
		gs.refusals.Add(1)
		r.unreachable()
	}
}
