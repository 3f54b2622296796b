package promise

import (
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/seed-4d73690b/rafthttp/snap"
)

func proposalOf(to uint64, data []byte) *raftpb.Message {
	return &raftpb.Message{Type: raftpb.MsgProp.Enum(), From: new(uint64(1)), To: new(to), Entries: []*raftpb.Entry{{Data: data}}}
}

// playPostedVotes: somebody takes posts only, and holds those of proposals, as there is no leader.
func playPostedVotes(st *stage) {
	var beats atomic.Int64
	st.serve("other", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var m raftpb.Message
		if r.URL.Path != "/raft" || err != nil || proto.Unmarshal(body, &m) != nil {
			http.NotFound(w, r)
			return
		}
		if m.GetType() == raftpb.MsgProp {
			<-r.Context().Done()
			return
		}
		beats.Add(1)
		asMember(w)
		w.WriteHeader(http.StatusNoContent)
	})
	a := st.actor(1, "a", nil)
	a.AddPeer(other, []string{st.urlOf("other")})
	for range 4 + st.IntN(40) {
		a.Send([]*raftpb.Message{proposalOf(other, []byte("x"))})
	}
	time.Sleep(100 * time.Millisecond)
	a.Send([]*raftpb.Message{heartbeatFrom(1, other)})
	time.Sleep(time.Second)
	if beats.Load() != 1 {
		st.wrong("a heartbeat that is posted waits for proposals that are posted")
	}
}

// playControlFirst: a line is full of proposals.
func playControlFirst(st *stage) {
	const rate, size, n = 64 << 10, 32 << 10, 60
	a, b := st.actor(1, "a", nil), st.actor(2, "b", nil)
	a.AddPeer(2, []string{st.urlOf("b")})
	b.AddPeer(1, []string{st.urlOf("a")})
	time.Sleep(time.Second)
	st.net.Link(st.host("a"), st.host("b")).SetBandwidth(rate)
	for i := range uint64(n) {
		a.Send([]*raftpb.Message{proposalOf(2, st.book.content(i, size))})
	}
	time.Sleep(time.Duration(st.IntN(1000)) * time.Millisecond)
	a.Send([]*raftpb.Message{heartbeatFrom(1, 2)})
	time.Sleep(n * size / rate * time.Second / 2)
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, m := range b.got {
		if m.GetType() == raftpb.MsgHeartbeat {
			return
		}
	}
	st.wrong("a heartbeat waits for %d proposals that were sent before", n)
}

// playLateAcks: a queue of appends overflows with entries that the follower has had already, as it says late, and raft goes on
// behind them.
func playLateAcks(st *stage) {
	const rate, queue = 256 << 10, 8 // an append a second
	a, b := st.actor(1, "a", func(a *actor) { a.SendQueueMessages = queue }), st.actor(2, "b", nil)
	a.AddPeer(2, []string{st.urlOf("b")})
	b.AddPeer(1, []string{st.urlOf("a")})
	time.Sleep(time.Second)
	st.net.Link(st.host("a"), st.host("b")).SetBandwidth(rate)
	send := func(from, to uint64) {
		for i := from; i < to; i++ {
			a.Send([]*raftpb.Message{st.appendOf(1, 2, i+1, rate)})
		}
	}
	told := func() int {
		a.mu.Lock()
		defer a.mu.Unlock()
		return a.unreachable[2]
	}
	send(0, 20)
	time.Sleep((queue + 2) * time.Second)
	acked := queue + 4 + uint64(st.IntN(6))
	b.Send([]*raftpb.Message{{Type: raftpb.MsgAppResp.Enum(), From: new(uint64(2)), To: new(uint64(1)), Term: new(uint64(1)), Index: new(acked)}})
	time.Sleep(time.Second / 2)
	before := told()
	send(2, 20) // raft does not know yet
	for i := 0; told() == before && i < 100; i++ {
		time.Sleep(100 * time.Millisecond)
	}
	before = told()
	send(acked, acked+2) // now it does
	time.Sleep((queue+2)*time.Second + 2*readTime)
	b.mu.Lock()
	defer b.mu.Unlock()
	arrived := 0
	for _, m := range b.got {
		if i := numberOf(m); m.GetType() == raftpb.MsgApp && i > acked {
			arrived++
		}
	}
	if arrived < 2 && told() == before {
		st.wrong("%d of 2 appends behind what was acknowledged arrive, and none is reported as lost", arrived)
	}
}

// endless is a reader that has something, and then nothing more, and no end.
type endless struct {
	left   int
	closed chan struct{}
}

// Read implements io.Reader.
func (e *endless) Read(p []byte) (int, error) {
	if e.left == 0 {
		<-e.closed
		return 0, io.ErrClosedPipe
	}
	n := min(len(p), e.left)
	e.left -= n
	return n, nil
}

// Close implements io.Closer.
func (e *endless) Close() error {
	close(e.closed)
	return nil
}

// playStalled: the reader of a snapshot stands still.
func playStalled(st *stage) {
	st.actor(2, "b", func(b *actor) { b.Snapshotter = discarding{} })
	size := 1000 + st.IntN(100_000)
	m := snap.NewMessage(st.snapshot(1, 2, 1), &endless{st.IntN(size), make(chan struct{})}, int64(size))
	st.sender().SendSnapshot(m)
	if st.ended(m) {
		st.wrong("a snapshot whose reader stands still is said to be sent")
	}
}

// playBehind: some appends are of no use any more, and those behind them are.
func playBehind(st *stage) {
	if st.IntN(2) == 0 {
		playOvertaken(st)
	} else {
		playLateAcks(st)
	}
}

// playOvertaken: a snapshot has some of the appends that wait when it is taken.
func playOvertaken(st *stage) {
	const n, size, rate = 40, 32 << 10, 64 << 10
	a, b := st.actor(1, "a", nil), st.actor(2, "b", nil)
	a.AddPeer(2, []string{st.urlOf("b")})
	b.AddPeer(1, []string{st.urlOf("a")})
	time.Sleep(3 * time.Second)
	st.net.Link(st.host("a"), st.host("b")).SetBandwidth(rate)
	has := uint64(10 + st.IntN(20))
	for i := range uint64(n) {
		a.Send([]*raftpb.Message{st.appendOf(1, 2, i+1, size)})
	}
	a.Send([]*raftpb.Message{st.snapshot(1, 2, has)})
	time.Sleep(2*n*size/rate*time.Second + readTime)
	came := map[uint64]bool{}
	b.mu.Lock()
	for _, m := range b.got {
		if m.GetType() == raftpb.MsgApp {
			came[m.GetIndex()+1] = true
		}
	}
	b.mu.Unlock()
	for i := has + 1; i <= n; i++ {
		if !came[i] {
			st.wrong("append %d of %d does not arrive: a snapshot of the first %d was taken meanwhile", i, n, has)
			return
		}
	}
	if came[has] {
		st.wrong("append %d arrives, although a snapshot that has it was taken while it waited", has)
	}
}
