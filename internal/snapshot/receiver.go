package snapshot

import (
	"context"
	"crypto/tls"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"

	"github.com/seed-4d73690b/rafthttp/internal/faultpoint"
	"github.com/seed-4d73690b/rafthttp/internal/protocol"
	"github.com/seed-4d73690b/rafthttp/internal/wire"
	"github.com/seed-4d73690b/rafthttp/snap"
)

// Config is the configuration of both ends of a transfer. It does not change.
type Config struct {
	ID            types.ID      // of the local member
	ReadTimeout   time.Duration // longest time without progress
	WriteTimeout  time.Duration // for an answer
	AnswerTimeout time.Duration // from the last byte to the answer
}

const (
	// maxWorkInterval is short, because the sender's read timeout, which is not known here, may be.
	maxWorkInterval = 250 * time.Millisecond
	// olderStill is how long a transfer may make no progress before another one of its snapshot replaces it. It is
	// longer than a paced sender's longest pause and the time until the receiver sees the bytes after it.
	olderStill = 2 * time.Second
)

// workInterval is how often a receiver checks whether bytes have arrived, and reports that it is working. It is also
// how long a question waits for the end of an interrupted transfer.
func (c Config) workInterval() time.Duration { return min(c.ReadTimeout/stallTicks, maxWorkInterval) }

// Receiver receives the snapshots of other members, a limited number at a time. It is safe for concurrent use.
type Receiver struct {
	cfg      Config
	head     wire.Limits // of the message at the head of a body
	group    uint64      // whose snapshots they are; 0: none
	noSplice atomic.Bool // the kernel cannot move bytes from sockets to the files of the Snapshotter

	installed installedList
	places    *places

	mu   sync.Mutex
	all  map[*incoming]struct{}
	last *Status
}

// NewReceiver returns a receiver of at most max snapshots at a time, with these limits for the message of each. It
// shares the places among the members that peers returns, which must not block.
func NewReceiver(c Config, max int, head wire.Limits, peers func() []types.ID) *Receiver {
	return &Receiver{cfg: c, head: head, places: newPlaces(max, peers), all: map[*incoming]struct{}{}}
}

// Of returns a receiver with the same configuration, which shares the places, for snapshots of a raft group, which have nothing in
// common with those of r.
func (r *Receiver) Of(group uint64) *Receiver {
	return &Receiver{cfg: r.cfg, group: group, head: r.head, places: r.places, all: map[*incoming]struct{}{}}
}

// incoming is one transfer to us.
type incoming struct {
	Progress
	tls  *tls.ConnectionState // of its connection; nil: no TLS
	done chan struct{}        // closed when it has ended

	saved    atomic.Bool // its database is in place: only Process is still to come
	checking atomic.Bool // by Cut
	waits    networkWaits

	interrupt func()              // ends it as if its connection broke; does not change
	id        protocol.TransferID // does not change
	key       snap.Transfer       // guarded by Receiver.mu; the zero Transfer if it cannot be resumed
}

// Status returns the state of all transfers in progress, and of the one that ended last.
func (r *Receiver) Status() (all []Status, last *Status) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for t := range r.all {
		all = append(all, t.state())
	}
	return all, r.last
}

// begin takes a place for t, unless there are too many, or an older attempt of the same transfer has one.
func (r *Receiver) begin(t *incoming) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for other := range r.all {
		if t.isAttemptOf(other) {
			return protocol.ErrStillWriting
		}
	}
	if !r.places.take(t.peer) {
		return protocol.ErrTooManySnapshots
	}
	r.all[t] = struct{}{}
	return nil
}

// isAttemptOf reports whether two attempts are at the same transfer, as stated by their sender.
func (t *incoming) isAttemptOf(other *incoming) bool {
	return t.id != 0 && t.id == other.id && t.peer == other.peer
}

func (r *Receiver) end(t *incoming) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.all, t)
	r.places.giveBack(t.peer)
	if st := t.state(); !st.Ended.IsZero() {
		r.last = &st
	}
	close(t.done)
}

// name sets the database of t. It returns false if another transfer has the same.
func (r *Receiver) name(t *incoming, key snap.Transfer) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for other := range r.all {
		if other.key == key {
			return false
		}
	}
	t.key = key
	return true
}

// find returns an attempt at the transfer that a question is about, or one with the same database, or nil.
func (r *Receiver) find(q protocol.SnapshotQuestion) *incoming {
	r.mu.Lock()
	defer r.mu.Unlock()
	asking := &incoming{id: q.ID}
	asking.peer = types.ID(q.About.From)
	for t := range r.all {
		if t.key == q.About || asking.isAttemptOf(t) {
			return t
		}
	}
	return nil
}

// Busy reports whether there is no place for a snapshot of a member.
func (r *Receiver) Busy(from types.ID) bool { return r.places.full(from) }

// Offset answers the question how much of a database is present, which partial knows.
func (r *Receiver) Offset(ctx context.Context, q protocol.SnapshotQuestion, partial func(snap.Transfer) (int64, uint32)) (offset int64, sum uint32, err error) {
	if older := r.find(q); older != nil {
		if err := r.endOlder(ctx, older, q.ID); err != nil {
			return 0, 0, err
		}
	}
	if offset, sum, ok := r.installed.offset(q); ok {
		return offset, sum, nil
	}
	faultpoint.Hit(faultpoint.SnapshotQuestion)
	if r.Busy(types.ID(q.About.From)) {
		return 0, 0, protocol.ErrTooManySnapshots
	}
	offset, sum = partial(q.About)
	return offset, sum, nil
}

// endOlder ends an older attempt at a database, because its sender starts again: it has seen the connection break. If
// the attempt is not of the same transfer, but of a twin of the sender, or of its previous process, it is ended only if
// it has made no progress for some time, not because of our own work. One whose database is saved is never ended: it
// needs no connection. ErrStillWriting means that it has not ended. The answer does not take long: how long its sender
// waits is unknown.
func (r *Receiver) endOlder(ctx context.Context, older *incoming, id protocol.TransferID) error {
	if !older.saved.Load() {
		if older.id != id && (older.still() < olderStill || older.waits.overdue()) {
			return protocol.ErrStillWriting
		}
		older.interrupt()
	}
	patience := time.NewTimer(r.cfg.workInterval())
	defer patience.Stop()
	select {
	case <-older.done:
		return nil
	case <-patience.C:
		return protocol.ErrStillWriting
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Cut interrupts the unwanted transfers, as if their connections broke. Each is checked on a goroutine that spawn
// starts, unless spawn returns false or it is being checked already.
func (r *Receiver) Cut(spawn func(func()) bool, unwanted func(sender types.ID, over *tls.ConnectionState) bool) {
	r.mu.Lock()
	all := make([]*incoming, 0, len(r.all))
	for t := range r.all {
		all = append(all, t)
	}
	r.mu.Unlock()
	for _, t := range all {
		if !t.checking.CompareAndSwap(false, true) {
			continue
		}
		check := func() {
			defer t.checking.Store(false)
			if unwanted(t.peer, t.tls) {
				t.interrupt()
			}
		}
		if !spawn(check) {
			t.checking.Store(false)
		}
	}
}
