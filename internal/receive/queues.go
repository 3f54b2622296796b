package receive

import (
	"context"
	"slices"
	"sync"

	"go.etcd.io/etcd/client/pkg/v3/types"

	"github.com/seed-4d73690b/rafthttp/internal/errs"
	"github.com/seed-4d73690b/rafthttp/internal/member"
	"github.com/seed-4d73690b/rafthttp/internal/queue"
)

// Queues selects the receive queue for the message of a request, when several serve a member
// one after another: those of the peer; before and after it is one, those of a guest;
// and those of the next peer with the same id. Process still gets the
// messages of one kind one after another: a queue starts once Process is done with
// the earlier ones. It is safe for concurrent use.
//
// A guest is a member that is not a peer. It has a queue while it has requests in progress
// whose messages were read: as many as postlimit and MaxSnapshots allow.
type Queues struct {
	cfg Config

	mu     sync.Mutex
	guests map[queueKey]*guest
	inUse  map[*guest]struct{} // including those that a peer has followed
	// earlier has the channels closed at the end of each queue that has a successor, or may
	// get one: its own is not among them.
	earlier map[queueKey][]<-chan struct{}
}

// queueKey identifies the receive queues of one kind of one member.
type queueKey struct {
	id   types.ID
	kind queue.Kind
}

type guest struct {
	receiver *Receiver
	key      queueKey
	requests int
}

// Config is the configuration of Queues. The functions do not block.
type Config struct {
	Ctx      context.Context // of the Transport
	Cfg      *member.Config
	Wait     *sync.WaitGroup              // joins the workers of guests
	PeerOf   func(id types.ID) *Receivers // nil: not a peer
	IsPaused func(id types.ID) bool       // for a member that is not a peer
}

// NewQueues returns an empty set of queues.
func NewQueues(c Config) *Queues {
	return &Queues{cfg: c, guests: map[queueKey]*guest{}, inUse: map[*guest]struct{}{}, earlier: map[queueKey][]<-chan struct{}{}}
}

// Enter returns the queue of a member for one request, which must call leave.
func (rl *Queues) Enter(id types.ID, k queue.Kind) (r *Receiver, leave func()) {
	rl.mu.Lock()
	defer rl.mu.Unlock()
	if rs := rl.cfg.PeerOf(id); rs != nil {
		return rs[k], func() {}
	}
	key := queueKey{id, k}
	one := rl.guests[key]
	if one == nil {
		one = &guest{receiver: newReceiver(member.NewGuest(rl.cfg.Ctx, rl.cfg.Cfg, id, rl.cfg.Wait), k), key: key}
		one.receiver.after = rl.before(key)
		rl.guests[key], rl.inUse[one] = one, struct{}{}
	}
	one.receiver.Member.Paused.Store(rl.cfg.IsPaused(id))
	one.requests++
	return one.receiver, func() { rl.leave(one) }
}

// leave ends the queue of a guest with its last request.
func (rl *Queues) leave(one *guest) {
	rl.mu.Lock()
	defer rl.mu.Unlock()
	if one.requests--; one.requests > 0 {
		return
	}
	delete(rl.inUse, one)
	if rl.guests[one.key] == one {
		delete(rl.guests, one.key)
	}
	one.receiver.Close() // the messages left in it were given up
	one.receiver.Member.Cancel(nil)
	rl.forget(one.key, one.receiver)
}

// OfGuests returns the queues of members that are not peers, by kind.
func (rl *Queues) OfGuests() (all []Receivers) {
	rl.mu.Lock()
	defer rl.mu.Unlock()
	for one := range rl.inUse {
		var rs Receivers
		rs[one.key.kind] = one.receiver
		all = append(all, rs)
	}
	return all
}

// Remembered returns the number of queues of guests, and the number of kinds of members
// with queues that a later one has to wait for.
func (rl *Queues) Remembered() (guests, earlier int) {
	rl.mu.Lock()
	defer rl.mu.Unlock()
	return len(rl.inUse), len(rl.earlier)
}

// Pause pauses the queues of a member as a guest, including queued messages, or ends that.
// The caller has paused the remote or the peer before.
func (rl *Queues) Pause(id types.ID, on bool) {
	rl.mu.Lock()
	defer rl.mu.Unlock()
	for one := range rl.inUse {
		if one.key.id != id {
			continue
		}
		if one.receiver.Member.Paused.Store(on); on {
			one.receiver.Discard(one.receiver.Queue.Empty(), errs.ErrPaused)
		}
	}
}

// Replace calls publish, which changes the peers. Messages for added peers, which
// are not used yet, wait for the queues before theirs; later messages for removed
// members wait for the queues of the removed peers.
func (rl *Queues) Replace(added, removed []*Receivers, publish func()) {
	rl.mu.Lock()
	defer rl.mu.Unlock()
	for _, rs := range removed {
		for k, r := range rs {
			key := queueKey{r.Member.RemoteID, queue.Kind(k)}
			rl.earlier[key] = append(rl.before(key), r.ended)
		}
	}
	for _, rs := range added {
		for k, r := range rs {
			key := queueKey{r.Member.RemoteID, queue.Kind(k)}
			if one := rl.guests[key]; one != nil {
				delete(rl.guests, key)
				rl.earlier[key] = append(rl.before(key), one.receiver.ended)
			}
			r.after = rl.before(key)
		}
	}
	publish()
}

// Ended forgets the queues of a removed peer, when Process is done with all of their
// messages.
func (rl *Queues) Ended(rs *Receivers) {
	rl.mu.Lock()
	defer rl.mu.Unlock()
	for k, r := range rs {
		rl.forget(queueKey{r.Member.RemoteID, queue.Kind(k)}, r)
	}
}

// before is called with mu held: it returns the ends of the earlier queues to wait for.
func (rl *Queues) before(key queueKey) []<-chan struct{} {
	rl.forget(key, nil)
	return slices.Clone(rl.earlier[key])
}

// forget is called with mu held: it forgets queues that have ended, including r.
func (rl *Queues) forget(key queueKey, r *Receiver) {
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
