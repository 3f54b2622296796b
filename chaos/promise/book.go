package promise

import (
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/seed-4d73690b/rafthttp"
)

// kind is one of the three kinds of messages that do not wait for each other.
type kind int

const (
	control kind = iota
	appends
	proposals
	kinds
)

var kindNames = [kinds]string{"control", "append", "proposal"} // as receive lanes have them

// String implements fmt.Stringer.
func (k kind) String() string { return kindNames[k] }

func kindOf(t raftpb.MessageType) kind {
	switch t {
	case raftpb.MsgApp, raftpb.MsgSnap:
		return appends
	case raftpb.MsgProp:
		return proposals
	default:
		return control
	}
}

// sent is a message that was given to Send.
type sent struct {
	at    time.Duration // of the run; when it was sent last
	first time.Duration // when it was sent first
	seq   uint64        // of the run: what happens later has a higher one
	lane  uint64        // the state of the sender's streams when it took it; 0: not known, or a post
	life  int           // of the sender
	size  int           // of its data
	typ   raftpb.MessageType
	again bool   // it was sent more than once
	group bool   // it has a Context
	times int    // that it was processed
	came  uint64 // when, first, as seq
	there int    // life of the receiver
	term  uint64 // in which it was sent last
	acks  uint64 // as an answer to appends: all up to this one

	fromID, toID uint64 // that it was sent with

	taken    bool   // by a stream, and not processed yet
	ordered  bool   // its order was looked at
	rejects  bool   // as an answer: one behind it was rejected
	rejected uint64 // that one's index
	failed   bool   // Process had it, and returned an error
}

// way is what there is to know of the way from one member to another. Its fields are guarded by the book's mutex.
type way struct {
	from, to uint64
	isPeer   bool // from has to as a peer

	group        uint64 // 0: it is of the members themselves
	link         *way   // of the members, between the same two; nil: it is one of these
	fromID, toID uint64 // what messages say
	moved        bool   // the sender has moved its peer to nobody, and back, in a group
	parted       uint64 // seq when the sender's peer changed last, in a group

	msgs      [kinds][]sent             // by number, from 1 on
	settled   [kinds]int                // messages before this one need no look any more
	dropped   [kinds]int                // messages that the receiver has counted as dropped, and that are not accounted for
	dropAt    [kinds]time.Duration      // when it has said so last
	full      int                       // appends of those dropped, for which there was no room: none that came by the stream for appends
	order     [kinds]map[uint64]arrival // the last that came of those that were sent before, by lane
	tookAt    time.Duration             // when Process last returned
	busy      [kinds]int                // calls of Process
	streaming bool                      // the message stream was up when something was sent last
	epoch     uint64                    // changes when the sender's peer does
	term      uint64                    // of appends
	next      uint64                    // append to be sent
	acked     uint64                    // appends that the peer has acknowledged, all up to this one
	match     uint64                    // appends that it has, all up to this one
	covered   uint64                    // appends up to this one are in a snapshot that was taken
	coverAt   time.Duration             // of those, what was sent later has to arrive all the same
	ackAt     time.Duration
	probing   bool // raft was told of a loss: it sends one append at a time until the peer answers

	reported    uint64 // seq of the last ReportUnreachable of this life of the sender
	unexplained int    // reports while the way was well and nothing was too much for it

	losses losses
	health
	snapshots ends // of this life of the sender
}

// arrival is when a message came, in which life of the receiver.
type arrival struct {
	came  uint64
	there int
	n     int
}

// ends counts how snapshots ended.
type ends struct{ given, posted, finished, failed, said, denied int }

// book has all messages of a run, and what became of them.
type book struct {
	mu   sync.Mutex
	seq  uint64
	ways map[[2]uint64]*way
	all  []*way

	ofGroups map[[3]uint64]*way // by group, from, to
	inGroups []*way

	data []byte // what messages and databases are made of
}

const dataSize = 8 << 20

// randomData is the same for all runs: to make it takes as long as some of them.
var randomData = sync.OnceValue(func() []byte {
	b := make([]byte, dataSize)
	r := rand.NewChaCha8([32]byte{1})
	_, _ = r.Read(b)
	return b
})

func newBook() *book {
	return &book{ways: map[[2]uint64]*way{}, ofGroups: map[[3]uint64]*way{}, data: randomData()}
}

// add adds a way.
func (b *book) add(from, to uint64) {
	w := newWay(from, to)
	b.ways[[2]uint64{from, to}] = w
	b.all = append(b.all, w)
}

func newWay(from, to uint64) *way {
	w := &way{from: from, to: to, fromID: from, toID: to, term: 1, next: 1}
	for k := range w.msgs {
		w.msgs[k] = make([]sent, 1) // there is no number 0
		w.settled[k] = 1
		w.order[k] = map[uint64]arrival{}
	}
	return w
}

// way returns the way between two members, or nil.
func (b *book) way(from, to uint64) *way { return b.ways[[2]uint64{from, to}] }

// lead begins a term of the sender, whose log is that of the receiver.
func (w *way) lead() {
	w.term++
	w.next, w.probing = uint64(len(w.msgs[appends])), false
	w.acked, w.match = w.next-1, w.next-1
}

// excused takes a message for one of those that the receiver has dropped, if there is one left. An append that came by the stream for
// them is none of those that found no room: they slow the stream down, which ends then, and that is reported.
func (w *way) excused(k kind, x *sent) bool {
	if k == appends && x.lane == 0 && w.full > 0 {
		w.full--
	} else if k == appends && w.dropped[k] <= w.full {
		return false
	}
	if w.dropped[k] == 0 {
		return false
	}
	w.dropped[k]--
	return true
}

// content returns the bytes of a message or a database.
func (b *book) content(number uint64, size int) []byte {
	at := int(number*7919*64) % (len(b.data) - size)
	return b.data[at : at+size : at+size]
}

// write makes the next message of a type. It is called with mu held.
func (b *book) write(w *way, typ raftpb.MessageType, size int, now time.Duration, life int) (*raftpb.Message, *sent) {
	k := kindOf(typ)
	n := uint64(len(w.msgs[k]))
	b.seq++
	if k == appends && w.next < n {
		n = w.next
		x := &w.msgs[k][n]
		x.at, x.seq, x.life, x.lane, x.again = now, b.seq, life, 0, true
		w.settled[k] = min(w.settled[k], int(n))
	} else {
		w.msgs[k] = append(w.msgs[k], sent{at: now, first: now, seq: b.seq, life: life, size: size, typ: typ, fromID: w.fromID, toID: w.toID})
	}
	if k == appends {
		w.next = n + 1
	}
	x := &w.msgs[k][n]
	x.term = w.term
	return b.message(w, x, n), x
}

// message makes the message that was sent with a number.
func (b *book) message(w *way, x *sent, n uint64) *raftpb.Message {
	m := &raftpb.Message{Type: x.typ.Enum(), From: new(x.fromID), To: new(x.toID), Term: new(x.term), Commit: new(n)}
	if x.group {
		m.Context = []byte("group")
	}
	switch {
	case kindOf(x.typ) == appends:
		m.Index, m.LogTerm, m.Commit = new(n-1), new(x.term), new(n-1)
		m.Entries = []*raftpb.Entry{{Term: new(x.term), Index: new(n), Data: b.content(w.key(n), x.size)}}
	case kindOf(x.typ) == proposals:
		m.Entries = []*raftpb.Entry{{Data: b.content(w.key(n), x.size)}}
	case x.rejects:
		m.Reject, m.Index, m.RejectHint = new(true), new(x.rejected), new(x.acks)
	case x.typ == raftpb.MsgAppResp:
		m.Index = new(x.acks)
	}
	return m
}

// numberOf returns the number of a message that arrived.
func numberOf(m *raftpb.Message) uint64 {
	if m.GetType() == raftpb.MsgApp {
		return m.GetIndex() + 1
	}
	return m.GetCommit()
}

// differs says in what a message that arrived is not the one that was sent.
func (b *book) differs(w *way, m *raftpb.Message, x *sent, n uint64) string {
	was := *x
	if x.again { // in another term, perhaps
		was.term = m.GetTerm()
	}
	if want := b.message(w, &was, n); !proto.Equal(m, want) {
		m, want = proto.CloneOf(m), proto.CloneOf(want)
		for _, e := range slices.Concat(m.Entries, want.Entries) { // which may be large
			e.Data = fmt.Appendf(nil, "%d bytes, %x", len(e.Data), crc32.ChecksumIEEE(e.Data))
		}
		return fmt.Sprintf("it was %v: %v", want, m)
	}
	return ""
}

// laneState returns what tells one state of the streams to a peer from any other, and which of them are up.
func laneState(st rafthttp.PeerStatus) (state uint64, message, msgapp bool) {
	for _, s := range st.Streams {
		if s.Direction != rafthttp.StreamOut {
			continue
		}
		up := uint64(0)
		if s.Up {
			up = 1
		}
		if s.Name == "message" || s.Name == "group" {
			state |= (s.Connects<<1 | up) << 24
			message = s.Up
		} else {
			state |= s.Connects<<1 | up
			msgapp = s.Up
		}
	}
	return state, message, msgapp
}
