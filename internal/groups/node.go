package groups

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"golang.org/x/time/rate"

	"github.com/seed-4d73690b/rafthttp/internal/callback"
	"github.com/seed-4d73690b/rafthttp/internal/fair"
	"github.com/seed-4d73690b/rafthttp/internal/loglimit"
	"github.com/seed-4d73690b/rafthttp/internal/member"
	"github.com/seed-4d73690b/rafthttp/internal/queue"
	"github.com/seed-4d73690b/rafthttp/internal/snapshot"
	"github.com/seed-4d73690b/rafthttp/internal/stream"
	"github.com/seed-4d73690b/rafthttp/internal/wire"
)

// streams of a node in each direction: one for appends, one for all other messages.
const (
	messages = iota
	appends
	streams
)

var kinds = [streams]stream.Kind{stream.GroupMessage, stream.GroupAppend}

// node is a Transport of another process, and what all groups that have a replica there share.
type node struct {
	groups  *Groups
	member  *member.Member
	urls    URLs
	writers [streams]*stream.GroupWriter
	readers [streams]*stream.Reader
	posts   *posts
	serves  stream.Extension          // what is known of the node
	shares  [queue.Kinds]*fair.Share  // of the receive queues
	delays  fair.Stream               // of appends from the node
	users   int                       // replicas; guarded by Groups.mu
	telling atomic.Bool               // a POST with refusals is under way
	untold  map[wire.GroupRefusal]int // how many of these have failed in a row with each; nil: the last has not; owned by the POST

	snapshotLines  *rate.Limiter // of the log, for snapshots
	sent, received snapshot.Account

	mu       sync.Mutex
	replicas []*replica // in no order; each knows its place
}

func newNode(gs *Groups, id types.ID, urls types.URLs) *node {
	picker := gs.cfg.URLs(urls)
	n := &node{groups: gs, urls: picker, member: member.New(gs.node, id, picker), snapshotLines: loglimit.PerMinute(callback.MemberLines)}
	n.member.Activity.Changed = func(active bool, _ error) {
		if active {
			n.hurrySnapshots()
		}
		gs.cfg.Changed()
	}
	handler := stream.GroupHandler{
		Receive: func(ctx context.Context, items []stream.GroupItem, wait time.Duration) error {
			return gs.receive(ctx, id, n, items, wait, n.refuse)
		},
		Refused:   func(r wire.GroupRefusal) { gs.refused(n, r) },
		Skipped:   func(r wire.GroupRefusal) { gs.tooLarge(r, n.refuse) },
		Extension: &n.serves,
	}
	n.writers[messages] = stream.NewGroupWriter(n.member, kinds[messages], stream.GroupEvents{Lose: gs.lose, Refusal: gs.refusalNow})
	for i, kind := range kinds {
		n.readers[i] = stream.NewGroupReader(n.member, kind, handler)
	}
	n.writers[appends] = stream.NewGroupWriter(n.member, kinds[appends], stream.GroupEvents{Lose: gs.lose, Released: gs.appendsWritten, Interrupted: n.forgetAppends})
	n.posts = newPosts(n)
	for k := range n.shares {
		n.shares[k] = fair.NewShare(gs.node.ReceiveLimits)
	}
	return n
}

// start starts dialling the node. It is called with Groups.mu held.
func (n *node) start() {
	for _, r := range n.readers {
		n.member.Spawn(r.Run)
	}
}

// update moves the node to other URLs, live streams included, unless it has them.
func (n *node) update(urls types.URLs) {
	if n.urls.Same(urls) {
		return
	}
	n.urls.Update(urls)
	n.serves.Forget()
	n.member.Moved()
	for _, r := range n.readers {
		r.Update()
	}
	n.member.PostClient.CloseIdleConnections()
	n.hurrySnapshots()
}

// shut refuses new work, cancels work in progress and closes all connections. It does not wait.
func (n *node) shut(cause error) {
	n.member.End(cause)
	for _, w := range n.writers {
		w.Close()
	}
	n.posts.close()
}

// tick is called every heartbeat interval.
func (n *node) tick() {
	n.postRefusals()
	for _, w := range n.writers {
		w.Tidy()
		w.Heartbeat()
	}
	for _, q := range n.posts.queues {
		q.TrimIfIdle(nil)
	}
	var sending [streams]bool
	for i, w := range n.writers {
		sending[i] = w.Queue.HasMessages()
	}
	for _, r := range n.allReplicas() {
		if r.isSending(sending) {
			r.sent.Store(n.groups.clock.Load())
		}
		r.tidyWindow()
	}
	n.serves.ForgetLack() // while a stream is up, its reader does not ask again
	n.member.Activity.Tick()
}

// recheck checks all connections with the node.
func (n *node) recheck() {
	n.member.RecheckConns()
	for _, r := range n.readers {
		if r.IsOutdated() {
			r.Renew()
		}
	}
	for _, w := range n.writers {
		w.Recheck()
	}
}

// add adds a replica that lives on the node.
func (n *node) add(r *replica) {
	n.mu.Lock()
	defer n.mu.Unlock()
	r.at = int32(len(n.replicas))
	n.replicas = append(n.replicas, r)
}

// remove removes a replica.
func (n *node) remove(r *replica) {
	n.mu.Lock()
	defer n.mu.Unlock()
	last := len(n.replicas) - 1
	n.replicas[r.at] = n.replicas[last]
	n.replicas[r.at].at = r.at
	n.replicas = slices.Delete(n.replicas, last, last+1)
}

// inFlight is how many intervals of link heartbeats after a message was sent, or waited in the queue, it may be lost with its stream.
const inFlight = 4

// toldTogether is the most groups that a Receiver is told of at a time.
const toldTogether = 1024

// allReplicas returns the replicas on the node.
func (n *node) allReplicas() []*replica {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.replicas)
}

// forgetAppends empties the append windows of all replicas on the node, whose stream has ended.
func (n *node) forgetAppends() {
	for _, r := range n.allReplicas() {
		r.forgetAppends()
	}
}

// tellGroups reports the replicas on the node unreachable to which something was sent lately.
func (n *node) tellGroups() {
	all := slices.DeleteFunc(n.allReplicas(), func(r *replica) bool { return !r.sentLately() })
	if n.groups.cfg.Receiver == nil {
		for _, r := range all {
			r.unreachable()
		}
		return
	}
	ids := make([]uint64, len(all))
	for i, r := range all {
		ids[i] = r.group().id
	}
	slices.Sort(ids)
	for some := range slices.Chunk(slices.Compact(ids), toldTogether) { // a group may have two replicas there for a while
		n.groups.cfg.Receiver.Unreachable(n.member.RemoteID, some)
	}
}
