package stream

import (
	"context"
	"errors"
	"io"
	"net"
	"net/url"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"

	"github.com/seed-4d73690b/rafthttp/internal/bubble"
	"github.com/seed-4d73690b/rafthttp/internal/callback"
	"github.com/seed-4d73690b/rafthttp/internal/conn"
	"github.com/seed-4d73690b/rafthttp/internal/errs"
	"github.com/seed-4d73690b/rafthttp/internal/latency"
	"github.com/seed-4d73690b/rafthttp/internal/member"
	"github.com/seed-4d73690b/rafthttp/internal/queue"
	"github.com/seed-4d73690b/rafthttp/internal/stacks"
	"github.com/seed-4d73690b/rafthttp/internal/wire"
)

// reports is a raft that counts.
type reports struct{ unreachable atomic.Int64 }

func (r *reports) Process(context.Context, *raftpb.Message) error { return nil }
func (r *reports) IsIDRemoved(uint64) bool                        { return false }
func (r *reports) ReportUnreachable(uint64)                       { r.unreachable.Add(1) }
func (r *reports) ReportSnapshot(uint64, raft.SnapshotStatus)     {}

// count returns how often raft was told since the last call.
func (r *reports) count() int64 {
	synctest.Wait()
	return r.unreachable.Swap(0)
}

type oneURL struct{}

func (oneURL) Pick() url.URL       { return url.URL{Scheme: "http", Host: "m2:80"} }
func (oneURL) Unreachable(url.URL) {}

// startMember returns what a writer to member 2 needs. It ends with the test.
func startMember(t *testing.T) (*member.Member, *reports) {
	t.Helper()
	told := &reports{}
	guard := callback.Guard{Log: zap.NewNop(), Calls: new(callback.Calls)}
	files, err := conn.NewFiles(&transport.TLSInfo{}, zap.NewNop())
	require.NoError(t, err)
	limits := queue.Limits{Messages: 64, Bytes: 1 << 20, Shared: queue.NewBudget(1 << 20), MessageBytes: 1 << 20}
	cfg := &member.Config{
		ID: 1, Log: zap.NewNop(), Guard: guard, Raft: told, Files: files, AllRefused: new(member.IdentityCounters), InflightAdvice: new(atomic.Bool),
		ReadTimeout: 5 * time.Second, WriteTimeout: 5 * time.Second, SendLimits: limits, Queued: limits.Shared,
	}
	cfg.Notifiers = callback.NewRegistry(guard, told, callback.EventHooks{}, zap.NewNop())
	m := member.New(cfg, 2, oneURL{})
	t.Cleanup(func() {
		m.Join()
		cfg.Notifiers.Close()
	})
	return m, told
}

// dialed is the other end of a stream.
type dialed struct {
	c    *Conn
	got  chan *raftpb.Message // of messages; a link heartbeat is nil
	err  chan error           // that reading ended with
	conn net.Conn
}

func dial(m *member.Member, kind Kind) *dialed {
	ours, theirs := net.Pipe()
	d := &dialed{c: NewConn(kind, conn.NewHijackedStream(ours, PieceBytes, m.Wait.Go), nil), got: make(chan *raftpb.Message, 64), err: make(chan error, 1), conn: theirs}
	go func() {
		lim := wire.Limits{MaxMessageBytes: 1 << 20}
		dec := wire.NewMessageDecoder(wire.NewReader(theirs), lim)
		if kind == MsgAppV2 {
			dec = wire.NewMsgAppV2Decoder(wire.NewReader(theirs), 2, 1, lim)
		}
		for {
			msg, err := dec.Decode()
			if err != nil {
				d.err <- err
				return
			}
			d.got <- msg
		}
	}()
	return d
}

func message(term uint64) *raftpb.Message {
	return &raftpb.Message{Type: raftpb.MsgHeartbeat.Enum(), From: new(uint64(1)), To: new(uint64(2)), Term: new(term)}
}

// send offers a message and reports whether the queue has taken it.
func send(w *Writer, term uint64) bool {
	return w.Queue.Offer(queue.NewItem(message(term))) == queue.Accepted
}

// dropped returns how many messages the queue has counted as dropped.
func dropped(w *Writer) uint64 {
	st := w.Queue.Status()
	return st.Dropped.Total()
}

// TestWriter: what is sent goes over the newest connection, and raft is told whenever one was lost.
func TestWriter(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		m, told := startMember(t)
		w := NewWriter(m, Message)
		require.False(t, send(w, 1), "a stream that is down took a message")

		first := dial(m, Message)
		require.True(t, w.Attach(first.c))
		require.Nil(t, <-first.got) // a link heartbeat comes before all else
		require.False(t, w.WasGiven())
		require.True(t, send(w, 2))
		require.EqualValues(t, 2, (<-first.got).GetTerm())
		require.True(t, w.WasGiven())
		require.Zero(t, told.count())

		second := dial(m, Message)
		require.True(t, w.Attach(second.c))
		require.Nil(t, <-second.got)
		require.True(t, send(w, 3))
		require.EqualValues(t, 3, (<-second.got).GetTerm())
		require.ErrorIs(t, <-first.err, io.EOF)
		require.EqualValues(t, 1, told.count()) // messages may be unread on the first one

		w.Detach(first.c, errors.New("late")) // which it has no more
		require.False(t, w.State().Since.IsZero())
		require.Zero(t, told.count())

		second.conn.Close()
		require.True(t, send(w, 4))
		require.NotZero(t, told.count()) // of the message, and of those that may be unread
		require.EqualValues(t, 1, dropped(w))
		require.False(t, send(w, 5))
		st := w.State()
		require.True(t, st.Since.IsZero())
		require.EqualValues(t, 2, st.Connects)

		m.End(errs.ErrPeerRemoved)
		w.Close()
		require.EqualValues(t, 1, dropped(w))
		third := dial(m, Message)
		require.False(t, w.Attach(third.c), "a peer that ended took a connection")
		require.ErrorIs(t, <-third.err, io.EOF)
		require.ErrorIs(t, <-second.err, io.ErrClosedPipe)
	})
}

// TestWriterOfStuckConnection: a connection that is not read ends with the write timeout, and all that is queued is lost and
// reported.
func TestWriterOfStuckConnection(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		m, told := startMember(t)
		w := NewWriter(m, MsgAppV2)
		ours, theirs := net.Pipe()
		defer theirs.Close()
		require.True(t, w.Attach(NewConn(MsgAppV2, conn.NewHijackedStream(ours, PieceBytes, m.Wait.Go), nil)))
		synctest.Wait() // the worker writes a link heartbeat
		for term := range uint64(3) {
			require.True(t, send(w, term+1))
		}
		time.Sleep(5*time.Second - 1)
		require.Zero(t, told.count())
		require.False(t, w.State().Since.IsZero())
		time.Sleep(time.Second)
		require.NotZero(t, told.count())
		require.True(t, w.State().Since.IsZero())
		st := w.Queue.Status()
		require.EqualValues(t, 3, st.Dropped.Total())
		require.Zero(t, st.Queued)
		m.End(errs.ErrPeerRemoved)
		w.Close()
	})
}

// TestSampleOfReplacedConnection: an append that is followed on a connection that a newer one has replaced in the midst of a
// batch, and that is not written to its end, is not followed any more.
func TestSampleOfReplacedConnection(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		m, _ := startMember(t)
		w := NewWriter(m, MsgAppV2)
		ours, theirs := net.Pipe()
		defer theirs.Close()
		defer w.Close()
		defer m.End(errs.ErrPeerRemoved)
		require.True(t, w.Attach(NewConn(MsgAppV2, conn.NewHijackedStream(ours, PieceBytes, m.Wait.Go), nil)))
		synctest.Wait() // the worker writes a link heartbeat
		for i := range uint64(2) {
			a := message(2)
			a.Type, a.Index, a.LogTerm, a.Commit = raftpb.MsgApp.Enum(), new(i), new(uint64(2)), new(uint64(0))
			a.Entries = []*raftpb.Entry{{Term: new(uint64(2)), Index: new(i + 1), Data: make([]byte, flushBytes)}}
			require.Equal(t, queue.Accepted, w.Queue.Offer(queue.NewItem(a)))
		}
		written := func() uint64 {
			synctest.Wait()
			st := w.Queue.Status()
			return st.Messages
		}
		read := func(n uint64) {
			for b := make([]byte, 64); written() < n; {
				_, err := theirs.Read(b)
				require.NoError(t, err)
			}
		}
		for b := make([]byte, 1); !m.Latency.Out.IsFollowing(); synctest.Wait() {
			_, err := theirs.Read(b)
			require.NoError(t, err)
		}
		second := dial(m, MsgAppV2)
		time.Sleep(latency.Every)
		require.True(t, w.Attach(second.c)) // while the first append is written
		require.False(t, m.Latency.Out.IsFollowing())
		read(1)
		require.True(t, m.Latency.Out.IsFollowing(), "the second one, also on the old connection")
		time.Sleep(handoverGrace)
		synctest.Wait()
		require.False(t, m.Latency.Out.IsFollowing())
		require.False(t, w.State().Since.IsZero())
	})
}

// TestQueuedMessagesAreLostWithTheWriter: what is queued when the writer is closed is counted and reported.
func TestQueuedMessagesAreLostWithTheWriter(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		m, told := startMember(t)
		w := NewWriter(m, Message)
		ours, theirs := net.Pipe()
		defer theirs.Close()
		require.True(t, w.Attach(NewConn(Message, conn.NewHijackedStream(ours, PieceBytes, m.Wait.Go), nil)))
		synctest.Wait() // the worker writes a link heartbeat
		for term := range uint64(3) {
			require.True(t, send(w, term+1))
		}
		require.Zero(t, told.count())
		m.End(errs.ErrPeerRemoved)
		w.Close()
		synctest.Wait()
		require.EqualValues(t, 3, dropped(w))
	})
}

// TestControlBeforeProposals: on the message stream, control messages overtake proposals that were queued before.
func TestControlBeforeProposals(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		m, _ := startMember(t)
		w := NewWriter(m, Message)
		ours, theirs := net.Pipe()
		require.True(t, w.Attach(NewConn(Message, conn.NewHijackedStream(ours, PieceBytes, m.Wait.Go), nil)))
		synctest.Wait()
		proposal := message(1)
		proposal.Type = raftpb.MsgProp.Enum()
		require.Equal(t, queue.Accepted, w.Queue.Offer(queue.NewItem(proposal)))
		require.True(t, send(w, 2))
		dec := wire.NewMessageDecoder(wire.NewReader(theirs), wire.Limits{MaxMessageBytes: 1 << 20})
		var terms []uint64
		for len(terms) < 2 {
			msg, err := dec.Decode()
			require.NoError(t, err)
			if msg != nil {
				terms = append(terms, msg.GetTerm())
			}
		}
		require.Equal(t, []uint64{2, 1}, terms)
		theirs.Close()
		m.End(errs.ErrPeerRemoved)
		w.Close()
	})
}

// TestIdleWriterNeedsNoGoroutine: a heartbeat of an idle writer is written on the caller's.
func TestIdleWriterNeedsNoGoroutine(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		m, _ := startMember(t)
		w := NewWriter(m, Message)
		d := dial(m, Message)
		require.True(t, w.Attach(d.c))
		require.Nil(t, <-d.got)
		for range 3 { // by then it is idle
			time.Sleep(2 * time.Second)
			w.Tidy()
		}
		idle := stacks.InBubble()
		w.HeartbeatNow() // on this goroutine
		synctest.Wait()
		require.Len(t, d.got, 1)
		require.Equal(t, idle, stacks.InBubble())
		w.Detach(d.c, errors.New("cut"))
		require.ErrorIs(t, <-d.err, io.EOF)
		m.End(errs.ErrPeerRemoved)
		w.Close()
	})
}
