// Package groups carries the messages of many raft groups between two nodes over one pair of streams in each
// direction (extensions: groups). A node is a Transport of another process. A replica is one
// member of one group: it lives on a node, and its messages share the queues, connections and workers of the node with those
// of all other groups, each within its share.
package groups

import (
	"context"
	"errors"
	"maps"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"golang.org/x/time/rate"

	"github.com/seed-4d73690b/rafthttp/internal/callback"
	"github.com/seed-4d73690b/rafthttp/internal/errs"
	"github.com/seed-4d73690b/rafthttp/internal/fair"
	"github.com/seed-4d73690b/rafthttp/internal/faultpoint"
	"github.com/seed-4d73690b/rafthttp/internal/loglimit"
	"github.com/seed-4d73690b/rafthttp/internal/member"
	"github.com/seed-4d73690b/rafthttp/internal/queue"
	"github.com/seed-4d73690b/rafthttp/internal/stream"
)

// Config is the configuration of Groups.
type Config struct {
	// Node is the configuration of the members that nodes are. Its Raft and Notifiers are set by New.
	Node member.Config
	// Notifiers makes the notifiers of nodes, which report to r.
	Notifiers func(r callback.Raft) *callback.Registry
	// URLs makes the picker of a node's URLs.
	URLs func(types.URLs) URLs
	// Receiver gets the messages of all groups; nil: each group's Raft does.
	Receiver Receiver
	// Snapshots is for those of groups.
	Snapshots Snapshots
	// Asking counts calls of IsIDRemoved, for which Stop does not wait long.
	Asking *sync.WaitGroup
	// Changed is called when a node becomes active or inactive. It does not block.
	Changed func()
}

// URLs select the URL of a node to use, and can be changed.
type URLs interface {
	member.URLs
	Update(urls types.URLs)
	Same(urls types.URLs) bool
	List() []string
}

// Groups are the raft groups of a Transport. All methods are safe for concurrent use.
type Groups struct {
	cfg     Config
	node    *member.Config // of nodes
	pools   [queue.Kinds]*fair.Pool
	reports *fair.Pool // calls ReportUnreachable and ReportSnapshot
	guests  [queue.Kinds]*fair.Share
	owed    *fair.Share   // of reports: without a limit
	lines   *rate.Limiter // of the log, for groups

	// clock counts the intervals of link heartbeats: what was sent an interval of ReadTimeout
	// ago has arrived, or the stream has ended.
	clock atomic.Int64

	tickets sync.Map // of requests that wait for the result of a MsgSnap in an inbox, by the message

	wg     sync.WaitGroup // workers, ends of nodes and refused snapshots; added to under mu until stopped
	living sync.WaitGroup // groups whose reports have not ended; added to under mu until stopped

	mu      sync.RWMutex
	stopped bool
	all     map[uint64]*Group
	nodes   map[types.ID]*node

	left  []*node  // by Stop, for Close, like the next
	ended []*Group // by Stop

	born        time.Time    // zero of the clock of append windows
	withholding atomic.Int64 // append windows that withhold or skip something

	used      atomic.Bool   // there was a group
	ahead     atomic.Uint64 // what was read ahead
	unknown   atomic.Uint64 // messages for groups that are not here
	receiving atomic.Int32  // calls of the Receiver with messages

	refusals atomic.Uint64                    // of messages of all groups to other nodes
	drops    [queue.DropReasons]atomic.Uint64 // of all groups
}

// maxBlocked is how many calls of Process of one kind may block at a time before others of the kind wait for them.
const maxBlocked = 256

// New returns Groups without a group. It costs no goroutine.
func New(c Config) *Groups {
	gs := &Groups{cfg: c, all: map[uint64]*Group{}, nodes: map[types.ID]*node{}, born: time.Now(), lines: loglimit.PerMinute(callback.TransportLines)}
	gs.node = &gs.cfg.Node
	gs.node.Raft = nodeRaft{gs}
	gs.node.Notifiers = c.Notifiers(gs.node.Raft)
	for k := range queue.Kinds {
		gs.pools[k] = fair.NewPool(fair.PoolConfig{
			Name: k.String(), MaxWorkers: maxBlocked, Wait: &gs.wg,
			Process:   func(in *fair.Inbox, m *raftpb.Message, _ int64) { in.Owner.(*sender).process(k, m) },
			ReadAhead: readAhead,
		})
		gs.guests[k] = fair.NewShare(c.Node.ReceiveLimits)
	}
	gs.reports = fair.NewPool(fair.PoolConfig{
		Name: "report", MaxWorkers: maxBlocked, Wait: &gs.wg,
		Process: func(in *fair.Inbox, m *raftpb.Message, _ int64) { in.Owner.(*Group).report(m) },
	})
	gs.owed = fair.NewShare(queue.Limits{Messages: math.MaxInt, Bytes: math.MaxInt64 / 4})
	return gs
}

// Join makes g, which is a zero value, a group whose local replica has the id self. The error says that there is one with this id, or
// is ErrStopped.
func (gs *Groups) Join(g *Group, id, self uint64, app App) error {
	g.init(gs, id, self, app)
	gs.mu.Lock()
	defer gs.mu.Unlock()
	if gs.stopped {
		return errs.ErrStopped
	}
	if gs.all[id] != nil {
		return ErrJoined
	}
	gs.living.Add(1)
	gs.all[id] = g
	gs.used.Store(true)
	return nil
}

// ErrJoined means that a Transport has a group already.
var ErrJoined = errors.New("the group was joined before")

// Writer returns the node with this id, which asks for one of its streams, and the writer of that; nil if there is none.
func (gs *Groups) Writer(id types.ID, kind stream.Kind) (*member.Member, *stream.GroupWriter) {
	n := gs.nodeOf(id)
	if n == nil {
		return nil, nil
	}
	n.serves.ForgetLack()
	faultpoint.Hit(faultpoint.GroupStreamAsked)
	return n.member, n.writers[slices.Index(kinds[:], kind)]
}

// NodesAnd returns the ids of the nodes, and those in ids, each once.
func (gs *Groups) NodesAnd(ids []types.ID) []types.ID {
	gs.mu.RLock()
	defer gs.mu.RUnlock()
	for id := range gs.nodes {
		if !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	return ids
}

// enter counts a goroutine that Close waits for, until wg.Done, unless Stop was called.
func (gs *Groups) enter() bool {
	gs.mu.RLock()
	defer gs.mu.RUnlock()
	if gs.stopped {
		return false
	}
	gs.wg.Add(1)
	return true
}

// spawn runs f on a goroutine that Close waits for, unless Stop was called.
func (gs *Groups) spawn(f func()) bool {
	if !gs.enter() {
		return false
	}
	go func() {
		defer gs.wg.Done()
		f()
	}()
	return true
}

// HasNode reports whether a replica of a group lives on the node with this id.
func (gs *Groups) HasNode(id types.ID) bool { return gs.nodeOf(id) != nil }

// Used reports whether there has been a group.
func (gs *Groups) Used() bool { return gs.used.Load() }

// Len returns the number of groups.
func (gs *Groups) Len() int {
	gs.mu.RLock()
	defer gs.mu.RUnlock()
	return len(gs.all)
}

func (gs *Groups) nodeOf(id types.ID) *node {
	gs.mu.RLock()
	defer gs.mu.RUnlock()
	return gs.nodes[id]
}

// useNode returns the node with this id for one more replica, and makes it if there is none. A node that is known moves
// to urls.
func (gs *Groups) useNode(id types.ID, urls types.URLs) *node {
	gs.mu.Lock()
	if gs.stopped {
		gs.mu.Unlock()
		return nil
	}
	n, known := gs.nodes[id]
	if !known {
		n = newNode(gs, id, urls)
		gs.nodes[id] = n
		n.start()
	}
	n.users++
	gs.mu.Unlock()
	if known {
		n.update(urls) // not under mu, which results of snapshots take: see snapshotOwner.Enter
	}
	return n
}

// leaveNode ends the use of a node. The last replica takes the connections along.
func (gs *Groups) leaveNode(n *node) {
	gs.mu.Lock()
	n.users--
	last := n.users == 0 && gs.nodes[n.member.RemoteID] == n
	if last {
		delete(gs.nodes, n.member.RemoteID)
	}
	join := last && !gs.stopped // or Close does
	if join {
		gs.wg.Add(1)
	}
	gs.mu.Unlock()
	if join {
		faultpoint.Hit(faultpoint.GroupNodeUnused)
		n.shut(errs.ErrPeerRemoved)
		go func() {
			defer gs.wg.Done()
			n.member.Join()
		}()
	}
}

// Stop refuses new work, and ends all groups and nodes. It does not wait; Close does.
func (gs *Groups) Stop(cause error) {
	gs.mu.Lock()
	gs.stopped = true
	groups, nodes := slices.Collect(maps.Values(gs.all)), slices.Collect(maps.Values(gs.nodes))
	gs.mu.Unlock()
	for _, n := range nodes {
		n.shut(cause) // which reports losses
	}
	for _, g := range groups {
		g.end(cause)
	}
	gs.ended = groups
	gs.left = nodes
	gs.mu.Lock()
	clear(gs.all)
	clear(gs.nodes)
	gs.mu.Unlock()
	for _, p := range gs.pools {
		p.Close()
	}
}

// Close returns when no goroutine of a node or a group runs and no callback will come. Stop has returned.
func (gs *Groups) Close() {
	for _, n := range gs.left {
		n.member.Join()
	}
	for _, g := range gs.ended {
		g.await()
	}
	gs.living.Wait() // also for groups that leave
	gs.reports.Close()
	gs.wg.Wait()
	gs.node.Notifiers.Close() // last: snapshots to us end with their groups, and removed nodes with wg
}

// Tick does the periodic work of all nodes: link heartbeats and the release of idle memory. It is called
// every heartbeat interval.
func (gs *Groups) Tick() {
	gs.clock.Add(1)
	for _, n := range gs.allNodes() {
		n.tick()
	}
	for _, p := range gs.pools {
		p.TrimIfIdle()
	}
	gs.reports.TrimIfIdle()
}

// Renew moves our streams from a node to new connections, which show its present certificate.
func (gs *Groups) Renew(id types.ID) {
	if n := gs.nodeOf(id); n != nil {
		for _, r := range n.readers {
			r.Renew()
		}
	}
}

// Recheck revalidates the connections of all nodes.
func (gs *Groups) Recheck() {
	for _, n := range gs.allNodes() {
		n.member.StartRecheck(n.recheck)
	}
}

func (gs *Groups) allNodes() []*node {
	gs.mu.RLock()
	defer gs.mu.RUnlock()
	return slices.Collect(maps.Values(gs.nodes))
}

// nodeRaft is what the members that nodes are report to.
type nodeRaft struct{ groups *Groups }

// Process implements callback.Raft. It is not called.
func (nodeRaft) Process(context.Context, *raftpb.Message) error { return nil }

// IsIDRemoved implements callback.Raft. It is not called: replicas are removed, and not nodes.
func (nodeRaft) IsIDRemoved(uint64) bool { return false }

// ReportUnreachable implements callback.Raft: it tells the groups that have messages in flight to the node.
func (r nodeRaft) ReportUnreachable(id uint64) {
	if n := r.groups.nodeOf(types.ID(id)); n != nil {
		n.tellGroups()
	}
}

// ReportSnapshot implements callback.Raft. It is not called: results of snapshots go to their group.
func (nodeRaft) ReportSnapshot(uint64, raft.SnapshotStatus) {}
