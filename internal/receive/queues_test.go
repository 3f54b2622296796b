package receive

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"

	"github.com/seed-4d73690b/rafthttp/internal/bubble"
	"github.com/seed-4d73690b/rafthttp/internal/callback"
	"github.com/seed-4d73690b/rafthttp/internal/errs"
	"github.com/seed-4d73690b/rafthttp/internal/member"
	"github.com/seed-4d73690b/rafthttp/internal/queue"
)

// recorder is a raft whose Process waits while it is held.
type recorder struct {
	mu    sync.Mutex
	begun []uint64 // terms of messages that Process was called for
	got   []uint64 // and that it has processed
	hold  chan struct{}
	err   error
}

func (r *recorder) Process(_ context.Context, m *raftpb.Message) error {
	r.mu.Lock()
	r.begun = append(r.begun, m.GetTerm())
	r.mu.Unlock()
	<-r.hold
	r.mu.Lock()
	defer r.mu.Unlock()
	r.got = append(r.got, m.GetTerm())
	return r.err
}

// next has the call of Process that waits return.
func (r *recorder) next() { r.hold <- struct{}{} }

func (r *recorder) terms() []uint64 {
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.got)
}

func (r *recorder) calls() []uint64 {
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.begun)
}

func (r *recorder) IsIDRemoved(uint64) bool                    { return false }
func (r *recorder) ReportUnreachable(uint64)                   {}
func (r *recorder) ReportSnapshot(uint64, raft.SnapshotStatus) {}

// house has queues whose peers and cuts a test decides.
type house struct {
	*Queues
	raft   *recorder
	ctx    context.Context
	cancel context.CancelFunc
	wait   sync.WaitGroup
	cfg    *member.Config
	peer   atomic.Pointer[Receivers]
	paused atomic.Bool
}

func run(t *testing.T, messages int, f func(t *testing.T, h *house)) {
	bubble.Test(t, func(t *testing.T) {
		h := &house{raft: &recorder{hold: make(chan struct{})}}
		h.ctx, h.cancel = context.WithCancel(t.Context())
		h.cfg = &member.Config{
			Log: zap.NewNop(), Guard: callback.Guard{Log: zap.NewNop(), Calls: new(callback.Calls)}, Raft: h.raft, ReadTimeout: 5 * time.Second,
			ReceiveLimits: queue.Limits{Messages: messages, Bytes: 1 << 20, Shared: queue.NewBudget(1 << 20)},
		}
		h.Queues = NewQueues(Config{
			Ctx: h.ctx, Cfg: h.cfg, Wait: &h.wait,
			PeerOf:   func(types.ID) *Receivers { return h.peer.Load() },
			IsPaused: func(types.ID) bool { return h.paused.Load() },
		})
		f(t, h)
		h.release()
		h.cancel()
		h.wait.Wait()
		guests, earlier := h.Remembered()
		require.Zero(t, guests)
		require.Zero(t, earlier)
	})
}

// release has Process wait no more.
func (h *house) release() {
	select {
	case <-h.raft.hold:
	default:
		close(h.raft.hold)
	}
}

// newPeer returns the queues of a peer, and what ends it.
func (h *house) newPeer() (rs *Receivers, end func()) {
	all := NewReceivers(member.NewGuest(h.ctx, h.cfg, 2, &h.wait))
	return &all, func() {
		all[0].Member.Cancel(errs.ErrPeerRemoved)
		for _, r := range all {
			r.Close()
		}
	}
}

// request delivers a message of member 2 as a request does.
func (h *house) request(typ raftpb.MessageType, term uint64) <-chan queue.Outcome {
	out := make(chan queue.Outcome, 1)
	go func() {
		r, leave := h.Enter(2, queue.KindOf(typ))
		defer leave()
		out <- r.Deliver(&raftpb.Message{Type: typ.Enum(), Term: new(term)}, "post", 10*time.Second, func() {})
	}()
	synctest.Wait()
	return out
}

// TestGuest: messages of one kind of a member that is no peer come one after another, other kinds are not held up, and
// nothing is left of it after its last request.
func TestGuest(t *testing.T) {
	run(t, 16, func(t *testing.T, h *house) {
		first, second := h.request(raftpb.MsgHeartbeat, 1), h.request(raftpb.MsgVote, 2)
		other := h.request(raftpb.MsgApp, 3)
		third := h.request(raftpb.MsgHeartbeatResp, 4)
		guests, _ := h.Remembered()
		require.Equal(t, 2, guests) // kinds
		require.Empty(t, h.raft.terms())
		h.release()
		require.True(t, (<-third).Processed)
		for _, o := range []<-chan queue.Outcome{first, second, other} {
			require.Equal(t, queue.Outcome{Processed: true}, <-o)
		}
		got := h.raft.terms()
		require.ElementsMatch(t, []uint64{1, 2, 3, 4}, got)
		ofKind := slices.DeleteFunc(slices.Clone(got), func(term uint64) bool { return term == 3 })
		require.Equal(t, []uint64{1, 2, 4}, ofKind)
	})
}

// TestNextPeerWaitsForTheLast: messages to the next peer with an id wait for the Process of the peer before, which may have ended.
func TestNextPeerWaitsForTheLast(t *testing.T) {
	run(t, 16, func(t *testing.T, h *house) {
		peer, end := h.newPeer()
		h.Replace([]*Receivers{peer}, nil, func() { h.peer.Store(peer) })
		first := h.request(raftpb.MsgVote, 1) // which Process has
		end()
		h.Replace(nil, []*Receivers{peer}, func() { h.peer.Store(nil) })
		next, endNext := h.newPeer()
		h.Replace([]*Receivers{next}, nil, func() { h.peer.Store(next) })
		second := h.request(raftpb.MsgVote, 2)
		require.Equal(t, []uint64{1}, h.raft.calls())
		h.release()
		require.True(t, (<-second).Processed)
		require.True(t, (<-first).Processed)
		require.Equal(t, []uint64{1, 2}, h.raft.terms())
		h.Ended(peer)
		endNext()
		h.wait.Wait()
		h.Replace(nil, []*Receivers{next}, func() { h.peer.Store(nil) })
		h.Ended(next)
	})
}

// TestGuestThatIsCut: a member that is cut before its request is read gets nothing to Process.
func TestGuestThatIsCut(t *testing.T) {
	run(t, 16, func(t *testing.T, h *house) {
		h.paused.Store(true)
		h.release()
		require.ErrorIs(t, (<-h.request(raftpb.MsgVote, 1)).Err, errs.ErrPaused)
		require.Empty(t, h.raft.terms())
	})
}

// TestOutcomes: what a request is told of.
func TestOutcomes(t *testing.T) {
	refused := errors.New("refused")
	run(t, 16, func(t *testing.T, h *house) {
		h.raft.err = refused
		h.release()
		require.Equal(t, queue.Outcome{Processed: true, Err: refused}, <-h.request(raftpb.MsgApp, 1))
	})
	run(t, 1, func(t *testing.T, h *house) {
		first := h.request(raftpb.MsgVote, 1)
		require.ErrorIs(t, (<-h.request(raftpb.MsgVote, 2)).Err, errs.ErrQueueFull)
		h.release()
		require.True(t, (<-first).Processed)
	})
	run(t, 16, func(t *testing.T, h *house) { // no turn within the time of the request
		first := h.request(raftpb.MsgVote, 1)
		second := h.request(raftpb.MsgVote, 2)
		o := <-second
		require.False(t, o.Processed)
		require.ErrorIs(t, o.Err, errs.ErrStalled)
		h.release()
		require.True(t, (<-first).Processed) // Process returns late, and has returned
		require.Equal(t, []uint64{1}, h.raft.terms())
	})
	run(t, 16, func(t *testing.T, h *house) { // cut while it waits
		first, second := h.request(raftpb.MsgVote, 1), h.request(raftpb.MsgVote, 2)
		h.Pause(2, true)
		require.ErrorIs(t, (<-second).Err, errs.ErrPaused)
		h.Pause(2, false)
		h.release()
		require.True(t, (<-first).Processed)
		require.Equal(t, []uint64{1}, h.raft.terms())
	})
}

// TestSuccessors: the queues of a member as a guest, as a peer, and as the next peer with its id begin one after another.
func TestSuccessors(t *testing.T) {
	run(t, 16, func(t *testing.T, h *house) {
		asGuest := h.request(raftpb.MsgVote, 1)
		peer, end := h.newPeer()
		h.Replace([]*Receivers{peer}, nil, func() { h.peer.Store(peer) })
		asPeer := h.request(raftpb.MsgVote, 2)
		other := h.request(raftpb.MsgApp, 3) // whose kind has no queue before it
		end()
		h.Replace(nil, []*Receivers{peer}, func() { h.peer.Store(nil) })
		require.ErrorIs(t, (<-asPeer).Err, errs.ErrPeerRemoved)
		next, endNext := h.newPeer()
		h.Replace([]*Receivers{next}, nil, func() { h.peer.Store(next) })
		asNext := h.request(raftpb.MsgVote, 4)
		require.Empty(t, h.raft.terms())
		h.release()
		require.True(t, (<-asGuest).Processed)
		require.True(t, (<-other).Processed)
		require.True(t, (<-asNext).Processed)
		got := h.raft.terms()
		require.ElementsMatch(t, []uint64{1, 3, 4}, got)
		require.Less(t, slices.Index(got, 1), slices.Index(got, 4))
		h.Ended(peer)
		endNext()
		h.wait.Wait()
		h.Replace(nil, []*Receivers{next}, func() { h.peer.Store(nil) })
		h.Ended(next)
	})
}

// TestSnapshotsAreNoAppends: a sample of appends has no snapshot in it, whichever comes first.
func TestSnapshotsAreNoAppends(t *testing.T) {
	run(t, 16, func(t *testing.T, h *house) {
		peer, end := h.newPeer()
		r := peer[queue.Append]
		of := func(types ...raftpb.MessageType) (items []queue.Item) {
			for _, typ := range types {
				items = append(items, queue.NewItem(&raftpb.Message{Type: typ.Enum()}))
			}
			return items
		}
		require.NoError(t, peer.Receive(t.Context(), of(raftpb.MsgSnap), 0))
		time.Sleep(time.Second) // Process has it, and the others are one batch
		require.NoError(t, peer.Receive(t.Context(), of(raftpb.MsgApp, raftpb.MsgApp, raftpb.MsgSnap, raftpb.MsgSnap, raftpb.MsgApp), 0))
		h.raft.next()
		synctest.Wait() // each of the others takes a second
		for _, want := range []time.Duration{1, 2, 0, 0, 5} {
			time.Sleep(time.Second)
			synctest.Wait()
			require.Equal(t, want*time.Second, r.Queue.Status().OldestAppend)
			h.raft.next()
		}
		synctest.Wait()
		all, _ := r.Member.Latency.In.Read(time.Now(), 0, 0, 0)
		require.Equal(t, uint64(2), all.Process.Count)
		require.Equal(t, 2*time.Second, all.Process.Sum, "the mean of each batch")
		end()
	})
}
