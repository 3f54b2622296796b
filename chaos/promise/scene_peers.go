package promise

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/internal/wire"
	"github.com/seed-4d73690b/rafthttp/snap"
)

// other is the id of who is no transport.
const other = 9

func heartbeatFrom(from, to uint64) *raftpb.Message {
	return &raftpb.Message{Type: raftpb.MsgHeartbeat.Enum(), From: new(from), To: new(to), Term: new(uint64(1))}
}

// asMember has an answer be one of the cluster.
func asMember(w http.ResponseWriter) {
	w.Header().Set("X-Etcd-Cluster-ID", cluster.String())
	w.Header().Set("X-Server-Version", "3.7.0")
}

const postsAtOnce = 4 // of one kind

// playCut: somebody takes posts only, and holds them; CutPeer drops those that wait behind.
func playCut(st *stage) {
	var posts atomic.Int64
	held := make(chan struct{})
	st.serve("other", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		asMember(w)
		if r.URL.Path != "/raft" {
			http.NotFound(w, r)
			return
		}
		posts.Add(1)
		<-held
		w.WriteHeader(http.StatusNoContent)
	})
	a := st.actor(1, "a", nil)
	if st.IntN(2) == 0 {
		a.AddPeer(other, []string{st.urlOf("other")})
	} else {
		a.AddRemote(other, []string{st.urlOf("other")})
	}
	send := func(n int) {
		for range n {
			a.Send([]*raftpb.Message{heartbeatFrom(1, other)})
		}
		time.Sleep(time.Second)
	}
	send(10 + st.IntN(40))
	a.CutPeer(other)
	close(held)
	time.Sleep(time.Second)
	if n := posts.Load(); n == 0 || n > postsAtOnce {
		st.wrong("%d messages arrive that were sent before CutPeer, of which %d can be under way", n, postsAtOnce)
	}
	before := posts.Load()
	send(10)
	if n := posts.Load() - before; n > 0 {
		st.wrong("%d messages arrive that were sent after CutPeer", n)
	}
	a.MendPeer(other)
	send(3)
	if n := posts.Load() - before; n != 3 {
		st.wrong("%d of 3 messages arrive that were sent after MendPeer", n)
	}
}

// playSilentStream: the answer to a dial is there, and nothing behind it.
func playSilentStream(st *stage) {
	st.serve("other", func(w http.ResponseWriter, r *http.Request) {
		asMember(w)
		if strings.HasPrefix(r.URL.Path, "/raft/stream/") {
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}
	})
	a := st.actor(1, "a", nil)
	a.AddPeer(other, []string{st.urlOf("other")})
	for range 20 {
		time.Sleep(time.Second / 2)
		if !a.ActiveSince(other).IsZero() {
			st.wrong("a peer of which not one byte came is active")
		}
	}
}

// playShortStreams: each stream brings a link heartbeat, and ends.
func playShortStreams(st *stage) {
	var dials atomic.Int64
	st.serve("other", func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.Path, "/raft/stream/") {
			http.NotFound(w, r)
			return
		}
		dials.Add(1)
		asMember(w)
		enc := wire.NewMessageEncoder()
		if strings.HasPrefix(r.URL.Path, "/raft/stream/msgapp/") {
			enc = wire.NewMsgAppV2Encoder()
		}
		var b wire.Batch
		enc.AppendLinkHeartbeat(&b)
		_, _ = b.WriteTo(w)
	})
	a := st.actor(1, "a", nil)
	a.AddPeer(other, []string{st.urlOf("other")})
	time.Sleep(20 * time.Second)
	// Ten a second at first, and then one, for each of the two streams.
	if n := dials.Load(); n > 60 {
		st.wrong("a peer that ends its streams at once was dialled %d times in 20 s", n)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for message, n := range a.lines {
		if n > 3*memberLines/2 { // in a third of a minute
			st.wrong("of a peer that ends its streams at once %q is logged %d times in 20 s", message, n)
		}
	}
}

// playLastState: a peer is active by a post, and removed.
func playLastState(st *stage) {
	a := st.actor(1, "a", nil)
	a.AddPeer(other, []string{st.urlOf("nobody")})
	body := wire.AppendMessage(nil, heartbeatFrom(other, 1))
	c := st.dial()
	st.begin(c, "/raft", other, len(body), body)
	if status := answered(c, time.Second); status != http.StatusNoContent {
		st.wrong("a post is answered %d", status)
	}
	time.Sleep(time.Duration(st.IntN(4000)) * time.Millisecond)
	a.RemovePeer(other)
	time.Sleep(time.Second)
	a.mu.Lock()
	defer a.mu.Unlock()
	if states := a.states[other]; !slices.Equal(states, []bool{true, false}) {
		st.wrong("PeerState of a peer that has posted, and was removed, is %v", states)
	}
}

// hanging is a reader whose Close takes a while.
type hanging struct {
	io.Reader
	d      time.Duration
	closes *atomic.Int64
}

// Close implements io.Closer.
func (h hanging) Close() error {
	h.closes.Add(1)
	time.Sleep(h.d)
	return errors.New("of no interest")
}

// playNobody: a snapshot for a member that is none.
func playNobody(st *stage) {
	const hang = 20 * time.Second
	a := st.actor(1, "a", nil)
	var closes atomic.Int64
	for i, d := range []time.Duration{0, hang} {
		m := snap.NewMessage(st.snapshot(1, other, uint64(i)+1), hanging{bytes.NewReader(make([]byte, 10)), d, &closes}, 10)
		began := time.Now()
		a.SendSnapshot(m)
		if took := time.Since(began); took > 0 {
			st.wrong("SendSnapshot takes %v", took)
		}
		time.Sleep(2*time.Second + time.Duration(st.IntN(1000))*time.Millisecond)
		if n := closes.Load(); n != int64(i)+1 {
			st.wrong("the readers of %d snapshots were closed %d times", i+1, n)
		}
		if all := a.reports(other); len(all) != i+1 || all[i] != raft.SnapshotFailure {
			st.wrong("%d snapshots for nobody are reported as %v", i+1, all)
		}
	}
	a.SendSnapshot(snap.NewMessage(st.snapshot(1, other, 3), hanging{bytes.NewReader(nil), hang, &closes}, 0))
	began := time.Now()
	a.Stop()
	if took := time.Since(began); took > 3*time.Second {
		st.wrong("Stop waits %v for a Close that hangs", took)
	}
	time.Sleep(2 * hang)
}

// playPlaces: more snapshots one after another than there are places, and some that fail.
func playPlaces(st *stage) {
	places := func(a *actor) { a.MaxSnapshots, a.Snapshotter = 1+st.IntN(2), discarding{} }
	a, b := st.actor(1, "a", places), st.actor(2, "b", places)
	a.AddPeer(2, []string{st.urlOf("b")})
	b.AddPeer(1, []string{st.urlOf("a")})
	for i := range uint64(8) {
		size := int64(100 + st.IntN(100_000))
		declared := size
		if i < 4 && st.IntN(2) == 0 {
			declared++ // which fails
		}
		m := snap.NewMessage(st.snapshot(1, 2, i+1), io.NopCloser(io.LimitReader(zeros{}, size)), declared)
		time.Sleep(2 * time.Second) // until the receiver has seen the end of the last one
		a.SendSnapshot(m)
		select {
		case ok := <-m.CloseNotify():
			if ok != (size == declared) {
				st.wrong("snapshot %d of 8 has ended, and whether it was sent is %t", i+1, ok)
			}
		case <-time.After(3 * readTime):
			st.wrong("snapshot %d of 8 has not ended after %v", i+1, 3*readTime)
			return
		}
	}
}

type zeros struct{}

// Read implements io.Reader.
func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// playSpread: many peers, all of them at one address, that only answer probes.
func playSpread(st *stage) {
	const peers = 64
	var mu sync.Mutex
	probes := map[time.Time]int{}
	st.serve("other", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/raft/probing" {
			http.NotFound(w, r)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		probes[time.Now()]++
		_, _ = io.WriteString(w, "{}")
	})
	a := st.actor(1, "a", nil)
	for i := range peers {
		a.AddPeer(types.ID(i+100), []string{st.urlOf("other")})
	}
	time.Sleep(3 * readTime)
	mu.Lock()
	defer mu.Unlock()
	for at, n := range probes {
		if n > peers/4 {
			st.wrong("%d of %d peers are probed at once, %v after the beginning of the run", n, peers, at.Sub(st.start))
		}
	}
	if len(probes) == 0 {
		st.wrong("no peer is probed")
	}
}
