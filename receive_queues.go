package rafthttp

import (
	"slices"
	"sync"

	"go.etcd.io/etcd/client/pkg/v3/types"

	"github.com/seed-4d73690b/rafthttp/internal/member"
	"github.com/seed-4d73690b/rafthttp/internal/queue"
)

// receiveQueues decides which receive queue the message of a request goes to, where several serve a member
// one after another: those of the peer; before and after it is one, those of a guest,
// as it is called then; and those of the next peer with the same id. Process has the
// messages of one kind one after another all the same: a queue begins once it has
// nothing any more of those before. It is safe for concurrent use.
//
// A guest has a queue while it has requests under way whose messages were read, of
// which there are at most maxPosts of each kind and MaxSnapshots.
type receiveQueues struct {
	mu     sync.Mutex
	guests map[queueKey]*guest
	inUse  map[*guest]struct{} // also those that a peer has followed
	// earlier has what is closed at the end of each queue that got a successor, or may
	// get one: its own is none of them.
	earlier map[queueKey][]<-chan struct{}
}

// queueKey stands for the receive queues of one kind of one member.
type queueKey struct {
	id   types.ID
	kind queue.Kind
}

type guest struct {
	receiver *receiver
	key      queueKey
	requests int
}

func newReceiveQueues() *receiveQueues {
	return &receiveQueues{guests: map[queueKey]*guest{}, inUse: map[*guest]struct{}{}, earlier: map[queueKey][]<-chan struct{}{}}
}

// enter returns the queue of a member for one request, which must leave.
func (rl *receiveQueues) enter(e *engine, id types.ID, k queue.Kind) (r *receiver, leave func()) {
	rl.mu.Lock()
	defer rl.mu.Unlock()
	if p := e.peerOf(id); p != nil {
		return p.receivers[k], func() {}
	}
	key := queueKey{id, k}
	one := rl.guests[key]
	if one == nil {
		one = &guest{receiver: newReceiver(member.NewGuest(e.ctx, e.cfg, id, &e.wg), k), key: key}
		one.receiver.after = rl.before(key)
		rl.guests[key], rl.inUse[one] = one, struct{}{}
	}
	one.receiver.member.Paused.Store(e.remotes.isPaused(id))
	one.requests++
	return one.receiver, func() { rl.leave(one) }
}

// leave ends the queue of a guest with its last request.
func (rl *receiveQueues) leave(one *guest) {
	rl.mu.Lock()
	defer rl.mu.Unlock()
	if one.requests--; one.requests > 0 {
		return
	}
	delete(rl.inUse, one)
	if rl.guests[one.key] == one {
		delete(rl.guests, one.key)
	}
	one.receiver.close() // what is left in it was given up
	one.receiver.member.Cancel(nil)
	rl.forget(one.key, one.receiver)
}

// ofGuests returns the queues of members that are no peers, by kind.
func (rl *receiveQueues) ofGuests() (all []receivers) {
	rl.mu.Lock()
	defer rl.mu.Unlock()
	for one := range rl.inUse {
		var rs receivers
		rs[one.key.kind] = one.receiver
		all = append(all, rs)
	}
	return all
}

// pause cuts the queues of a member as a guest, what waits in them included, or ends that.
// The caller has cut the remote or the peer before.
func (rl *receiveQueues) pause(id types.ID, on bool) {
	rl.mu.Lock()
	defer rl.mu.Unlock()
	for one := range rl.inUse {
		if one.key.id != id {
			continue
		}
		if one.receiver.member.Paused.Store(on); on {
			one.receiver.discard(one.receiver.queue.Empty(), ErrPaused)
		}
	}
}

// replace has publish change who is a peer. What comes for those that were added, and
// are not used yet, waits for the queues before theirs; what comes for those that were
// removed, later on, waits for theirs.
func (rl *receiveQueues) replace(added, removed []*peer, publish func()) {
	rl.mu.Lock()
	defer rl.mu.Unlock()
	for _, p := range removed {
		for k, r := range p.receivers {
			key := queueKey{p.member.RemoteID, queue.Kind(k)}
			rl.earlier[key] = append(rl.before(key), r.ended)
		}
	}
	for _, p := range added {
		for k, r := range p.receivers {
			key := queueKey{p.member.RemoteID, queue.Kind(k)}
			if one := rl.guests[key]; one != nil {
				delete(rl.guests, key)
				rl.earlier[key] = append(rl.before(key), one.receiver.ended)
			}
			r.after = rl.before(key)
		}
	}
	publish()
}

// ended forgets the queues of a peer that was removed, of which Process has nothing any
// more.
func (rl *receiveQueues) ended(p *peer) {
	rl.mu.Lock()
	defer rl.mu.Unlock()
	for k, r := range p.receivers {
		rl.forget(queueKey{p.member.RemoteID, queue.Kind(k)}, r)
	}
}

// before is called with mu held: it returns what the next queue has to wait for.
func (rl *receiveQueues) before(key queueKey) []<-chan struct{} {
	rl.forget(key, nil)
	return slices.Clone(rl.earlier[key])
}

// forget is called with mu held: it forgets queues that have ended, r among them.
func (rl *receiveQueues) forget(key queueKey, r *receiver) {
	left := slices.DeleteFunc(rl.earlier[key], func(ended <-chan struct{}) bool {
		select {
		case <-ended:
			return true
		default:
			return r != nil && r.ended == ended
		}
	})
	if len(left) > 0 {
		rl.earlier[key] = left
	} else {
		delete(rl.earlier, key)
	}
}
