package rafthttp

import (
	"context"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"golang.org/x/time/rate"

	"github.com/seed-4d73690b/rafthttp/internal/callback"
	"github.com/seed-4d73690b/rafthttp/internal/groups"
	"github.com/seed-4d73690b/rafthttp/internal/loglimit"
	"github.com/seed-4d73690b/rafthttp/internal/member"
	"github.com/seed-4d73690b/rafthttp/internal/pipeline"
	"github.com/seed-4d73690b/rafthttp/internal/postlimit"
	"github.com/seed-4d73690b/rafthttp/internal/receive"
	"github.com/seed-4d73690b/rafthttp/internal/snapshot"
)

// engine is a started Transport.
type engine struct {
	cfg       *member.Config
	snapshots *snapshotSettings
	started   time.Time
	ctx       context.Context // ends with Stop
	cancel    context.CancelCauseFunc
	done      chan struct{} // closed when Stop is done

	peers         atomic.Pointer[map[types.ID]*peer] // replaced under mu, never modified
	remotes       *pipeline.Remotes
	groups        *groups.Groups
	pace          *snapshot.Pace
	receiving     *snapshot.Receiver
	snapshotLines *rate.Limiter // of the log, for snapshots from members that are not peers
	local         *localDrops
	postLimit     *postlimit.Limiter
	receiveQueues *receive.Queues
	refusals      loglimit.Recent[member.Refusal]
	added         chan struct{}  // has a value when housekeeping should look at new peers
	changed       member.Changes // a peer became active or inactive
	beating       atomic.Bool    // a goroutine writes heartbeats
	checking      atomic.Bool    // a recheck is running

	mu      sync.Mutex
	stopped bool
	ending  map[*peer]struct{} // removed, not yet ended
	asking  sync.WaitGroup     // calls of IsIDRemoved that are not counted in wg
	wg      sync.WaitGroup     // housekeeping, ends of peers, refused snapshots, requests; added to under mu until stopped
}

// newEngine returns the engine of a Transport with these settings. It does nothing yet.
func (t *Transport) newEngine(s *member.Config) *engine {
	e := &engine{
		cfg: s, snapshots: t.snapshotSettings(s), started: time.Now(), done: make(chan struct{}),
		remotes: newRemotes(s),
		added:   make(chan struct{}, 1), ending: map[*peer]struct{}{},
		postLimit:     postlimit.New(s.Queued.Max()),
		local:         &localDrops{events: callback.NewEvents(s.ID, s.EventHooks())},
		snapshotLines: loglimit.PerMinute(callback.MemberLines),
	}
	e.ctx, e.cancel = context.WithCancelCause(context.Background())
	nodes := func() []types.ID { return e.groups.NodesAnd(e.peerIDs()) }
	e.pace = snapshot.NewPace(e.ctx, e.snapshots.most, e.snapshots.rate, s.ReadTimeout, nodes)
	e.receiving = snapshot.NewReceiver(e.snapshots.transfer, e.snapshots.most, e.snapshots.headLimits, nodes)
	ofGroups := groups.Snapshots{Config: e.snapshots.transfer, Pace: e.pace, Receiver: e.receiving, Observe: e.snapshots.observeProgress, Ended: e.snapshots.groupSnapshotEnded}
	e.groups = groups.New(groupsConfig(s, t.GroupReceiver, ofGroups, &e.asking, e.changed.Notify))
	s.Self.Groups = e.groups.Used
	urls := t.URLs.String()
	t.urls.CompareAndSwap(nil, &urls)
	e.peers.Store(&map[types.ID]*peer{})
	e.receiveQueues = receive.NewQueues(receive.Config{
		Ctx: e.ctx, Cfg: s, Wait: &e.wg, PeerOf: e.receiversOf, IsPaused: e.remotes.IsPaused,
	})
	return e
}

// removedGrace is how long Stop waits for calls of IsIDRemoved.
const removedGrace = time.Second

// awaitAsking waits for calls of IsIDRemoved, which may wait for a lock that the
// caller of Stop holds.
func (e *engine) awaitAsking() {
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		e.asking.Wait()
	}()
	grace := time.NewTimer(removedGrace)
	defer grace.Stop()
	select {
	case <-answered:
	case <-grace.C:
		e.cfg.Log.Warn("Stop does not wait any longer for IsIDRemoved to return")
	}
}

func (e *engine) peerMap() map[types.ID]*peer { return *e.peers.Load() }

func (e *engine) peerOf(id types.ID) *peer { return e.peerMap()[id] }

// receiversOf returns the receive queues of a peer, or nil if there is no such peer.
func (e *engine) receiversOf(id types.ID) *receive.Receivers {
	if p := e.peerOf(id); p != nil {
		return &p.receivers
	}
	return nil
}

func receiversOf(peers []*peer) (all []*receive.Receivers) {
	for _, p := range peers {
		all = append(all, &p.receivers)
	}
	return all
}

// endingPeers returns the removed peers that have not ended yet.
func (e *engine) endingPeers() []*peer {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Collect(maps.Keys(e.ending))
}

// peerIDs returns the ids of the peers.
func (e *engine) peerIDs() []types.ID { return slices.Collect(maps.Keys(e.peerMap())) }

// enter counts a request, unless the transport is stopped.
func (e *engine) enter() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.stopped {
		return false
	}
	e.wg.Add(1)
	return true
}

func (e *engine) leave() { e.wg.Done() }

// spawn runs f on a goroutine that Stop waits for, unless the transport is
// stopped.
func (e *engine) spawn(f func()) bool {
	if !e.enter() {
		return false
	}
	go func() {
		defer e.leave()
		f()
	}()
	return true
}

// runningCallbacks names the callbacks that have not returned, of these members and of those
// that are ending. Their queues are closed.
func (e *engine) runningCallbacks(peers []*peer, remotes []*pipeline.Remote) (all []string) {
	named := e.cfg.Guard.Calls.List()
	for _, c := range named {
		all = append(all, callback.Call{Name: c.Name, Group: c.Group, Peer: c.Peer}.String())
	}
	calls := e.groups.Calls()
	for _, p := range append(e.endingPeers(), peers...) {
		calls = append(calls, p.receivers.Calls(named)...)
		calls = append(calls, p.pipeline.Calls()...)
		for _, w := range p.writers {
			calls = append(calls, w.Calls()...)
		}
	}
	for _, r := range remotes {
		calls = append(calls, r.Pipeline.Calls()...)
	}
	for _, rs := range e.receiveQueues.OfGuests() {
		calls = append(calls, rs.Calls(named)...)
	}
	for _, c := range calls {
		all = append(all, c.String())
	}
	slices.Sort(all)
	return all
}
