package snapshot

import (
	"cmp"
	"context"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"
	"golang.org/x/time/rate"

	"github.com/seed-4d73690b/rafthttp/internal/protocol"
	"github.com/seed-4d73690b/rafthttp/internal/wire"
	"github.com/seed-4d73690b/rafthttp/snap"
)

const (
	// maxTransfers limits those to one peer, waiting or in progress.
	maxTransfers = 16
	// MaxHeadBytes limits the message at the head of a body.
	MaxHeadBytes = 64 << 20
)

// Peer is the member that a Sender sends to. It is safe for concurrent use.
type Peer interface {
	// URL returns the URL to try next.
	URL() url.URL
	// Dial connects to u, for an attempt to send a snapshot that began at that time, before u was picked, and returns the URL
	// of a request with a snapshot there, for HTTP. The connection is a *net.TCPConn or a *net.UnixConn, or runs over the
	// result of wrap for the connection to the network.
	Dial(ctx context.Context, u url.URL, began time.Time, wrap func(net.Conn) net.Conn) (net.Conn, *url.URL, error)
	// BePatient makes the system keep a dialled connection whose other end does not read, for d or the
	// usual time, whichever is longer.
	BePatient(conn net.Conn, d time.Duration)
	// Header returns the headers of every request to the member.
	Header() http.Header
	// Conclude returns the meaning of the answer to a snapshot, or to a question: nil for success. The
	// error of an answer without another meaning wraps what it says of the snapshot, such as protocol.ErrSnapshotBusy.
	Conclude(resp *http.Response, question bool) error
	// Busy reports whether messages for the member wait.
	Busy() bool
}

// Events are notified of the results of transfers. All are called by the goroutine of the transfer.
type Events interface {
	// Observe returns the function to call with the progress of a transfer, or nil.
	Observe(p *Progress) func(Status)
	// Succeeded is called after a successful attempt that began at that time.
	Succeeded(began time.Time)
	// Failed is called after a failed attempt that began at that time, unless the reader was the cause.
	Failed(at url.URL, began time.Time, err error)
	// Done is called once for each transfer, of the snapshot of m, at its end.
	Done(m *raftpb.Message, st Status, err error)
}

// Sender transfers snapshots to one peer, each on separate connections. It is safe for concurrent use.
type Sender struct {
	cfg       SenderConfig
	mu        sync.Mutex
	transfers map[*transfer]struct{} // nil once closed
	queue     chan struct{}          // closed by the next Drop; of those that wait for another turn
	begun     uint64                 // number of transfers
	last      *Status
}

// SenderConfig is the configuration of a Sender. It does not change.
type SenderConfig struct {
	Config Config
	To     types.ID
	Group  bool           // the snapshots are those of a raft group, and the headers of Peer name it
	ID     uint64         // of the group
	Sent   *Account       // of the snapshots
	Bytes  *atomic.Uint64 // counts bytes of databases
	Peer   Peer
	Events Events
	Pace   *Pace           // shared by all Senders of a Transport
	Ctx    context.Context // ends all transfers
	// Enter counts a transfer, whose end is joined, until Leave, or returns false once Ctx has ended.
	Enter func() bool
	Leave func()
	Log   *zap.Logger
	Lines *rate.Limiter // of Log, for transfers
	// Full is the error of a transfer over maxTransfers, Dropped of one ended by Drop.
	Full, Dropped error
}

// NewSender returns a sender.
func NewSender(c SenderConfig) *Sender {
	return &Sender{cfg: c, transfers: map[*transfer]struct{}{}, queue: make(chan struct{})}
}

// Send makes a transfer wait for its turn, which costs no goroutine; one that is refused with an error ends soon. It does not block. It
// returns false, and leaves m alone, if the peer has ended.
func (s *Sender) Send(m *snap.Message, refused error) bool {
	meta := m.GetSnapshot().GetMetadata()
	if m.ReadCloser == nil && m.Open != nil {
		m.ReadCloser = &lateReader{open: m.Open}
	}
	t := &transfer{sender: s, m: m, size: m.DatabaseSize(), id: 1 + protocol.TransferID(rand.Uint64N(math.MaxUint64))}
	t.db = newSource(readerOf(m), t.size)
	t.key = snap.Transfer{Term: meta.GetTerm(), Index: meta.GetIndex(), Size: t.size}
	t.waiter = waiter{of: s.cfg.To, priority: m.Priority, ready: func() { go t.run() }}
	t.peer, t.peerBytes, t.every, t.observe = s.cfg.To, s.cfg.Bytes, s.cfg.Config.ReadTimeout/stallTicks, s.cfg.Events.Observe(&t.Progress)
	t.group = s.cfg.ID
	t.begin(time.Now(), t.size)
	t.index.Store(meta.GetIndex())
	if size := wire.MessageSize(m.Message); refused == nil && size > MaxHeadBytes {
		refused = &wire.SizeError{What: "message at the head of a snapshot", Size: uint64(size), Limit: MaxHeadBytes}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.transfers == nil || !s.cfg.Enter() {
		return false
	}
	s.begun++
	t.number = s.begun
	s.cfg.Sent.wait()
	switch {
	case refused != nil:
		s.cfg.Pace.endings.add(t, refused)
		return true
	case len(s.transfers) >= maxTransfers:
		s.cfg.Pace.endings.add(t, s.cfg.Full)
		return true
	}
	older := s.sameAs(t)
	s.transfers[t] = struct{}{}
	if older != nil { // in parallel they would take the receiver's file from each other
		t.older = older
		return true
	}
	s.cfg.Pace.turns.add(&t.waiter)
	return true
}

// sameAs returns the last started of the transfers in progress with the same snapshot as t, or nil. It is called with
// mu held.
func (s *Sender) sameAs(t *transfer) (last *transfer) {
	for other := range s.transfers {
		if other.key == t.key && (last == nil || other.number > last.number) {
			last = other
		}
	}
	return last
}

// nextDrop returns the channel that the next Drop closes.
func (s *Sender) nextDrop() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.queue
}

// younger returns a transfer that waits for the end of t, or nil.
func (s *Sender) younger(t *transfer) *transfer {
	s.mu.Lock()
	defer s.mu.Unlock()
	for other := range s.transfers {
		if other.older == t {
			return other
		}
	}
	return nil
}

// followUp ends the wait of a transfer for the end of t, if it still waits: it has the same result, or waits for its turn.
func (s *Sender) followUp(y, t *transfer, same bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case y.older != t:
	case same:
		y.older, y.head = nil, t.head
		s.cfg.Pace.endings.add(y, t.result)
	default:
		y.older = nil
		s.cfg.Pace.turns.add(&y.waiter)
	}
}

// Drop drops the snapshots that wait for their turn.
func (s *Sender) Drop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.queue)
	s.queue = make(chan struct{})
	s.endWaiting(s.cfg.Dropped)
}

// Close refuses further snapshots, and ends those that wait for their turn. Ctx has ended, and with it those in progress.
func (s *Sender) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.endWaiting(context.Cause(s.cfg.Ctx))
	s.transfers = nil
}

// endWaiting ends the transfers that have had no turn. It is called with mu held.
func (s *Sender) endWaiting(cause error) {
	var all []*transfer
	for t := range s.transfers {
		if t.older != nil || s.cfg.Pace.turns.remove(&t.waiter) {
			t.older = nil
			all = append(all, t)
		}
	}
	slices.SortFunc(all, func(a, b *transfer) int { return cmp.Compare(a.number, b.number) })
	for _, t := range all {
		s.cfg.Pace.endings.add(t, cause)
	}
}

// Status returns the state of all transfers in progress, and of the one that ended last.
func (s *Sender) Status() (all []Status, last *Status) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for t := range s.transfers {
		all = append(all, t.state())
	}
	return all, s.last
}

// ended removes a transfer.
func (s *Sender) ended(t *transfer, st Status) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.transfers, t)
	s.last = &st
}
