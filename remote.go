package rafthttp

import (
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"

	"github.com/seed-4d73690b/rafthttp/internal/callback"
	"github.com/seed-4d73690b/rafthttp/internal/member"
	"github.com/seed-4d73690b/rafthttp/internal/pipeline"
	"github.com/seed-4d73690b/rafthttp/internal/protocol"
	"github.com/seed-4d73690b/rafthttp/internal/queue"
)

// newRemotes returns no remotes, which pick their URLs like peers.
func newRemotes(s *member.Config) *pipeline.Remotes {
	return pipeline.NewRemotes(s, func(urls types.URLs) pipeline.URLs { return newURLPicker(urls) })
}

// AddRemote adds a member that receives messages before it is a peer, such as one
// known from a discovery service. There are at most 128 remotes; one that is not
// used for 10 minutes is dropped, as is one that becomes a peer. It panics,
// naming it, if a URL is invalid or the id is 0. After Stop it does nothing.
func (t *Transport) AddRemote(id types.ID, urls []string) {
	us := member.MustMember("AddRemote", id, urls)
	e := t.engine.Load()
	if e == nil {
		panic("rafthttp: AddRemote before Start")
	}
	if id == e.cfg.ID || !e.enter() {
		return
	}
	defer e.leave()
	for {
		peers := e.peers.Load()
		if (*peers)[id] != nil || e.addRemote(id, us, false, peers) {
			return
		}
	}
}

// addRemote adds a remote. It returns false if asked is no longer the map of peers:
// the member may have become a peer. The caller was admitted by enter.
func (e *engine) addRemote(id types.ID, urls types.URLs, learned bool, asked *map[types.ID]*peer) bool {
	same := func() bool { return e.peers.Load() == asked }
	evicted, ok := e.remotes.Add(id, urls, learned, same)
	if evicted != nil {
		e.wg.Go(evicted.Member.Join) // waits for calls in progress
	}
	return ok
}

// rememberRemote adds the requester as a remote, so that it can be answered before it
// is a peer (PROTOCOL.md, sections 3.4 and 3.5). A removed member is not added.
func (q *request) rememberRemote() error {
	list, err := protocol.PeerURLsIn(q.r.Header)
	if err != nil {
		return err
	}
	peers := q.engine.peers.Load()
	if list == "" || q.from == 0 || q.from == q.engine.cfg.ID || (*peers)[q.from] != nil {
		return nil
	}
	if removed, err := q.isRemoved(q.from); err != nil || removed {
		return err
	}
	urls, err := protocol.ParsePeerURLs(list)
	if err != nil {
		return err
	}
	q.engine.addRemote(q.from, urls, true, peers) // or at its next request
	return nil
}

// laneLocal is the lane name for drops of messages for the local member, which reach
// no lane.
const laneLocal = "local"

// localDrops counts messages given to Send for the local member, or for one of
// raft's local threads. They are not reported to raft: it would consider the local
// member unreachable.
type localDrops struct {
	queue.Counters
	events *callback.Events // of the local member
}

// dropLocal drops the first of msgs, and the following ones that are also local. It returns
// their number.
func (e *engine) dropLocal(msgs []*raftpb.Message) (n int) {
	for n < len(msgs) && e.cfg.IsLocal(types.ID(msgs[n].GetTo())) {
		n++
	}
	if e.ctx.Err() != nil { // after Stop
		return n
	}
	total := e.local.Drop(n, queue.DropLocal)
	if e.local.DropLogDue(queue.DropLocal, time.Now()) {
		e.cfg.Log.Warn("Send was given messages for raft's local threads or the local member, see SplitMessages; further ones are only counted for a while",
			zap.Stringer("type", msgs[0].GetType()), zap.String("to", types.ID(msgs[0].GetTo()).String()),
			zap.Uint64("dropped-total", total), zap.Error(ErrLocalMessage))
	}
	e.local.events.Dropped(laneLocal, n, ErrLocalMessage)
	return n
}
