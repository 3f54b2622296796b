package promise

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/bubble"
)

// TestDropsExcuseEarlierMessages: what a receiver says that it has dropped was sent before it said so. It is no excuse for a
// message that is lost later.
func TestDropsExcuseEarlierMessages(t *testing.T) {
	for name, c := range map[string]struct {
		lost  time.Duration // when the message was sent that is neither processed nor reported
		times int           // how often the others were processed
		found string
	}{
		"dropped":                      {1 * time.Second, 0, ""},
		"lost later":                   {3 * time.Second, 1, "reported"},
		"lost later, others were told": {3 * time.Second, 0, "reported"},
	} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(*testing.T) {
				s := &simulation{book: newBook(), start: time.Now(), report: newReport(), states: map[uint64]*machine{2: {}}}
				s.book.add(1, 2)
				sender := &member{s: s, id: 1, life: 1}
				s.members = map[uint64]*member{1: sender}
				w := s.book.way(1, 2)
				w.isPeer = true
				for range 5 {
					time.Sleep(time.Second)
					_, x := s.book.write(w, raftpb.MsgProp, 10, s.now(), 1)
					if x.times = 1; x.at == c.lost {
						x.times = 0
					} else if x.at < 2*time.Second {
						x.times = c.times
					}
					if s.now() == 2*time.Second { // of that of the first second
						(&member{s: s, id: 2, machine: &machine{}}).dropped(1, "proposal", 1, nil)
						if c.lost > 2*time.Second {
							s.book.seq++
							w.reported = s.book.seq // it was told as well
						}
					}
				}
				time.Sleep(2 * reportTime)
				s.lookAtMessages(w, s.now())
				if c.found == "" {
					require.Nil(t, s.violation)
					require.Equal(t, 6, w.settled[proposals])
				} else {
					require.NotNil(t, s.violation)
					require.Equal(t, c.found, s.violation.Judge)
				}
			})
		})
	}
}

// TestDropsOfAppends: an append that came by the stream for them is not one that found no room.
func TestDropsOfAppends(t *testing.T) {
	s := &simulation{book: newBook(), start: time.Now(), report: newReport()}
	s.book.add(1, 2)
	w := s.book.way(1, 2)
	to := &member{s: s, id: 2, machine: &machine{}}
	to.dropped(1, "append", 1, rafthttp.ErrPaused)
	to.dropped(1, "append", 1, rafthttp.ErrQueueFull)
	byStream, others := &sent{lane: 1}, &sent{}
	require.True(t, w.excused(appends, byStream))
	require.False(t, w.excused(appends, byStream))
	require.True(t, w.excused(appends, others))
	require.False(t, w.excused(appends, others))
}

// TestDropsNeedAReason: a message for which there was room is not dropped on a way that is well.
func TestDropsNeedAReason(t *testing.T) {
	for name, c := range map[string]struct {
		crowd time.Duration
		cause error
		found bool
	}{
		"room":         {0, rafthttp.ErrQueueFull, true},
		"a crowd":      {time.Hour, rafthttp.ErrQueueFull, false},
		"another case": {0, rafthttp.ErrPaused, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := &simulation{book: newBook(), start: time.Now().Add(-time.Minute), report: newReport()}
			s.book.add(1, 2)
			w := s.book.way(1, 2)
			w.isPeer, w.wellAt, w.crowd = true, time.Second, c.crowd
			(&member{s: s, id: 2, machine: &machine{}}).dropped(1, "proposal", 1, c.cause)
			require.Equal(t, c.found, s.violation != nil)
		})
	}
}

// TestDistrustHasEffect: who is to refuse a certificate has a VerifyPeer.
func TestDistrustHasEffect(t *testing.T) {
	events := 0
	for seed := range uint64(2000) {
		p := Draw(seed)
		for _, e := range p.Events {
			if e.Do == Distrust {
				events++
				require.Equal(t, uint64(1), e.A%2, "seed %d: member %d has no VerifyPeer", seed, e.A)
				require.NotEqual(t, e.A, e.B)
				require.LessOrEqual(t, max(e.A, e.B), uint64(len(p.Members)))
			}
		}
	}
	require.Positive(t, events)
}

// TestDifferences: what is compared of a message.
func TestDifferences(t *testing.T) {
	b := newBook()
	b.add(1, 2)
	w := b.way(1, 2)
	answer := func() (*raftpb.Message, *sent) {
		m, x := b.write(w, raftpb.MsgAppResp, 0, 0, 1)
		x.acks, m.Index = 7, new(uint64(7))
		return m, x
	}
	rejection := func() (*raftpb.Message, *sent) {
		m, x := b.write(w, raftpb.MsgAppResp, 0, 0, 1)
		x.rejects, x.rejected, x.acks = true, 9, 7
		m.Reject, m.Index, m.RejectHint = new(true), new(uint64(9)), new(uint64(7))
		return m, x
	}
	heartbeat := func() (*raftpb.Message, *sent) { return b.write(w, raftpb.MsgHeartbeat, 0, 0, 1) }
	proposal := func() (*raftpb.Message, *sent) { return b.write(w, raftpb.MsgProp, 10, 0, 1) }
	entries := func() (*raftpb.Message, *sent) { return b.write(w, raftpb.MsgApp, 10, 0, 1) }
	for name, c := range map[string]struct {
		write  func() (*raftpb.Message, *sent)
		change func(*raftpb.Message)
	}{
		"Context":           {entries, func(m *raftpb.Message) { m.Context = []byte("other") }},
		"term of an entry":  {entries, func(m *raftpb.Message) { m.Entries[0].Term = new(uint64(9)) }},
		"index of an entry": {entries, func(m *raftpb.Message) { m.Entries[0].Index = new(uint64(9)) }},
		"term before":       {entries, func(m *raftpb.Message) { m.LogTerm = new(uint64(9)) }},
		"commit":            {entries, func(m *raftpb.Message) { m.Commit = new(uint64(9)) }},
		"acknowledgement":   {answer, func(m *raftpb.Message) { m.Index = new(uint64(8)) }},
		"rejection":         {answer, func(m *raftpb.Message) { m.Reject = new(true) }},
		"hint":              {rejection, func(m *raftpb.Message) { m.RejectHint = nil }},
		"term":              {heartbeat, func(m *raftpb.Message) { m.Term = new(uint64(9)) }},
		"vote":              {heartbeat, func(m *raftpb.Message) { m.Vote = new(uint64(9)) }},
		"sender":            {heartbeat, func(m *raftpb.Message) { m.From = new(uint64(9)) }},
		"term of proposal":  {proposal, func(m *raftpb.Message) { m.Term = new(uint64(9)) }},
		"data":              {proposal, func(m *raftpb.Message) { m.Entries[0].Data = nil }},
		"one more entry":    {entries, func(m *raftpb.Message) { m.Entries = append(m.Entries, m.Entries[0]) }},
	} {
		t.Run(name, func(t *testing.T) {
			m, x := c.write()
			n := numberOf(m)
			require.Empty(t, b.differs(w, m, x, n))
			c.change(m)
			require.NotEmpty(t, b.differs(w, m, x, n))
		})
	}
}
