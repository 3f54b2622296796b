package system

import (
	"go.etcd.io/raft/v3/raftpb"
)

// Load is a ring of appends, made once, that a cluster is sent over and over: making messages is the work of raft, and
// is not to be charged to its transport. The entries are shared by all peers, as those in a leader's log are.
type Load struct {
	Entries int // of each append
	Size    int // bytes of data of each entry
	Peers   int
	Window  int // appends that may be under way to one peer
	Len     int // appends for one peer

	msgs []*raftpb.Message // Len × Peers: the first append for each peer, then the second
}

const (
	// maxData bounds the distinct data of a load: more than caches hold, and not so much that it changes how often
	// the collector runs.
	maxData          = 16 << 20
	maxInFlight      = 2048
	maxInFlightBytes = 64 << 20
	maxInFlightInAll = 1 << 17 // so that the load of very many peers fits into memory
)

// Window is how many appends with these entries may be under way to one of so many peers: 2,048, or 64 MiB of data, or
// fewer if they are very many.
func Window(entries, size, peers int) int {
	return max(1, min(maxInFlight, maxInFlightBytes/max(1, entries*size), maxInFlightInAll/peers))
}

// NewLoad makes a load of appends for this number of peers. It is twice as long as the window, so that no message is
// sent again before it has arrived.
func NewLoad(entries, size, peers, window int) *Load {
	l := &Load{Entries: entries, Size: size, Peers: peers, Window: window, Len: 2 * window}
	distinct := max(1, min(l.Len*entries, maxData/max(1, size)))
	data := make([][]byte, distinct)
	for i := range data {
		data[i] = Pattern(i, size)
	}
	// All of it is in a few pieces of memory, so that the collector, which looks at all of it in each cycle, has
	// little to do: that is charged to nobody either.
	kind, from, of := raftpb.MsgApp, uint64(senderID), uint64(term)
	to := make([]uint64, peers)
	for p := range to {
		to[p] = peerID(p)
	}
	index := make([]uint64, l.Len*entries+1)
	for i := range index {
		index[i] = uint64(i)
	}
	log, slots := make([]raftpb.Entry, l.Len*entries), make([]*raftpb.Entry, l.Len*entries)
	for n := range log {
		e := &log[n]
		e.Term, e.Index, e.Data = &of, &index[n+1], data[n%distinct]
		slots[n] = e
	}
	msgs := make([]raftpb.Message, l.Len*peers)
	l.msgs = make([]*raftpb.Message, len(msgs))
	for n := range msgs {
		i, m := n/peers, &msgs[n]
		m.Type, m.From, m.To, m.Term, m.LogTerm = &kind, &from, &to[n%peers], &of, &of
		m.Index, m.Commit, m.Entries = &index[i*entries], &index[i*entries], slots[i*entries:(i+1)*entries:(i+1)*entries]
		l.msgs[n] = m
	}
	return l
}

const term = 5

// Pattern is data that compresses badly and differs from others at once.
func Pattern(seed, size int) []byte {
	b := make([]byte, size)
	x := uint64(seed)*0x9e3779b97f4a7c15 + 1
	for i := range b {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		b[i] = byte(x)
	}
	return b
}

// messages are n appends from number `from` on, in the order in which a leader makes them.
func (l *Load) messages(from, n int) []*raftpb.Message {
	return l.msgs[from*l.Peers : (from+n)*l.Peers]
}

// to are the appends of the load for one peer.
func (l *Load) to(peer, number int) *raftpb.Message { return l.msgs[number*l.Peers+peer] }

// fits reports whether m looks like an append of the load. It is cheap, as it is called for every message.
func (l *Load) fits(m *raftpb.Message) bool {
	return len(m.Entries) == l.Entries && len(m.Entries[l.Entries-1].Data) == l.Size
}

func heartbeat(to uint64) []*raftpb.Message {
	return []*raftpb.Message{{
		Type: raftpb.MsgHeartbeat.Enum(), From: new(uint64(senderID)), To: new(to), Term: new(uint64(term)), Commit: new(uint64(1)),
	}}
}

func heartbeatResponse(from uint64) []*raftpb.Message {
	return []*raftpb.Message{{
		Type: raftpb.MsgHeartbeatResp.Enum(), From: new(from), To: new(uint64(senderID)), Term: new(uint64(term)),
	}}
}
