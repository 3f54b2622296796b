package promise

import (
	"io"
	"net/http"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/wire"
)

// playTooLarge: appends are sent that the receiver does not take, or the sender itself.
func playTooLarge(st *stage) {
	const most = 64 << 10
	own := st.IntN(2) == 0
	limited := func(a *actor) { a.MaxMessageBytes = most }
	a, b := st.actor(1, "a", limited), st.actor(2, "b", func(b *actor) {
		if own {
			limited(b)
		}
	})
	a.AddPeer(2, []string{st.urlOf("b")})
	b.AddPeer(1, []string{st.urlOf("a")})
	time.Sleep(2 * time.Second)
	beats := 0
	for i := range 100 {
		if i%2 == 0 { // as raft repeats it
			b.Send([]*raftpb.Message{st.appendOf(2, 1, 1, most+1+st.IntN(1<<18))})
		}
		b.Send([]*raftpb.Message{heartbeatFrom(2, 1)})
		beats++
		time.Sleep(100 * time.Millisecond)
	}
	time.Sleep(time.Second)
	if ended := a.said("a stream of the peer ended"); own && ended > 0 {
		st.wrong("messages over the sender's own MaxMessageBytes have ended %d streams", ended)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, m := range a.got {
		if m.GetType() == raftpb.MsgHeartbeat {
			beats--
		} else {
			st.wrong("a message of %d bytes is processed, and MaxMessageBytes is %d", wire.MessageSize(m), most)
		}
	}
	for _, stream := range b.Status().Peers[0].Streams {
		if stream.Name == "message" && stream.Direction == rafthttp.StreamOut && stream.Connects > 1 {
			st.wrong("the message stream was cut %d times by appends that the receiver takes for too large", stream.Connects-1)
		}
	}
	if beats > 2 {
		st.wrong("%d of 100 heartbeats are lost beside appends that the receiver takes for too large", beats)
	}
}

// playNoAnswer: a receiver reads a snapshot, and says nothing.
func playNoAnswer(st *stage) {
	st.serve("b", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/raft/snapshot" {
			asMember(w)
			if r.URL.Path != "/raft/probing" {
				http.NotFound(w, r)
			}
			return
		}
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	})
	a := st.actor(1, "a", func(a *actor) { a.SnapshotAnswerTimeout = time.Duration(1+st.IntN(10)) * time.Second })
	a.AddPeer(2, []string{st.urlOf("b")})
	m := st.databaseOf(st.book.content(1, 1+st.IntN(1<<16)))
	a.SendSnapshot(m)
	if st.ended(m) {
		st.wrong("a snapshot that nobody has answered is said to be sent")
	}
}

// playResumed: a transfer takes longer than any timeout, and breaks.
func playResumed(st *stage) {
	const rate = 64 << 10
	k := st.receiver(rate)
	a := st.sender()
	db := st.book.content(uint64(st.IntN(1000)), 16*rate)
	m := st.databaseOf(db)
	a.SendSnapshot(m)
	time.Sleep(time.Duration(3000+st.IntN(10_000)) * time.Millisecond)
	st.net.Reset(st.host("a"), st.host("b"))
	sent := st.ended(m)
	k.mu.Lock()
	defer k.mu.Unlock()
	if !sent || k.calls < 2 || k.offset == 0 {
		st.wrong("a transfer that broke is sent: %t, in %d attempts, the last from byte %d on", sent, k.calls, k.offset)
	}
}

// playRemoved: a member that was removed posts a message, and a snapshot.
func playRemoved(st *stage) {
	a := st.actor(1, "a", func(a *actor) { a.removed, a.Snapshotter = other, discarding{} })
	path, body := "/raft", wire.AppendMessage(nil, heartbeatFrom(other, 1))
	if st.IntN(2) == 0 {
		path, body = "/raft/snapshot", headOf(st.snapshot(other, 1, 1))
	}
	c := st.dial()
	st.begin(c, path, other, len(body), body)
	if status := answered(c, readTime); status != http.StatusForbidden {
		st.wrong("a removed member that posts to %s is answered %d", path, status)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.got) > 0 {
		st.wrong("a message of a removed member is processed, which came to %s", path)
	}
}

// playSharedBound: peers that take nothing, and what waits for them.
func playSharedBound(st *stage) {
	const most, size = 8 << 20, 128 << 10
	st.serve("other", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/raft" {
			http.NotFound(w, r)
			return
		}
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	})
	a := st.actor(1, "a", func(a *actor) { a.MaxQueuedBytes = most })
	add := func(id uint64) { a.AddPeer(types.ID(id), []string{st.urlOf("other")}) }
	lost := func(m *raftpb.Message) bool {
		a.Send([]*raftpb.Message{m})
		time.Sleep(time.Millisecond)
		a.mu.Lock()
		defer a.mu.Unlock()
		return a.unreachable[m.GetTo()] > 0
	}
	if st.IntN(2) == 0 { // many, with a heartbeat each
		for id := range uint64(300) {
			if add(id + 100); lost(heartbeatFrom(1, id+100)) {
				st.wrong("a heartbeat is refused while %d others are queued, within %d bytes", id, most)
			}
		}
		return
	}
	add(100)
	add(101)
	for i := range uint64(60) { // as much as there is room for, and more
		lost(st.appendOf(1, 100, i+1, size))
	}
	if lost(st.appendOf(1, 101, 1, size)) {
		st.wrong("an append is refused since another peer takes nothing")
	}
}

// playSentAgain: a stream breaks with appends in it, and raft goes back to the first of them.
func playSentAgain(st *stage) {
	const rate, size, appends = 64 << 10, 16 << 10, 20
	a, b := st.actor(1, "a", nil), st.actor(2, "b", nil)
	a.AddPeer(2, []string{st.urlOf("b")})
	b.AddPeer(1, []string{st.urlOf("a")})
	st.net.Link(st.host("a"), st.host("b")).SetBandwidth(rate)
	time.Sleep(time.Second)
	send := func() {
		for i := range uint64(appends) {
			a.Send([]*raftpb.Message{st.appendOf(1, 2, i+1, size)})
		}
	}
	send()
	time.Sleep(time.Duration(500+st.IntN(2000)) * time.Millisecond)
	a.mu.Lock()
	clear(a.unreachable)
	a.mu.Unlock()
	st.net.Reset(st.host("a"), st.host("b"))
	time.Sleep(2 * time.Second) // the stream is there again
	a.mu.Lock()
	if a.unreachable[2] == 0 {
		st.wrong("raft is not told of a stream that was reset")
	}
	a.mu.Unlock()
	b.mu.Lock()
	b.got = nil
	b.mu.Unlock()
	send()
	time.Sleep(appends*size/rate*time.Second + 2*time.Second)
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.got) != appends {
		st.wrong("%d of %d appends arrive that are sent again after the stream was reset", len(b.got), appends)
	}
}

// playAnotherMember: somebody has our address for another member, and posts a message, or a snapshot.
func playAnotherMember(st *stage) {
	a := st.actor(1, "a", func(a *actor) { a.Snapshotter = discarding{} })
	path, body := "/raft", wire.AppendMessage(nil, heartbeatFrom(2, other))
	if st.IntN(2) == 0 {
		path, body = "/raft/snapshot", headOf(st.snapshot(2, other, 1))
	}
	c := st.dial()
	st.begin(c, path, 2, len(body), body)
	if status := answered(c, readTime); status != http.StatusPreconditionFailed {
		st.wrong("a message for another member, to %s, is answered %d", path, status)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.got) > 0 {
		st.wrong("a message for another member is processed, which came to %s", path)
	}
}
