package fair

import (
	"math"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/internal/queue"
)

// CoalescedPerPlace is how many coalesced messages, such as heartbeats that become rows of one frame, take one place
// of a queue.
const CoalescedPerPlace = 512

// units returns the part of a place that a message takes, in units of 1/CoalescedPerPlace.
func units(coalesced bool) int32 {
	if coalesced {
		return 1
	}
	return CoalescedPerPlace
}

// holding is what a flow, or all flows of an account, hold: messages that wait or that a worker has taken.
type holding struct {
	units int64 // of places
	bytes int64
}

func (h *holding) add(units int32, size int64) {
	h.units += int64(units)
	h.bytes += size
}

// account holds flows to limits that they share: of one kind of messages. It is guarded by the lock of its queue.
type account struct {
	limits      queue.Limits
	units       int64 // of limits.Messages
	held        holding
	messages    int // held
	flows       int // that hold something
	reservation queue.Reservation
}

func newAccount(limits queue.Limits) account {
	places := min(int64(limits.Messages), math.MaxInt64/2/CoalescedPerPlace)
	return account{limits: limits, units: places * CoalescedPerPlace, reservation: queue.NewReservation(limits.Shared)}
}

// accept adds a message to what a flow holds, or says why it may not. A flow that holds something may hold as much
// as is left. A message larger than a limit is accepted while nothing is held.
func (a *account) accept(own *holding, m *raftpb.Message, size int64, units int32) queue.Verdict {
	if a.limits.MessageBytes > 0 && size > a.limits.MessageBytes {
		return queue.TooLarge
	}
	if a.messages > 0 && (own.units+int64(units) > a.units-a.held.units || own.bytes+size > a.limits.Bytes-a.held.bytes) {
		return queue.Full
	}
	if own.bytes > 0 && a.limits.Shared != nil && own.bytes+size > a.memoryLeft(m) {
		return queue.OutOfMemory
	}
	if !a.reservation.Reserve(m, size, a.held.bytes) {
		return queue.OutOfMemory
	}
	if own.units == 0 {
		a.flows++
	}
	own.add(units, size)
	a.held.add(units, size)
	a.messages++
	return queue.Accepted
}

// memoryLeft returns how much more the budget leaves to the account for messages of the kind of m. A
// budget leaves its last eighth to control messages.
func (a *account) memoryLeft(m *raftpb.Message) int64 {
	limit := a.limits.Shared.Max()
	if queue.KindOf(m.GetType()) != queue.Control {
		limit -= limit / 8
	}
	others := a.limits.Shared.Used() - a.reservation.Reserved()
	return limit - others - 2*a.held.bytes
}

// isOverShare reports whether a flow holds as much as each of the flows that hold something may, if they
// leave as much to another one.
func (a *account) isOverShare(own *holding) bool {
	parts := int64(a.flows + 1)
	return own.units > 0 && (own.units >= a.units/parts || own.bytes >= a.limits.Bytes/parts)
}

// release makes room for a message that was accepted. The caller calls settle after the last one.
func (a *account) release(own *holding, size int64, units int32) {
	own.add(-units, -size)
	a.held.add(-units, -size)
	a.messages--
	if own.units == 0 {
		a.flows--
	}
}

// settle returns memory to the budget that the account does not need, all of it if closed is set or
// nothing is held: a message over the limit is accepted then.
func (a *account) settle(closed bool) {
	a.reservation.Release(a.held.bytes, closed || a.messages == 0)
}
