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

// places returns how many places units take, the last of them in part.
func places(units int64) int { return int((units + CoalescedPerPlace - 1) / CoalescedPerPlace) }

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
	full        queue.Fullness
	reservation queue.Reservation
}

func newAccount(limits queue.Limits) account {
	places := min(int64(limits.Messages), math.MaxInt64/2/CoalescedPerPlace)
	return account{limits: limits, units: places * CoalescedPerPlace, reservation: queue.NewReservation(limits.Shared)}
}

// smallPart is the part of a limit that each flow may hold if it is left.
const smallPart = 1024

// mayHold reports whether a flow may hold own + more of a limit of which left is not held by any. Its first message may use what is
// left. Then it may hold as much as is left, and no more than 3.6s² of the limit if s is what is left beyond the last
// eighth, as a part of it. So n flows that flood, one after another or together, leave 1/(n+1), and an eighth to the first
// messages of others, and a small part, however many they are.
func mayHold(own, more, limit, left int64) bool {
	if left > limit/2 && own+more <= limit/2 {
		return true // the usual case: spare is at least 3/8 of the limit, and 3.6s² of it more than half
	}
	return mayHoldOf(own, more, limit, left)
}

// mayHoldOf is mayHold in all cases.
func mayHoldOf(own, more, limit, left int64) bool {
	if more > left {
		return false
	}
	most := limit / smallPart
	if spare := left - limit/8; spare > 0 {
		most = max(most, min(left, int64(3.6*float64(spare)/float64(limit)*float64(spare))))
	}
	return own == 0 || own+more <= most
}

// hasRoom reports whether a flow may hold a further message. The last sixteenth of the bytes is for small messages.
func (a *account) hasRoom(own *holding, size int64, units int32) bool {
	left := a.limits.Bytes - a.held.bytes
	if size > a.limits.Bytes/smallPart && size > left-a.limits.Bytes/16 {
		return false
	}
	return mayHold(own.units, int64(units), a.units, a.units-a.held.units) && mayHold(own.bytes, size, a.limits.Bytes, left)
}

// accept adds a message to what a flow holds, or says why it may not: see mayHold. A message larger than a limit
// is accepted while nothing is held.
func (a *account) accept(own *holding, m *raftpb.Message, size int64, units int32) queue.Verdict {
	if a.limits.MessageBytes > 0 && size > a.limits.MessageBytes {
		return queue.TooLarge
	}
	if a.messages > 0 && !a.hasRoom(own, size, units) {
		return queue.Full
	}
	if own.bytes > 0 && a.limits.Shared != nil && !a.hasMemory(own, m, size) {
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
	a.noteFull()
	return queue.Accepted
}

// noteFull is called after messages were accepted or released.
func (a *account) noteFull() {
	if a.held.units < a.units/2 && a.held.bytes < a.limits.Bytes/2 && a.full.Since().IsZero() {
		return // the usual case
	}
	a.full.Note(a.messages, a.held.units, a.units, a.held.bytes, a.limits.Bytes)
}

// hasMemory reports whether a flow may hold a further message in the part of the budget that other queues leave, of which the
// account leaves as much as it holds. A budget leaves its last eighth to control messages.
func (a *account) hasMemory(own *holding, m *raftpb.Message, size int64) bool {
	limit := a.limits.Shared.Max()
	if queue.KindOf(m.GetType()) != queue.Control {
		limit -= limit / 8
	}
	limit = (limit - a.limits.Shared.Used() + a.reservation.Reserved()) / 2
	return mayHold(own.bytes, size, limit, limit-a.held.bytes)
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

// releaseAll is release for n messages that hold all together.
func (a *account) releaseAll(own *holding, all holding, n int) {
	own.units, own.bytes = own.units-all.units, own.bytes-all.bytes
	a.held.units, a.held.bytes = a.held.units-all.units, a.held.bytes-all.bytes
	a.messages -= n
	if own.units == 0 {
		a.flows--
	}
}

// settle returns memory to the budget that the account does not need, all of it if closed is set or
// nothing is held: a message over the limit is accepted then.
func (a *account) settle(closed bool) {
	a.noteFull()
	a.reservation.Release(a.held.bytes, closed || a.messages == 0)
}
