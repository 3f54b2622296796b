package rafthttp

import (
	"cmp"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"
)

// receiver hands the messages of one receive lane to Process, in order.
type receiver struct {
	*link
	lane    *lane
	failing bool // Process returned an error last; owned by the one worker
}

func newReceiver(l *link, name string) *receiver {
	r := &receiver{link: l}
	r.lane = newLane(name, l.receiveLimits, 1, l.wg, r.work)
	r.lane.reopen()
	return r
}

func (r *receiver) work() {
	var items []item
	for {
		var ok bool
		if items, ok = r.lane.take(items, processMessages); !ok {
			return
		}
		for rest := items; len(rest) > 0; {
			n := r.processSome(rest)
			r.lane.release(rest[:n], rest[n:])
			rest = rest[n:]
		}
		clear(items)
	}
}

// processSome processes the first items, and returns how many.
func (r *receiver) processSome(items []item) (n int) {
	start := time.Now()
	var bytes int64
	for n < min(len(items), releaseMessages) && bytes < releaseBytes {
		if r.ctx.Err() != nil {
			r.drop(r.lane, len(items)-n, r.cause())
			r.lane.done(n, uint64(bytes), time.Since(start))
			return len(items)
		}
		r.processOne(items[n])
		bytes += items[n].size
		n++
	}
	r.lane.done(n, uint64(bytes), time.Since(start))
	return n
}

func (r *receiver) processOne(it item) {
	err := r.process(r.ctx, r.peer, r.lane.name, it.m)
	if err != nil && !r.failing && r.ctx.Err() == nil {
		r.log.Warn("failed to process a raft message; further failures are not logged until one succeeds",
			zap.String("lane", r.lane.name), zap.Error(err))
	}
	r.failing = err != nil
}

// offer gives items to the lane, waiting up to wait for room, and drops what
// finds none. It reports whether all found room.
func (r *receiver) offer(items []item, wait time.Duration) bool {
	if f := r.observer.Received; f != nil {
		var bytes int64
		for _, it := range items {
			bytes += it.size
		}
		f(r.peer, r.lane.name, len(items), bytes)
	}
	rest := items
	if wait > 0 {
		rest = r.lane.offerWait(r.ctx, rest, wait)
	} else {
		rest, _ = r.lane.offerAll(rest)
	}
	dropped := 0
	for len(rest) > 0 {
		// A smaller one may find room where this one did not.
		dropped++
		rest, _ = r.lane.offerAll(rest[1:])
	}
	if dropped > 0 {
		r.drop(r.lane, dropped, cmp.Or(r.cause(), ErrQueueFull))
	}
	return dropped == 0
}

func (r *receiver) close() {
	if n := len(r.lane.close()); n > 0 {
		r.drop(r.lane, n, r.cause())
	}
}

// receivers are the three receive lanes of a peer: none holds up another.
type receivers struct {
	control   *receiver // heartbeats, votes, responses
	appends   *receiver // MsgApp, and MsgSnap
	proposals *receiver // MsgProp: Process may block while there is no leader
}

func newReceivers(l *link) receivers {
	return receivers{newReceiver(l, "control"), newReceiver(l, "append"), newReceiver(l, "proposal")}
}

func (r *receivers) of(t raftpb.MessageType) *receiver {
	switch t {
	case raftpb.MsgProp:
		return r.proposals
	case raftpb.MsgApp, raftpb.MsgSnap:
		return r.appends
	default:
		return r.control
	}
}

// receive sorts items into the lanes; only a full append lane waits. It reports
// whether that had room for all.
func (r *receivers) receive(items []item, wait time.Duration) bool {
	roomy := true
	for len(items) > 0 {
		to := r.of(items[0].m.GetType())
		n := 1
		for n < len(items) && r.of(items[n].m.GetType()) == to {
			n++
		}
		if to == r.appends {
			roomy = to.offer(items[:n], wait) && roomy
			if !roomy {
				wait = 0
			}
		} else {
			to.offer(items[:n], 0)
		}
		items = items[n:]
	}
	return roomy
}

func (r *receivers) all() [3]*receiver {
	return [3]*receiver{r.control, r.appends, r.proposals}
}
