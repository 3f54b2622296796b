package stream

import (
	"net"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/internal/bubble"
	"github.com/seed-4d73690b/rafthttp/internal/conn"
	"github.com/seed-4d73690b/rafthttp/internal/errs"
	"github.com/seed-4d73690b/rafthttp/internal/fair"
	"github.com/seed-4d73690b/rafthttp/internal/wire"
)

// TestRefusalsTakeTurns: if there are more than are sent in an interval, those that were not come first in the next ones.
func TestRefusalsTakeTurns(t *testing.T) {
	for _, n := range []uint64{10, maxGroupRefusals, 600, maxTurnRefusals + 600} {
		var s refusals
		told := map[uint64]int{}
		rounds := 2 * int((n+maxGroupRefusals-1)/maxGroupRefusals)
		for range rounds {
			for range 2 { // the same again
				for group := range n {
					s.add(wire.GroupRefusal{Group: group})
				}
			}
			all := s.take()
			require.LessOrEqual(t, len(all), maxGroupRefusals)
			for _, r := range all {
				told[r.Group]++
			}
			s.reset()
		}
		require.GreaterOrEqual(t, len(told), int(min(n, maxTurnRefusals)))
		for group, times := range told {
			require.LessOrEqual(t, times, rounds, group)
		}
	}
}

// TestRefusalsThatWait: those that were not sent go on waiting, and others come after them.
func TestRefusalsThatWait(t *testing.T) {
	var s refusals
	for range 3 {
		for group := range uint64(600) {
			s.add(wire.GroupRefusal{Group: group})
		}
		s.reset()
	}
	all := s.take()
	require.Len(t, all, maxGroupRefusals)
	require.EqualValues(t, maxGroupRefusals-1, all[maxGroupRefusals-1].Group)
	require.False(t, s.add(wire.GroupRefusal{Group: 1}))
	require.False(t, s.add(wire.GroupRefusal{Group: 599}))
	s.reset()
	require.True(t, s.add(wire.GroupRefusal{Group: 599}))
	require.False(t, s.add(wire.GroupRefusal{Group: 1}), "it was sent in this turn")
}

// TestRefusalsThatAreLost: those that did not arrive wait again, each once, within the limit, whatever happened to them since.
func TestRefusalsThatAreLost(t *testing.T) {
	var s refusals
	group := func(n uint64) wire.GroupRefusal { return wire.GroupRefusal{Group: n} }
	for n := range uint64(600) {
		s.add(group(n))
	}
	first := s.take()
	require.False(t, s.add(first[0]))
	s.reset() // others have their turn
	require.False(t, s.add(first[1]))
	for n := uint64(256); n < 300; n++ {
		require.True(t, s.add(group(n)))
	}
	s.lost(first)
	s.lost(first[:10])
	all := s.take()
	require.Len(t, all, maxGroupRefusals)
	got := map[wire.GroupRefusal]bool{}
	for _, r := range all {
		got[r] = true
	}
	require.Len(t, got, maxGroupRefusals, "one twice")
	for n := uint64(256); n < 300; n++ {
		require.True(t, got[group(n)], "one that waited has lost its place")
	}
	s.reset()
	s.reset()
	require.Empty(t, s.take())
	s.lost(first[:1]) // which nobody remembers
	require.Equal(t, first[:1], s.take())
}

// TestLostRefusalThatCameAgain: one that came again before its loss was known is told once, also if that was in another interval of the turn.
func TestLostRefusalThatCameAgain(t *testing.T) {
	var s refusals
	for n := range uint64(300) {
		s.add(wire.GroupRefusal{Group: n})
	}
	first := s.take()[:1]
	s.reset()
	require.False(t, s.add(first[0]), "it was sent in this turn")
	s.lost(first)
	s.reset()
	require.Equal(t, first, s.take())
}

// TestLostRefusalWithoutRoom: one that was lost while too many others waited was not told in this turn.
func TestLostRefusalWithoutRoom(t *testing.T) {
	var s refusals
	for n := range uint64(600) {
		s.add(wire.GroupRefusal{Group: n})
	}
	first := s.take()
	s.reset()
	for n := uint64(256); n < 512; n++ {
		require.True(t, s.add(wire.GroupRefusal{Group: n}))
	}
	s.lost(first)
	require.Len(t, s.take(), maxGroupRefusals)
	s.reset()
	require.True(t, s.add(first[0]))
	require.Equal(t, first[:1], s.take())
}

// TestRefusalsOfAnEarlierBatch: what was written is not told again if the write of a later batch fails.
func TestRefusalsOfAnEarlierBatch(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		m, _ := startMember(t)
		w := NewGroupWriter(m, GroupMessage, GroupEvents{Lose: func(*fair.SendQueue, []fair.Item, error) {}})
		w.Refuse(wire.GroupRefusal{Group: 7, From: 1, To: 2, Reason: wire.NoSuchGroup})
		ours, theirs := net.Pipe()
		c := NewConn(GroupMessage, conn.NewHijackedStream(ours, PieceBytes, m.Wait.Go), nil)
		items := make([]fair.Item, 2)
		for i := range items {
			items[i] = fair.Item{Flow: &fair.Flow{Group: 7}, Msg: &raftpb.Message{Type: raftpb.MsgProp.Enum(), From: new(uint64(1)), To: new(uint64(2)), Entries: []*raftpb.Entry{{Data: make([]byte, flushBytes)}}}}
		}
		sent := make(chan struct{})
		go func() { defer close(sent); w.send(c, items) }()
		dec := wire.NewGroupDecoder(wire.NewReader(theirs), wire.Limits{MaxMessageBytes: 1 << 20})
		for {
			_, got, err := dec.Decode()
			require.NoError(t, err)
			if got != nil {
				break
			}
		}
		theirs.Close()
		<-sent
		require.Empty(t, w.TakeRefusals())
		ours.Close()
		m.End(errs.ErrPeerRemoved)
		w.Close()
	})
}

// TestRefusalsOfAFailedWrite: refusals that could not be written wait for the next stream, or for whoever takes them without one.
func TestRefusalsOfAFailedWrite(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		m, _ := startMember(t)
		w := NewGroupWriter(m, GroupMessage, GroupEvents{})
		attach := func() (theirs net.Conn) {
			ours, theirs := net.Pipe()
			require.True(t, w.Attach(NewConn(GroupMessage, conn.NewHijackedStream(ours, PieceBytes, m.Wait.Go), nil)))
			return theirs
		}
		r := wire.GroupRefusal{Group: 7, From: 1, To: 2, Reason: wire.NoSuchGroup}
		theirs := attach()
		_, err := theirs.Read(make([]byte, 1)) // a link heartbeat
		require.NoError(t, err)
		theirs.Close()
		w.Refuse(r)
		synctest.Wait()
		require.False(t, w.Queue.IsOpen())
		require.Equal(t, []wire.GroupRefusal{r}, w.TakeRefusals())
		w.ReturnRefusals([]wire.GroupRefusal{r})
		synctest.Wait()
		theirs = attach()
		dec := wire.NewGroupDecoder(wire.NewReader(theirs), wire.Limits{MaxMessageBytes: 1 << 20})
		for {
			_, _, err := dec.Decode()
			require.NoError(t, err)
			if got, ok := dec.Refusal(); ok {
				require.Equal(t, r, got)
				break
			}
		}
		theirs.Close()
		m.End(errs.ErrPeerRemoved)
		w.Close()
	})
}
