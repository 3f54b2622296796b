package promise

import (
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
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
		a.Send([]*raftpb.Message{proposalOf(1, other, []byte("x"))})
		time.Sleep(time.Duration(st.IntN(2)) * 100 * time.Millisecond)
	}
	time.Sleep(time.Second)
	ends.Store(true)
	told := a.told(other)
	a.Send([]*raftpb.Message{proposalOf(1, other, []byte("y"))})
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
	a := st.actor(1, "a", func(a *actor) { a.busy = func() { <-free } })
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
