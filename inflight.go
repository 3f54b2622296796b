package rafthttp

import (
	"go.etcd.io/raft/v3"
	"go.uber.org/zap"
)

// LimitInflight fits raft's window of appends in flight to the send queue of t. Call it
// after the queue's fields are set and before c is used:
//
//   - A MaxInflightBytes of 0, which is no limit, becomes half of SendQueueBytes, or
//     an eighth of MaxQueuedBytes if that is less: so much the queues of two followers
//     that are slow have each. Beside its data the queue charges about 120 bytes for an
//     entry and 280 for a message, so that half is enough for entries of 120 bytes and
//     more. Raft demands at least MaxSizePerMsg.
//   - MaxInflightMsgs is at most SendQueueMessages.
//
// What it changes is logged, and that MaxSizePerMsg is too large for it to help. The
// limit is for one group: groups that share a Transport share its queues.
//
// Without it a follower that is slow fills its queue: what
// has no room is dropped, and raft is told once the queue has drained, which loses
// little (see doc.go), but a queue that is never full costs less, and what is in it
// is younger.
func (t *Transport) LimitInflight(c *raft.Config) {
	log := t.Logger
	if log == nil {
		log = zap.NewNop()
	}
	if c.MaxInflightBytes == 0 {
		fits := inflightBytes(orDefault(t.SendQueueBytes, defaultQueueBytes), orDefault(t.MaxQueuedBytes, defaultMaxQueuedBytes))
		c.MaxInflightBytes = max(fits, c.MaxSizePerMsg)
		if c.MaxSizePerMsg > fits {
			log.Warn("raft's appends in flight may be more than the send queue holds: lower raft.Config.MaxSizePerMsg, or raise the bounds of the queue",
				zap.Uint64("max-size-per-msg", c.MaxSizePerMsg), zap.Uint64("fits", fits))
		}
		log.Info("limited raft's appends in flight to what the send queue holds", zap.Uint64("max-inflight-bytes", c.MaxInflightBytes))
	}
	if most := orDefault(t.SendQueueMessages, defaultQueueMessages); c.MaxInflightMsgs > most {
		log.Info("limited raft's appends in flight to what the send queue holds",
			zap.Int("max-inflight-msgs", most), zap.Int("was", c.MaxInflightMsgs))
		c.MaxInflightMsgs = most
	}
}

// inflightBytes is how much data may be in flight for a send queue with this bound,
// where all queues together have the other.
func inflightBytes(queue, all int64) uint64 { return uint64(max(min(queue/2, all/8), 1)) }

// appendsDrained has raft told of appends that found no room in the queue of a stream,
// now that there is some. The first time it says what helps.
func (l *member) appendsDrained() {
	l.reports.Unreachable()
	if !l.cfg.inflightAdvice.CompareAndSwap(false, true) {
		return
	}
	l.spawn(func() {
		l.log.Warn("raft has more appends in flight than the queue holds: set raft.Config.MaxInflightBytes, as Transport.LimitInflight does",
			zap.Uint64("max-inflight-bytes", inflightBytes(l.cfg.sendLimits.Bytes, l.cfg.queued.Max())),
			zap.Int64("send-queue-bytes", l.cfg.sendLimits.Bytes), zap.Int("send-queue-messages", l.cfg.sendLimits.Messages),
			zap.Int64("max-queued-bytes", l.cfg.queued.Max()))
	})
}
