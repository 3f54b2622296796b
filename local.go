package rafthttp

import (
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"

	"github.com/seed-4d73690b/rafthttp/internal/callback"
	"github.com/seed-4d73690b/rafthttp/internal/queue"
)

// laneLocal is what drops of messages for the local member are told of as, which come
// to no lane.
const laneLocal = "local"

// localDrops counts messages that Send was given for the local member, or for one of
// raft's local threads. They are reported to nobody's raft: it would take the local
// member for unreachable.
type localDrops struct {
	queue.Counters
	events *callback.Events // of the local member
}

// dropLocal drops the first of msgs, and those after it that are local, too. It returns
// how many.
func (e *engine) dropLocal(msgs []*raftpb.Message) (n int) {
	for n < len(msgs) && e.cfg.IsLocal(types.ID(msgs[n].GetTo())) {
		n++
	}
	if e.ctx.Err() != nil { // after Stop
		return n
	}
	total := e.local.Drop(n, queue.DropLocal)
	if e.local.DropLogDue(time.Now()) {
		e.cfg.Log.Warn("Send was given messages for raft's local threads or the local member, see SplitMessages; further ones are only counted for a while",
			zap.Stringer("type", msgs[0].GetType()), zap.String("to", types.ID(msgs[0].GetTo()).String()),
			zap.Uint64("dropped-total", total), zap.Error(ErrLocalMessage))
	}
	e.local.events.Dropped(laneLocal, n, ErrLocalMessage)
	return n
}
