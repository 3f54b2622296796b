package rafttest_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/internal/bubble"
	"github.com/seed-4d73690b/rafthttp/memnet"
	"github.com/seed-4d73690b/rafthttp/memnet/rafttest"
)

// recorder is a Raft that keeps the indices of what it gets.
type recorder struct {
	err error

	mu       sync.Mutex
	messages []*raftpb.Message
	at       []time.Time
}

func (r *recorder) Process(_ context.Context, m *raftpb.Message) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.messages, r.at = append(r.messages, m), append(r.at, time.Now())
	return r.err
}

func (r *recorder) IsIDRemoved(id uint64) bool                 { return id == 7 }
func (r *recorder) ReportUnreachable(uint64)                   {}
func (r *recorder) ReportSnapshot(uint64, raft.SnapshotStatus) {}

func (r *recorder) indices() (all []uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range r.messages {
		all = append(all, m.GetIndex())
	}
	return all
}

// times returns when each came.
func (r *recorder) times() []time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.at)
}

func message(from, index uint64, t raftpb.MessageType) *raftpb.Message {
	return &raftpb.Message{Type: t.Enum(), From: new(from), To: new(uint64(2)), Index: new(index)}
}

// delivered gives 1000 messages from 1 to 2, one a millisecond, to a Raft under the rules, and returns what passed.
func delivered(t *testing.T, seed uint64, rules ...rafttest.Rule) []uint64 {
	t.Helper()
	var all []uint64
	bubble.Test(t, func(t *testing.T) {
		f, rec := rafttest.NewFaults(seed, nil), &recorder{}
		for _, r := range rules {
			f.Apply(r)
		}
		w := f.Wrap(2, rec)
		defer w.Close()
		for i := range uint64(1000) {
			require.NoError(t, w.Process(t.Context(), message(1, i, raftpb.MsgApp)))
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Minute)
		all = rec.indices()
	})
	return all
}

func sorted(s []uint64) []uint64 { return slices.Sorted(slices.Values(s)) }

func TestRules(t *testing.T) {
	everything := delivered(t, 1)
	require.Len(t, everything, 1000)
	require.True(t, slices.IsSorted(everything))
	none := func(s []uint64) { require.Empty(t, s) }
	all := func(s []uint64) { require.Equal(t, everything, s) }
	cases := map[string]struct {
		rule  rafttest.Rule
		check func([]uint64)
	}{
		"nothing": {rafttest.Rule{}, all},
		"all":     {rafttest.Rule{Loss: 1}, none},
		"some": {rafttest.Rule{Loss: 0.3}, func(s []uint64) {
			require.InDelta(t, 700, len(s), 70)
			require.True(t, slices.IsSorted(s))
		}},
		"of another sender":      {rafttest.Rule{From: 3, Loss: 1}, all},
		"of the sender":          {rafttest.Rule{From: 1, Loss: 1}, none},
		"to another member":      {rafttest.Rule{To: 3, Loss: 1}, all},
		"to the member":          {rafttest.Rule{To: 2, Loss: 1}, none},
		"of other types":         {rafttest.Rule{Types: []raftpb.MessageType{raftpb.MsgHup, raftpb.MsgVote}, Loss: 1}, all},
		"of the type, and more":  {rafttest.Rule{Types: []raftpb.MessageType{raftpb.MsgHup, raftpb.MsgApp}, Loss: 1}, none},
		"those a function picks": {rafttest.Rule{Match: func(m *raftpb.Message) bool { return m.GetIndex() < 999 }, Loss: 1}, func(s []uint64) { require.Equal(t, []uint64{999}, s) }},
		"doubled": {rafttest.Rule{Duplicate: 1}, func(s []uint64) {
			require.Len(t, s, 2000)
			require.Equal(t, everything, slices.Compact(sorted(s)))
		}},
		"delayed": {rafttest.Rule{Delay: time.Second}, all},
		"jitter": {rafttest.Rule{Jitter: 100 * time.Millisecond}, func(s []uint64) {
			require.False(t, slices.IsSorted(s))
			require.Equal(t, everything, sorted(s))
		}},
		"reordered": {rafttest.Rule{Reorder: 0.5}, func(s []uint64) {
			require.Equal(t, everything, sorted(s))
			swapped := 0
			for i := range s[1:] {
				if s[i] > s[i+1] {
					swapped++
				}
			}
			require.InDelta(t, 330, swapped, 100)
		}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) { c.check(delivered(t, 1, c.rule)) })
	}
}

func TestSeedDecides(t *testing.T) {
	rule := rafttest.Rule{Loss: 0.1, Duplicate: 0.1, Reorder: 0.1}
	require.True(t, slices.Equal(delivered(t, 1, rule), delivered(t, 1, rule)), "alike")
	require.False(t, slices.Equal(delivered(t, 1, rule), delivered(t, 2, rule)), "not alike")
}

func TestDelay(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		f, rec := rafttest.NewFaults(0, nil), &recorder{err: errors.New("no")}
		w := f.Wrap(2, rec)
		defer w.Close()
		undo := f.Apply(rafttest.Rule{Delay: time.Second})
		f.Apply(rafttest.Rule{Delay: time.Minute, Duplicate: 1})
		start := time.Now()
		require.NoError(t, w.Process(t.Context(), message(1, 1, raftpb.MsgApp)))
		time.Sleep(time.Hour)
		require.Equal(t, []time.Time{start.Add(61 * time.Second), start.Add(61 * time.Second)}, rec.times())
		rec.mu.Lock()
		require.NotSame(t, rec.messages[0], rec.messages[1], "whoever gets one may keep it")
		rec.mu.Unlock()
		undo()
		undo()
		start = time.Now()
		require.NoError(t, w.Process(t.Context(), message(1, 1, raftpb.MsgApp)))
		time.Sleep(time.Hour)
		require.Equal(t, start.Add(time.Minute), rec.times()[2])
		require.True(t, w.IsIDRemoved(7), "the rest is that of the Raft behind")
	})
}

func TestSwapWithTheNextOrAlone(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		f, rec := rafttest.NewFaults(0, memnet.New()), &recorder{err: errors.New("no")}
		w := f.Wrap(2, rec)
		defer w.Close()
		undo := f.Apply(rafttest.Rule{Reorder: 1})
		require.NoError(t, w.Process(t.Context(), message(1, 1, raftpb.MsgApp)))
		require.Empty(t, rec.indices())
		undo()
		require.EqualError(t, w.Process(t.Context(), message(3, 1, raftpb.MsgApp)), "no")
		require.Error(t, w.Process(t.Context(), message(1, 2, raftpb.MsgApp)))
		require.Equal(t, []uint64{1, 2, 1}, rec.indices(), "of 3, and those of 1 the other way round")

		f.Apply(rafttest.Rule{Reorder: 1})
		require.NoError(t, w.Process(t.Context(), message(1, 5, raftpb.MsgApp)))
		time.Sleep(time.Second - 1)
		require.Len(t, rec.indices(), 3)
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		require.Equal(t, uint64(5), rec.indices()[3], "there is no next")
	})
}

func TestCloseDropsWhatIsHeldBack(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		f, rec := rafttest.NewFaults(0, nil), &recorder{}
		w := f.Wrap(2, rec)
		f.Apply(rafttest.Rule{Delay: time.Second, Duplicate: 1})
		require.NoError(t, w.Process(t.Context(), message(1, 1, raftpb.MsgApp)))
		w.Close()
		require.NoError(t, w.Process(t.Context(), message(1, 1, raftpb.MsgApp)))
		time.Sleep(time.Minute)
		require.Empty(t, rec.indices())
	})
}
