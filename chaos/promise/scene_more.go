package promise

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/stacks"
	"github.com/seed-4d73690b/rafthttp/internal/wire"
)

// playTrickle: a stream brings a message that never ends, byte by byte.
func playTrickle(st *stage) {
	var longest atomic.Int64
	message := wire.AppendMessage(nil, st.appendOf(other, 1, 1, 64<<10))
	st.serve("other", func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.Path, "/raft/stream/message/") {
			http.NotFound(w, r)
			return
		}
		asMember(w)
		_, _ = w.Write(binary.BigEndian.AppendUint64(nil, uint64(len(message))))
		began := time.Now()
		for i := 0; r.Context().Err() == nil; i++ {
			_, _ = w.Write(message[i : i+1])
			_ = http.NewResponseController(w).Flush()
			time.Sleep(200 * time.Millisecond)
			longest.Store(max(longest.Load(), int64(time.Since(began))))
		}
	})
	a := st.actor(1, "a", nil)
	a.AddPeer(other, []string{st.urlOf("other")})
	time.Sleep(6 * readTime)
	if d := time.Duration(longest.Load()); d == 0 || d > 2*readTime+time.Second {
		st.wrong("a stream that brings five bytes a second lives for %v", d)
	}
}

// playSecondURL: the first URL of a peer, as they are sorted, leads nowhere.
func playSecondURL(st *stage) {
	a, b := st.actor(1, "a", nil), st.actor(2, "b", nil)
	a.AddPeer(2, []string{st.urlOf("0nobody"), st.urlOf("b")})
	b.AddPeer(1, []string{st.urlOf("0nobody"), st.urlOf("a")})
	time.Sleep(3 * time.Second)
	if a.ActiveSince(2).IsZero() || b.ActiveSince(1).IsZero() {
		st.wrong("peers whose second URL is the right one are not active")
	}
}

// appendOf returns an append with an entry of so many bytes.
func (st *stage) appendOf(from, to, index uint64, size int) *raftpb.Message {
	return &raftpb.Message{
		Type: raftpb.MsgApp.Enum(), From: new(from), To: new(to), Term: new(uint64(1)), LogTerm: new(uint64(1)), Index: new(index - 1), Commit: new(uint64(0)),
		Entries: []*raftpb.Entry{{Term: new(uint64(1)), Index: new(index), Data: st.book.content(index, size)}},
	}
}

// playLateProcess: Process goes on for a moment after its context has ended.
func playLateProcess(st *stage) {
	var calls atomic.Int64
	a := st.actor(1, "a", func(a *actor) {
		a.process = func(*raftpb.Message) error {
			calls.Add(1)
			defer calls.Add(-1)
			time.Sleep(300 * time.Millisecond)
			return nil
		}
	})
	b := st.actor(2, "b", nil)
	a.AddPeer(2, []string{st.urlOf("b")})
	b.AddPeer(1, []string{st.urlOf("a")})
	for range 20 {
		b.Send([]*raftpb.Message{heartbeatFrom(2, 1)})
		time.Sleep(100 * time.Millisecond)
	}
	a.Stop()
	if n := calls.Load(); n > 0 {
		st.wrong("%d calls of Process run when Stop returns", n)
	}
}

// playLateAnswer: a probe is answered late, and the time in the answer is that of its arrival.
func playLateAnswer(st *stage) {
	late := 2500*time.Millisecond + time.Duration(st.IntN(2000))*time.Millisecond
	st.serve("other", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/raft/probing" {
			http.NotFound(w, r)
			return
		}
		now := time.Now()
		time.Sleep(late)
		_ = json.NewEncoder(w).Encode(struct {
			OK  bool
			Now time.Time
		}{true, now})
	})
	a := st.actor(1, "a", nil)
	a.AddPeer(other, []string{st.urlOf("other")})
	time.Sleep(4 * readTime)
	if a.Status().Peers[0].ProbedAt.IsZero() {
		st.wrong("there was no answer to a probe")
	}
	if a.said("the clock of the peer differs from ours") > 0 {
		st.wrong("a clock that is right is warned of, since an answer was %v late", late)
	}
}

// playHalfBundle: a bundle of two authorities is written, and half of it is there for some time.
func playHalfBundle(st *stage) {
	first, second := st.authority("first"), st.authority("second")
	one, err := os.ReadFile(filepath.Join(first.dir, "ca.pem"))
	st.must(err)
	two, err := os.ReadFile(filepath.Join(second.dir, "ca.pem"))
	st.must(err)
	first.write("ca.pem", append(one, two...))
	const recheck = time.Second
	b := st.actor(2, "b", nil) // and once more, behind TLS
	ln, err := st.net.Host(st.host("b")).Listen("443")
	st.must(err)
	if err != nil {
		return
	}
	st.serveOn(tls.NewListener(ln, &tls.Config{Certificates: []tls.Certificate{second.pair("b", st.host("b"))}, MinVersion: tls.VersionTLS12}), rafthttp.NewServer(b.Handler()))
	a := st.actor(1, "a", func(a *actor) { a.TLSInfo, a.TLSRecheck = first.info("a"), recheck })
	b.AddPeer(1, []string{st.urlOf("nobody")})
	a.AddPeer(2, []string{"https://" + st.host("b") + ":443"})
	time.Sleep(2 * time.Second)
	since := a.ActiveSince(2)
	if since.IsZero() {
		st.wrong("a peer of the second authority is not active")
	}
	first.write("ca.pem", append(one, two[:1+st.IntN(len(two)-30)]...))
	time.Sleep(6 * recheck)
	if !a.ActiveSince(2).Equal(since) {
		st.wrong("a peer is cut since a bundle of authorities is half written: %v", a.Status().Peers[0].LastError)
	}
}

// playNoStream: a middleware that can flush, and nothing else.
func playNoStream(st *stage) {
	a := st.newActor(1, "a", nil)
	st.must(a.Start())
	st.atEnd(a.Stop)
	a.AddPeer(other, []string{st.urlOf("nobody")})
	st.serve("a", func(w http.ResponseWriter, r *http.Request) {
		a.Handler().ServeHTTP(struct {
			http.ResponseWriter
			http.Flusher
		}{w, w.(http.Flusher)}, r)
	})
	c := st.dial()
	_, err := io.WriteString(c, "GET /raft/stream/message/9 HTTP/1.1\r\nHost: member\r\nX-Raft-To: 1\r\n"+headers(other)+"\r\n")
	st.must(err)
	if status := answered(c, readTime); status != http.StatusNotImplemented {
		st.wrong("a stream whose writes cannot be bounded is answered %d", status)
	}
}

// playSlowLine: messages take longer than any timeout, and move.
func playSlowLine(st *stage) {
	const rate = 64 << 10
	a, b := st.actor(1, "a", nil), st.actor(2, "b", nil)
	st.net.Link(st.host("a"), st.host("b")).SetBandwidth(rate)
	size, n := 450<<10+st.IntN(100<<10), 3
	if st.IntN(2) == 0 {
		a.AddPeer(2, []string{st.urlOf("b")})
		b.AddPeer(1, []string{st.urlOf("a")})
	} else { // by post
		a.AddRemote(2, []string{st.urlOf("b")})
		size, n = 1<<20, 1
	}
	time.Sleep(3 * time.Second)
	a.mu.Lock()
	clear(a.unreachable)
	a.mu.Unlock()
	for i := range n {
		a.Send([]*raftpb.Message{st.appendOf(1, 2, uint64(i)+1, size)})
	}
	time.Sleep(time.Duration(n*size/rate)*time.Second*3/2 + 2*time.Second)
	a.mu.Lock()
	reports := a.unreachable[2]
	a.mu.Unlock()
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.got) != n || reports > 0 {
		st.wrong("%d of %d messages of %d bytes arrive at %d bytes a second; raft was told %d times of the peer", len(b.got), n, size, rate, reports)
	}
}

// playLongCut: two members do not reach each other for minutes.
func playLongCut(st *stage) {
	a, b := st.actor(1, "a", nil), st.actor(2, "b", nil)
	a.AddPeer(2, []string{st.urlOf("b")})
	b.AddPeer(1, []string{st.urlOf("a")})
	time.Sleep(2 * time.Second)
	there, back := st.net.Link(st.host("a"), st.host("b")), st.net.Link(st.host("b"), st.host("a"))
	there.Cut()
	back.Cut()
	cut := 2*time.Minute + time.Duration(st.IntN(60_000))*time.Millisecond
	time.Sleep(cut)
	there.Mend()
	back.Mend()
	time.Sleep(recovery + synTimeout)
	for _, x := range []*actor{a, b} {
		for _, stream := range x.Status().Peers[0].Streams {
			if !stream.Up {
				st.wrong("after a cut of %v the stream %s, %s, is not up again in %v", cut, stream.Name, stream.Direction, recovery+synTimeout)
			}
		}
	}
}

// playResets: connections are reset, again and again.
func playResets(st *stage) {
	var open atomic.Int64
	observed := func(a *actor) {
		dial := a.DialContext
		a.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
			c, err := dial(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			open.Add(1)
			return counting(c, func() { open.Add(-1) }), nil
		}
	}
	a, b := st.actor(1, "a", observed), st.actor(2, "b", observed)
	a.AddPeer(2, []string{st.urlOf("b")})
	b.AddPeer(1, []string{st.urlOf("a")})
	time.Sleep(2 * readTime)
	before, conns := stacks.InBubble(), open.Load()
	const resets, more = 30, 15
	for range resets {
		st.net.Reset(st.host("a"), st.host("b"))
		time.Sleep(1500 * time.Millisecond)
	}
	time.Sleep(2 * readTime)
	if now, left := stacks.InBubble(), open.Load(); now > before+more || left > conns+more {
		stacks := make([]byte, 1<<20)
		st.note("%s", stacks[:runtime.Stack(stacks, true)])
		st.wrong("%d resets later there are %d goroutines in place of %d, and %d connections in place of %d", resets, now, before, left, conns)
	}
}
