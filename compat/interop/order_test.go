package interop_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"golang.org/x/sync/errgroup"

	"github.com/seed-4d73690b/rafthttp/compat/member"
	"github.com/seed-4d73690b/rafthttp/compat/traffic"
)

// TestNothingLostNothingReordered: 100,000 messages each way at the same time, over all lanes. So many are under way at
// once as fit the queues of a stock member; what its queue cannot take it drops, and reports.
func TestNothingLostNothingReordered(t *testing.T) {
	for _, p := range []pairing{controls[0], mixed[0], mixed[1]} {
		t.Run(p.String(), func(t *testing.T) {
			lanes := map[string]int{"control": 40_000, "append": 40_000, "proposal": 20_000}
			if raceDetector && p == controls[0] {
				lanes = map[string]int{"control": 4000, "append": 4000, "proposal": 2000}
			}
			counts := [2]*counter{newCounter(), newCounter()}
			a := start(t, p.a, 1, func(c *member.Config) { c.Raft = counts[0] })
			b := start(t, p.b, 2, func(c *member.Config) { c.Raft = counts[1] })
			a.AddPeer(b.ID(), b.URL())
			b.AddPeer(a.ID(), a.URL())
			counts[0].awaitStreams(t, b, a)
			counts[1].awaitStreams(t, a, b)
			before := posts(a) + posts(b)

			ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
			defer cancel()
			group, ctx := errgroup.WithContext(ctx)
			for lane, n := range lanes {
				group.Go(func() error { return counts[1].feed(ctx, a, b, lane, n) })
				group.Go(func() error { return counts[0].feed(ctx, b, a, lane, n) })
			}
			require.NoError(t, group.Wait())
			require.Equal(t, before, posts(a)+posts(b), "messages went over the pipeline, which keeps no order")
			for _, c := range counts {
				require.Empty(t, c.unreachable())
			}
		})
	}
}

// window is how many messages of one lane are under way at most; two lanes share a stream and its queue of 4096.
const window = 1024

// counter is a raft that expects the messages of every lane to be numbered, by Index, without a gap.
type counter struct {
	mu         sync.Mutex
	lanes      map[string]*numbered
	unnumbered int
	anonymous  int // those of them that do not say whom they are from
	reports    []uint64
}

// numbered is one lane's messages.
type numbered struct {
	next  uint64
	room  chan struct{} // a place for each message that may be under way
	fault error         // the first message that was out of order
}

func newCounter() *counter {
	c := &counter{lanes: make(map[string]*numbered)}
	for _, l := range []string{"control", "append", "proposal"} {
		c.lanes[l] = &numbered{next: 1, room: make(chan struct{}, window)}
	}
	return c
}

func (c *counter) Process(_ context.Context, m *raftpb.Message) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if m.GetIndex() == 0 {
		c.unnumbered++ // sent while the streams were coming up
		if m.GetFrom() == 0 {
			c.anonymous++
		}
		return nil
	}
	l := c.lanes[traffic.Lane(m)]
	if m.GetIndex() != l.next && l.fault == nil {
		l.fault = fmt.Errorf("%s lane: message %d came where %d was due", traffic.Lane(m), m.GetIndex(), l.next)
	}
	l.next = m.GetIndex() + 1
	<-l.room
	return nil
}

func (c *counter) IsIDRemoved(uint64) bool                    { return false }
func (c *counter) ReportSnapshot(uint64, raft.SnapshotStatus) {}

func (c *counter) ReportUnreachable(id uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reports = append(c.reports, id)
}

func (c *counter) unreachable() []uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.reports
}

// awaitStreams waits until what from sends to to goes over streams, as the other awaitStreams; c is the raft of to.
func (c *counter) awaitStreams(t *testing.T, from, to *end) {
	t.Helper()
	sent := 0
	for deadline := time.Now().Add(patience); ; {
		require.True(t, time.Now().Before(deadline), "the streams do not come up")
		before := posts(to)
		_, anonymous := c.early()
		nameless := empty(from, to, 0)
		nameless.From = nil
		from.Send(numberedMessage("control", from, to, 0), empty(from, to, 0), nameless)
		sent += 3
		came := func() bool { n, _ := c.early(); return n == sent }
		all := assert.Eventually(new(assert.CollectT), came, 2*time.Second, pollEvery)
		var still int
		if sent, still = c.early(); all && still == anonymous && posts(to) == before {
			break
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reports = nil
}

// early is how many messages came that are not numbered, and how many of them do not say whom they are from.
func (c *counter) early() (unnumbered, anonymous int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.unnumbered, c.anonymous
}

// feed sends n messages of a lane and waits until all of them have come; c is the raft of to.
func (c *counter) feed(ctx context.Context, from, to *end, lane string, n int) error {
	l := c.lanes[lane]
	for i := 1; i <= n; {
		var batch []*raftpb.Message
		for ; i <= n && len(batch) < 64; i++ {
			select {
			case l.room <- struct{}{}:
			case <-ctx.Done():
				return c.verdict(lane, i, ctx.Err())
			}
			batch = append(batch, numberedMessage(lane, from, to, uint64(i)))
		}
		from.Send(batch...)
	}
	for range window { // all places are free again once all have come
		select {
		case l.room <- struct{}{}:
		case <-ctx.Done():
			return c.verdict(lane, n, ctx.Err())
		}
	}
	return c.verdict(lane, n, nil)
}

func (c *counter) verdict(lane string, sent int, err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	l := c.lanes[lane]
	switch {
	case l.fault != nil:
		return l.fault
	case err != nil:
		return fmt.Errorf("%s lane: %d sent, %d came, unreachable reports %d: %w", lane, sent, l.next-1, len(c.reports), err)
	}
	return nil
}

func numberedMessage(lane string, from, to *end, i uint64) *raftpb.Message {
	m := empty(from, to, i)
	switch lane {
	case "append":
		m.Entries = traffic.Entries(3, i+1, 64)
	case "proposal":
		m.Type, m.Entries = raftpb.MessageType_MsgProp.Enum(), traffic.Entries(3, i+1, 64)
	default:
		m.Type = raftpb.MessageType_MsgAppResp.Enum()
	}
	return m
}
