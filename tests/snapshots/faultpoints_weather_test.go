//go:build faultpoints

package snapshots_test

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/bubble"
	"github.com/seed-4d73690b/rafthttp/internal/faultpoint"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/internal/testtls"
)

const (
	weatherSteps  = 120
	weatherRounds = 12
	weatherDelay  = 20 * time.Millisecond
	weatherCalm   = time.Minute // after which everything under way has ended
	weatherStop   = time.Minute // of a Stop, with the sleeps that it waits for
)

// books are what was sent in a storm, and what became of it.
type books struct {
	mu        sync.Mutex
	sent      []letter
	processed map[uint64]int          // how often, by number
	reported  map[[2]uint64]time.Time // when its raft was told last, by sender and receiver
	dropped   map[[2]uint64]time.Time // when the receiver dropped messages last, by the same
	snapshots map[uint64]int          // reports less MsgSnap that were sent, by sender
}

// letter is a message that was given to Send.
type letter struct {
	from, to, number uint64
	kind             raftpb.MessageType
	at               time.Time
}

// booked is the Raft of one life of a member.
type booked struct {
	*books
	id     uint64
	closed bool // guarded by mu
	late   bool // the same
}

func (b *booked) Process(_ context.Context, m *raftpb.Message) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.late = b.late || b.closed
	b.processed[numberOf(m)]++
	return nil
}

func (b *booked) IsIDRemoved(uint64) bool { return false }

func (b *booked) ReportUnreachable(id uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.late = b.late || b.closed
	b.reported[[2]uint64{b.id, id}] = time.Now()
}

func (b *booked) ReportSnapshot(uint64, raft.SnapshotStatus) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.late = b.late || b.closed
	b.snapshots[b.id]++
}

func (b *booked) observer() *rafthttp.Observer {
	return &rafthttp.Observer{Dropped: func(from types.ID, _ string, _ int, _ error) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.dropped[[2]uint64{uint64(from), b.id}] = time.Now()
	}}
}

// numberedMessage returns a message of a type with a number.
func numberedMessage(kind raftpb.MessageType, to, from types.ID, number uint64) *raftpb.Message {
	switch kind {
	case raftpb.MsgApp:
		return testmember.MsgApp(to, from, number, make([]byte, number%5000))
	case raftpb.MsgProp:
		m := testmember.Message(raftpb.MsgProp, to)
		m.From = new(uint64(from))
		m.Entries = []*raftpb.Entry{{Data: binary.BigEndian.AppendUint64(nil, number)}}
		return m
	case raftpb.MsgSnap:
		return testmember.MsgSnap(to, from, number)
	default:
		return testmember.Heartbeat(to, from, number)
	}
}

func numberOf(m *raftpb.Message) uint64 {
	switch m.GetType() {
	case raftpb.MsgApp:
		return m.GetIndex()
	case raftpb.MsgProp:
		return binary.BigEndian.Uint64(m.GetEntries()[0].GetData())
	case raftpb.MsgSnap:
		return m.GetSnapshot().GetMetadata().GetIndex()
	default:
		return m.GetCommit()
	}
}

// weather is three members that speak TLS, in bad weather.
type weather struct {
	*books
	t     *testing.T
	rand  *rand.Rand
	ca    *testtls.Authority
	net   *testtls.Network
	all   []*testmember.Member
	rafts []*booked
}

// runWeather runs one, and checks that each message was processed or reported, and all else is as it should be.
func runWeather(t *testing.T, seed uint64) {
	bubble.Test(t, func(t *testing.T) {
		s := &weather{t: t, rand: rand.New(rand.NewPCG(seed, 3)), ca: testtls.NewAuthority(t), books: &books{
			processed: map[uint64]int{}, reported: map[[2]uint64]time.Time{}, dropped: map[[2]uint64]time.Time{}, snapshots: map[uint64]int{},
		}}
		s.net, s.all, _ = testtls.StartAll(t, s.ca, s.tune)
		for _, from := range s.all {
			for _, to := range s.all {
				s.net.Net.Link(testmember.HostOf(from.ID), testmember.HostOf(to.ID)).SetDelay(weatherDelay)
			}
		}
		faultpoint.Seed(seed)
		for range weatherSteps {
			s.step()
			time.Sleep(s.upTo(500 * time.Millisecond))
		}
		s.net.Net.Heal()
		time.Sleep(weatherCalm)
		s.checkBooks()
		for range weatherRounds {
			s.round()
		}
		for i := range s.all {
			s.stop(i)
		}
		time.Sleep(weatherCalm)
		for _, r := range s.rafts {
			require.False(t, r.late, "a callback after Stop of %d", r.id)
		}
	})
}

func (s *weather) tune(tr *rafthttp.Transport) {
	r := &booked{books: s.books, id: uint64(tr.ID)}
	s.rafts = append(s.rafts, r)
	tr.Raft, tr.Observer = r, r.observer()
	tr.ReadTimeout, tr.MaxQueuedBytes = testmember.ReadTimeout, 4<<20
}

func (s *weather) upTo(d time.Duration) time.Duration { return time.Duration(s.rand.Int64N(int64(d))) }

// step sends some messages, or does something that the messages have to survive.
func (s *weather) step() {
	i := s.rand.IntN(3)
	j := (i + 1 + s.rand.IntN(2)) % 3
	a, b := s.all[i], s.all[j]
	switch s.rand.IntN(16) {
	default:
		s.send(uint64(a.ID), uint64(b.ID), 1+s.rand.IntN(80))
	case 0, 1:
		s.net.Net.Reset(testmember.HostOf(a.ID), testmember.HostOf(b.ID))
	case 2:
		s.net.Net.Link(testmember.HostOf(a.ID), testmember.HostOf(b.ID)).Cut()
		time.AfterFunc(s.upTo(9*time.Second), s.net.Net.Heal)
	case 3:
		a.RemovePeer(b.ID)
		time.Sleep(s.upTo(200 * time.Millisecond))
		if s.rand.IntN(2) == 0 {
			a.AddRemote(b.ID, []string{b.URL})
			s.send(uint64(a.ID), uint64(b.ID), 1+s.rand.IntN(80))
		}
		a.AddPeer(b.ID, []string{b.URL})
	case 4:
		s.net.Issue(s.ca, a.ID, time.Hour)
	case 5:
		s.stop(i)
		time.Sleep(s.upTo(3 * time.Second))
		s.all[i] = s.net.Start(a.ID, s.tune)
		for k, other := range s.all {
			if k != i {
				s.all[i].AddPeer(other.ID, []string{other.URL})
			}
		}
	case 7:
		a.CutPeer(b.ID)
		time.Sleep(s.upTo(time.Second))
		a.MendPeer(b.ID)
	case 6:
		a.UpdatePeer(b.ID, []string{"https://" + testmember.HostOf(b.ID) + ":1", b.URL})
	}
}

// round breaks one connection while a few messages are on their way, so that nothing but that can be why raft is told.
func (s *weather) round() {
	i := s.rand.IntN(3)
	a, b := s.all[i], s.all[(i+1+s.rand.IntN(2))%3]
	time.Sleep(weatherCalm)
	s.send(uint64(a.ID), uint64(b.ID), 1+s.rand.IntN(5))
	time.Sleep(s.upTo(3 * weatherDelay / 2))
	s.net.Net.Reset(testmember.HostOf(a.ID), testmember.HostOf(b.ID))
	time.Sleep(weatherCalm)
	s.checkBooks()
}

// send sends so many messages of all kinds from one member to another.
func (s *weather) send(from, to uint64, n int) {
	kinds := []raftpb.MessageType{raftpb.MsgApp, raftpb.MsgApp, raftpb.MsgHeartbeat, raftpb.MsgProp, raftpb.MsgSnap}
	weights := kinds
	if s.rand.IntN(3) > 0 {
		weights = kinds[:4] // a MsgSnap makes what is queued of appends another matter
	}
	var msgs []*raftpb.Message
	s.mu.Lock()
	for range n {
		l := letter{from, to, uint64(len(s.sent)) + 1, weights[s.rand.IntN(len(weights))], time.Now()}
		s.sent = append(s.sent, l)
		msgs = append(msgs, numberedMessage(l.kind, types.ID(to), types.ID(from), l.number))
		if l.kind == raftpb.MsgSnap {
			s.snapshots[from]--
		}
	}
	s.mu.Unlock()
	start := time.Now()
	s.all[from-1].Send(msgs)
	require.Zero(s.t, time.Since(start), "Send took time")
}

// stop ends a life of a member.
func (s *weather) stop(i int) {
	start := time.Now()
	s.all[i].Stop()
	s.mu.Lock()
	for _, r := range s.rafts {
		r.closed = r.closed || r.id == uint64(s.all[i].ID)
	}
	s.mu.Unlock()
	require.LessOrEqual(s.t, time.Since(start), weatherStop, "Stop")
	_ = s.all[i].Server.Close()
	synctest.Wait()
}

// checkBooks requires that each message was processed, no proposal twice, or that its sender was told at or after its Send.
func (s *weather) checkBooks() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.sent {
		way := [2]uint64{l.from, l.to}
		told := !s.reported[way].Before(l.at) || !s.dropped[way].Before(l.at)
		n := s.processed[l.number]
		if l.kind == raftpb.MsgProp { // a post of anything else may be made again when its connection breaks
			require.LessOrEqual(s.t, n, 1, "%v was processed more than once", l)
		}
		require.True(s.t, n > 0 || told, "%v vanished; of %d to %d raft was told last at %v", l, l.from, l.to, s.reported[way])
	}
	for id, n := range s.snapshots {
		require.Zero(s.t, n, "reports of MsgSnap less those that %d sent", id)
	}
}
