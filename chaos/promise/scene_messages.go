package promise

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/seed-4d73690b/rafthttp/internal/wire"
	"github.com/seed-4d73690b/rafthttp/snap"
)

// anyMessage returns a message as raft may send it, with a number in Commit: of any type that is for others, with fields that it
// has or not, and with any number of entries. Those of appends follow those of the last, mostly.
func (st *stage) anyMessage(number uint64, last *uint64) *raftpb.Message {
	typ := []raftpb.MessageType{
		raftpb.MsgApp, raftpb.MsgApp, raftpb.MsgApp, raftpb.MsgProp, raftpb.MsgAppResp, raftpb.MsgVote, raftpb.MsgVoteResp, raftpb.MsgHeartbeat,
		raftpb.MsgHeartbeatResp, raftpb.MsgReadIndex, raftpb.MsgReadIndexResp, raftpb.MsgPreVote, raftpb.MsgPreVoteResp, raftpb.MsgTransferLeader, raftpb.MsgTimeoutNow,
	}[st.IntN(15)]
	m := &raftpb.Message{Type: typ.Enum(), From: new(uint64(1)), To: new(uint64(2)), Term: new(uint64(3)), Commit: new(number)}
	maybe := func(set func()) {
		if st.IntN(3) == 0 {
			set()
		}
	}
	if typ != raftpb.MsgApp || st.IntN(3) == 0 { // else it may go in the short form
		maybe(func() { m.Context = []byte{byte(number)} })
		maybe(func() { m.Reject, m.RejectHint = new(true), new(number+7) })
		maybe(func() { m.Vote = new(number + 9) })
	}
	switch typ {
	case raftpb.MsgApp:
		maybe(func() { *last += uint64(st.IntN(3)) })
		m.Index, m.LogTerm = new(*last), new(uint64(3))
	case raftpb.MsgProp:
	default:
		m.Index, m.LogTerm = new(number+11), new(number+13)
		return m
	}
	for range st.IntN(5) {
		e := &raftpb.Entry{Data: st.book.content(number, 1+st.IntN(3000))}
		if typ == raftpb.MsgApp {
			*last++
			e.Index, e.Term = new(*last), new(uint64(3))
		}
		maybe(func() { e.Type = raftpb.EntryConfChangeV2.Enum() })
		m.Entries = append(m.Entries, e)
	}
	return m
}

// playEveryField: messages of all types, with all that they can have, by streams or by posts.
func playEveryField(st *stage) {
	const n = 60
	var got [n + 1]atomic.Pointer[raftpb.Message]
	a, last := st.actor(1, "a", nil), uint64(st.IntN(2))
	b := st.actor(2, "b", func(b *actor) {
		b.process = func(m *raftpb.Message) error {
			if number := m.GetCommit(); number > n || !got[number].CompareAndSwap(nil, proto.CloneOf(m)) {
				st.wrong("a message is processed that was not sent, or twice: %v", m)
			}
			return nil
		}
	})
	a.AddPeer(2, []string{st.urlOf("b")})
	if st.IntN(4) > 0 { // else it is all posted
		b.AddPeer(1, []string{st.urlOf("a")})
		time.Sleep(time.Second)
	}
	var sent []*raftpb.Message
	for number := range uint64(n) {
		m := st.anyMessage(number+1, &last)
		sent = append(sent, proto.CloneOf(m))
		a.Send([]*raftpb.Message{m})
	}
	time.Sleep(3 * time.Second)
	for i, want := range sent {
		if m := got[i+1].Load(); m == nil || !proto.Equal(m, want) {
			st.wrong("%v was sent, and this processed: %v", want, m)
		}
	}
}

// playDistrusted: VerifyPeer of one member refuses another, whose certificate is good, from the beginning or later.
func playDistrusted(st *stage) {
	ca := st.authority("authority")
	recheck := time.Duration(1+st.IntN(5)) * time.Second
	var refuses atomic.Bool
	refuses.Store(st.IntN(2) == 0)
	a := st.secured(ca, func(a *actor) {
		a.TLSRecheck, a.Snapshotter = recheck, discarding{}
		a.VerifyPeer = func(id types.ID, _ *tls.ConnectionState) error {
			if refuses.Load() && id == 2 {
				return errors.New("it is not trusted")
			}
			return nil
		}
	})
	var requests atomic.Int64 // of a to b
	st.serveTLS(ca, "b", func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		http.NotFound(w, r)
	})
	a.AddPeer(2, []string{"https://" + st.host("b") + ":80"})
	cert := ca.pair("b", "b")
	// ask makes a request of b, and expects a status, and that so many messages were processed.
	ask := func(method, path string, body []byte, status, processed int) {
		c := st.client(cert)
		_, err := fmt.Fprintf(c, "%s %s HTTP/1.1\r\nHost: member\r\nX-Raft-To: 1\r\n%sContent-Length: %d\r\n\r\n%s", method, path, headers(2), len(body), body)
		st.must(err)
		got := answered(c, readTime)
		a.mu.Lock()
		defer a.mu.Unlock()
		if got != status || len(a.got) != processed {
			st.wrong("%s %s is answered %d, not %d, and %d messages are processed in all, not %d", method, path, got, status, len(a.got), processed)
		}
	}
	heartbeat, processed := wire.AppendMessage(nil, heartbeatFrom(2, 1)), 0
	if !refuses.Load() {
		processed = 1
		ask("POST", "/raft", heartbeat, http.StatusNoContent, processed)
		ask("POST", "/raft", wire.AppendMessage(nil, heartbeatFrom(3, 1)), http.StatusUnauthorized, processed) // of another member
		refuses.Store(true)
		time.Sleep(recheck + time.Second)
		requests.Store(0)
	}
	ask("POST", "/raft", heartbeat, http.StatusUnauthorized, processed)
	ask("POST", "/raft/snapshot", headOf(st.snapshot(2, 1, 5)), http.StatusUnauthorized, processed)
	ask("GET", "/raft/stream/message/2", nil, http.StatusForbidden, processed)
	a.Send([]*raftpb.Message{heartbeatFrom(1, 2)})
	a.SendSnapshot(snap.NewMessage(st.snapshot(1, 2, 6), io.NopCloser(bytes.NewReader(make([]byte, 10))), 10))
	time.Sleep(readTime)
	if n := requests.Load(); n > 0 {
		st.wrong("%d requests are made to a member that VerifyPeer refuses", n)
	}
}

// serveTLS serves a host of the scene, which has a certificate of the authority.
func (st *stage) serveTLS(ca *authorityOf, name string, h http.HandlerFunc) {
	ln, err := st.net.Host(st.host(name)).Listen("80")
	st.must(err)
	cfg := &tls.Config{Certificates: []tls.Certificate{ca.pair(name+"-server", st.host(name))}, MinVersion: tls.VersionTLS12}
	st.serveOn(tls.NewListener(ln, cfg), &http.Server{Handler: h, ErrorLog: log.New(io.Discard, "", 0), ReadHeaderTimeout: time.Minute})
}

// playFullLane: Process is slow with appends, of which more come than their lane holds.
func playFullLane(st *stage) {
	n, slow := 150+st.IntN(100), time.Duration(1+st.IntN(30))*time.Millisecond
	a := st.actor(1, "a", nil)
	b := st.actor(2, "b", func(b *actor) {
		b.ReceiveQueueMessages = 16 + st.IntN(48)
		b.process = func(m *raftpb.Message) error {
			if m.GetType() == raftpb.MsgApp {
				time.Sleep(slow)
			}
			return nil
		}
	})
	a.AddPeer(2, []string{st.urlOf("b")})
	b.AddPeer(1, []string{st.urlOf("a")})
	time.Sleep(time.Second)
	msgs := make([]*raftpb.Message, n)
	for i := range msgs {
		index := uint64(i)
		msgs[i] = &raftpb.Message{
			Type: raftpb.MsgApp.Enum(), From: new(uint64(1)), To: new(uint64(2)), Term: new(uint64(1)), Index: new(index), LogTerm: new(uint64(1)),
			Entries: []*raftpb.Entry{{Index: new(index + 1), Term: new(uint64(1)), Data: st.book.content(index, 100)}},
		}
	}
	a.Send(msgs)
	time.Sleep(time.Duration(n)*slow + time.Second)
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, m := range b.got {
		if m.GetIndex() != uint64(i) {
			st.wrong("append %d is processed behind %d others", m.GetIndex(), i)
			return
		}
	}
	if len(b.got) != n {
		st.wrong("of %d appends %d are processed, by a Process that takes %v for each", n, len(b.got), slow)
	}
}
