package rafthttp

import (
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"

	"github.com/seed-4d73690b/rafthttp/internal/callback"
	"github.com/seed-4d73690b/rafthttp/internal/queue"
)

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
