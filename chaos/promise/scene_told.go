package promise

import (
	"bytes"
	"io"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/stacks"
	"github.com/seed-4d73690b/rafthttp/snap"
)

// playPostedOnce: the connection of a post ends when its proposal was taken, before the answer.
func playPostedOnce(st *stage) {
	var proposals atomic.Int64
	var ends atomic.Bool
	st.serve("other", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var m raftpb.Message
		if r.URL.Path != "/raft" || err != nil || proto.Unmarshal(body, &m) != nil {
			http.NotFound(w, r)
			return
		}
		if m.GetType() == raftpb.MsgProp {
			proposals.Add(1)
			if ends.Load() {
				panic(http.ErrAbortHandler) // which closes the connection
			}
		}
		asMember(w)
		w.WriteHeader(http.StatusNoContent)
	})
	a := st.actor(1, "a", nil)
	a.AddPeer(other, []string{st.urlOf("other")})
	before := 1 + st.IntN(5)
	for range before { // by connections that are kept
		a.Send([]*raftpb.Message{proposalOf(other, []byte("x"))})
		time.Sleep(time.Duration(st.IntN(2)) * 100 * time.Millisecond)
	}
	time.Sleep(time.Second)
	ends.Store(true)
	told := a.told(other)
	a.Send([]*raftpb.Message{proposalOf(other, []byte("y"))})
	time.Sleep(readTime)
	if n := proposals.Load() - int64(before); n != 1 {
		st.wrong("a proposal is posted %d times, whose connection ended before the answer", n)
	}
	if a.told(other) == told {
		st.wrong("a post has no answer, and raft is not told")
	}
}

// playOneReport: raft is busy while it is told of a loss, and more is lost meanwhile.
func playOneReport(st *stage) {
	free := make(chan struct{})
	a := st.actor(1, "a", func(a *actor) { a.busy = func(uint64) { <-free } })
	a.AddPeer(2, []string{st.urlOf("nobody")})
	a.Send([]*raftpb.Message{heartbeatFrom(1, 2)})
	time.Sleep(time.Second)
	more := 2 + st.IntN(60)
	for range more {
		a.Send([]*raftpb.Message{heartbeatFrom(1, 2)})
		time.Sleep(time.Duration(st.IntN(2)) * 50 * time.Millisecond)
	}
	time.Sleep(readTime)
	during := a.told(2)
	close(free)
	time.Sleep(time.Second)
	if after := a.told(2); during != 1 || after != 2 {
		st.wrong("raft is told of %d losses at once, and %d times of %d that it was not told of meanwhile", during, after-during, more)
	}
}

// playBusyWithAnother: ReportUnreachable about one member takes a minute.
func playBusyWithAnother(st *stage) {
	a := st.actor(1, "a", func(a *actor) {
		a.busy = func(id uint64) {
			if id == 2 {
				time.Sleep(time.Minute)
			}
		}
	})
	for id := range uint64(2) {
		a.AddPeer(types.ID(2+id), []string{st.urlOf("nobody")})
	}
	a.Send([]*raftpb.Message{heartbeatFrom(1, 2)})
	time.Sleep(time.Second)
	a.Send([]*raftpb.Message{heartbeatFrom(1, 3)})
	time.Sleep(readTime)
	if a.told(3) == 0 {
		st.wrong("raft is not told of a loss while it is busy with that of another member")
	}
	// A slice, not a map: the order must not differ between two runs of a seed.
	for _, method := range []struct {
		name string
		call func()
	}{
		{"Status", func() { a.Status() }},
		{"UpdatePeer", func() { a.UpdatePeer(2, []string{st.urlOf("b")}) }},
		{"CutPeer", func() { a.CutPeer(2) }},
		{"MendPeer", func() { a.MendPeer(2) }},
		{"RemovePeer", func() { a.RemovePeer(2) }},
	} {
		began := time.Now()
		method.call()
		if took := time.Since(began); took > 0 {
			st.wrong("%s waits %v while a callback about the member runs", method.name, took)
		}
	}
}

// playHooksInOrder: PeerState takes a minute, during which a snapshot is sent.
func playHooksInOrder(st *stage) {
	var told []string
	a := st.actor(1, "a", func(a *actor) {
		tell := func(what string) {
			a.mu.Lock()
			defer a.mu.Unlock()
			told = append(told, what)
		}
		a.Observer = &rafthttp.Observer{
			PeerState:        func(types.ID, bool, error) { time.Sleep(time.Minute) },
			SnapshotProgress: func(rafthttp.SnapshotStatus) { tell("progress") },
			SnapshotSent:     func(types.ID, uint64, int64, time.Duration, error) { tell("sent") },
		}
	})
	b := st.actor(2, "b", func(b *actor) { b.Snapshotter = discarding{} })
	a.AddPeer(2, []string{st.urlOf("b")})
	b.AddPeer(1, []string{st.urlOf("a")})
	time.Sleep(time.Second)
	st.net.Link(st.host("a"), st.host("b")).SetBandwidth(100 << 10)
	size := 1 << 20
	a.SendSnapshot(snap.NewMessage(st.snapshot(1, 2, 5), io.NopCloser(bytes.NewReader(make([]byte, size))), int64(size)))
	time.Sleep(2 * time.Minute)
	a.mu.Lock()
	defer a.mu.Unlock()
	if !slices.Equal(told, []string{"progress", "sent"}) {
		st.wrong("hooks about a snapshot come as %q", told)
	}
}

// playIdle: two members are connected and send no messages.
func playIdle(st *stage) {
	a, b := st.actor(1, "a", nil), st.actor(2, "b", nil)
	time.Sleep(time.Minute)
	before := stacks.InBubble()
	a.AddPeer(2, []string{st.urlOf("b")})
	b.AddPeer(1, []string{st.urlOf("a")})
	time.Sleep(40 * time.Second)
	if n := stacks.InBubble() - before; n > 2*4 {
		st.wrong("two idle members have %d goroutines more than before they were peers", n)
	}
}

// playBurst: many small messages are sent at once.
func playBurst(st *stage) {
	n, appends := 200+st.IntN(1500), st.IntN(3) == 0
	a, b := st.actor(1, "a", nil), st.actor(2, "b", nil)
	a.AddPeer(2, []string{st.urlOf("b")})
	b.AddPeer(1, []string{st.urlOf("a")})
	time.Sleep(time.Second)
	msgs := make([]*raftpb.Message, n)
	for i := range msgs {
		if appends {
			msgs[i] = st.appendOf(1, 2, uint64(i)+1, 1)
			continue
		}
		msgs[i] = heartbeatFrom(1, 2)
		msgs[i].Commit = new(uint64(i))
	}
	a.Send(msgs)
	time.Sleep(time.Second)
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, m := range b.got {
		if m.GetIndex()+m.GetCommit() != uint64(i) { // an append has the one, a heartbeat the other
			st.wrong("message %d of %d that were sent at once is processed behind %d others", m.GetIndex()+m.GetCommit(), n, i)
			return
		}
	}
	if len(b.got) != n {
		st.wrong("of %d messages that were sent at once %d are processed", n, len(b.got))
	}
}

// playHalfOpen: connections die without a word. Who reads dials again, and the stream takes the place of one that its writer knows
// nothing bad of.
func playHalfOpen(st *stage) {
	a, b := st.actor(1, "a", nil), st.actor(2, "b", nil)
	a.AddPeer(2, []string{st.urlOf("b")})
	b.AddPeer(1, []string{st.urlOf("a")})
	time.Sleep(time.Second)
	sent := uint64(0)
	send := func(n int) {
		for range n {
			m := heartbeatFrom(1, 2)
			m.Commit = new(sent)
			sent++
			a.Send([]*raftpb.Message{m})
			time.Sleep(100 * time.Millisecond)
		}
	}
	send(10)
	st.net.Link(st.host("a"), st.host("b")).HalfOpen()
	st.net.Link(st.host("b"), st.host("a")).HalfOpen()
	send(10 + st.IntN(20))
	time.Sleep(2 * readTime)
	b.mu.Lock()
	came := uint64(len(b.got))
	b.mu.Unlock()
	if told := a.told(2); came < sent && told == 0 {
		st.wrong("%d of %d messages are lost with streams that were replaced, and raft is not told", sent-came, sent)
	}
	send(5)
	b.mu.Lock()
	defer b.mu.Unlock()
	if n := uint64(len(b.got)); n != came+5 {
		st.wrong("of 5 messages %d are processed once the streams were replaced", n-came)
	}
}
