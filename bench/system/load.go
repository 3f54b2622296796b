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
		data[i] = pattern(i, size)
	}
	for i := range l.Len {
		all := make([]*raftpb.Entry, entries)
		for j := range all {
			n := i*entries + j
			all[j] = &raftpb.Entry{Term: new(uint64(term)), Index: new(uint64(n + 1)), Data: data[n%distinct]}
		}
		for p := range peers {
			l.msgs = append(l.msgs, &raftpb.Message{
				Type: raftpb.MsgApp.Enum(), From: new(uint64(senderID)), To: new(peerID(p)),
				Term: new(uint64(term)), LogTerm: new(uint64(term)), Index: new(uint64(i * entries)), Commit: new(uint64(i * entries)),
				Entries: all,
			})
		}
	}
	return l
}

const term = 5

// pattern is data that compresses badly and differs from others at once.
func pattern(seed, size int) []byte {
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
