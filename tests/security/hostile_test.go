package security_test

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/bubble"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/snap"
)

func says(text string) func(io.Writer) error {
	return func(w io.Writer) error { _, err := io.WriteString(w, text); return err }
}

func forever(begin, again string) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := io.WriteString(w, begin)
		again := strings.Repeat(again, 1000)
		for err == nil {
			_, err = io.WriteString(w, again)
		}
		return err
	}
}

// TestHostileServers: what a peer answers costs its own connection, and that is
// dialled again; other peers do not notice.
func TestHostileServers(t *testing.T) {
	const ok = "HTTP/1.1 200 OK\r\nX-Server-Version: 3.7.0\r\n"
	tests := []struct {
		name   string
		say    func(io.Writer) error
		silent bool
		err    string // in Status; of either stream
		is     error
	}{
		{name: "not HTTP", say: says("SSH-2.0-x\r\n\r\n"), err: "malformed HTTP"},
		{name: "closes at once", say: says(""), err: "EOF"},
		{name: "says nothing", say: says(""), silent: true, err: rafthttp.ErrStalled.Error()},
		{name: "half a head", say: says("HTTP/1.1 200 OK\r\nX-Ser"), silent: true, err: "stream of 3"},
		{name: "malformed version", say: says("HTTP/1.1 200 OK\r\nX-Server-Version: 3.x.y\r\n\r\n"), err: "not a semantic version"},
		{name: "long version", say: says("HTTP/1.1 200 OK\r\nX-Server-Version: " + strings.Repeat("1", 1000) + "\r\n\r\n"), err: "not a semantic version"},
		{name: "no version", say: says("HTTP/1.1 200 OK\r\n\r\n"), err: "server version 2.0: incompatible version"},
		{name: "old version", say: says("HTTP/1.1 200 OK\r\nX-Server-Version: 2.0.9\r\n\r\n"), err: "server version 2.0: incompatible version"},
		{name: "endless head", say: forever("HTTP/1.1 200 OK\r\n", "X-More: and more\r\n"), err: "head of the answer is over 65536 bytes"},
		{name: "endless line", say: forever("HTTP/1.1 200 OK\r\nX-More: ", "and more"), err: "head of the answer is over 65536 bytes"},
		{name: "endless refusal", say: forever("HTTP/1.1 412 Precondition Failed\r\n\r\n", "no! "), err: "412"},
		{name: "endless chunked refusal", say: forever("HTTP/1.1 500 No\r\nTransfer-Encoding: chunked\r\n\r\n", "3\r\nno!\r\n"), err: "unexpected http status 500"},
		{name: "refusal that stalls", say: says("HTTP/1.1 500 No\r\nContent-Length: 9\r\n\r\nno"), silent: true, err: "500: no"},
		{name: "continue", say: says("HTTP/1.1 100 Continue\r\n\r\n"), err: "unexpected http status 100"},
		{name: "redirect", say: says("HTTP/1.1 302 Found\r\nLocation: http://b:80/\r\n\r\n"), err: "unexpected http status 302"},
		{name: "body that ends", say: says(ok + "Content-Length: 0\r\n\r\n"), err: "the peer closed the stream"},
		{name: "gzip", say: says(ok + "Content-Encoding: gzip\r\n\r\n\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff" + strings.Repeat("x", 100)), err: "stream of 3"},
		{name: "garbage", say: forever(ok+"\r\n", "\xff"), err: "stream of 3"},
		{name: "bad chunks", say: says(ok + "Transfer-Encoding: chunked\r\n\r\nzz\r\n"), err: "invalid byte in chunk length"},
		{name: "stream that stalls", say: says(ok + "\r\n"), silent: true, err: rafthttp.ErrStalled.Error()},
		{name: "stream that stalls in a message", say: says(ok + "\r\n\x00\x00"), silent: true, err: rafthttp.ErrStalled.Error()},
		{name: "truncated message", say: says(ok + "\r\n\x00\x00\x00"), err: "stream of 3"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				p := testmember.NewPair(t, func(tr *rafthttp.Transport) { tr.ReadTimeout = time.Second }, func(tr *rafthttp.Transport) { tr.ReadTimeout = time.Second })
				time.Sleep(time.Second)
				active := p.A.ActiveSince(2)
				require.NotZero(t, active)
				url, requests := p.Script(t, tc.say, tc.silent)
				p.A.AddPeer(3, []string{url})
				time.Sleep(20 * time.Second)
				require.GreaterOrEqual(t, requests.Load(), int32(4), "dialled again")
				st := p.A.Status().Peers[1]
				require.Contains(t, st.LastError, tc.err)
				require.Less(t, len(st.LastError), 1000)

				p.A.Send([]*raftpb.Message{testmember.Heartbeat(2, 1, 1)})
				synctest.Wait()
				require.Len(t, p.B.Recorder.Received(), 1)
				require.Equal(t, active, p.A.ActiveSince(2))
				require.Empty(t, p.A.Recorder.Received())
			})
		})
	}
}

// A member that cannot hijack sends its streams in chunks, and may say how long
// they are.
func TestStreamBodies(t *testing.T) {
	m := testmember.Heartbeat(1, 3, 5)
	frame := string(testmember.LengthPrefixBytes(uint64(len(testmember.Marshal(t, m))))) + string(testmember.Marshal(t, m))
	tests := []struct{ name, head, body string }{
		{"plain", "", frame + frame},
		{"declared", fmt.Sprintf("Content-Length: %d\r\n", 2*len(frame)), frame + frame},
		{"chunk for each", "Transfer-Encoding: chunked\r\n", fmt.Sprintf("%x\r\n%s\r\n%[1]x\r\n%[2]s\r\n", len(frame), frame)},
		{"cut anywhere", "Transfer-Encoding: chunked\r\n", fmt.Sprintf("1\r\n%s\r\n%x\r\n%s\r\n0\r\n\r\n", frame[:1], 2*len(frame)-1, frame[1:]+frame)},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				p := testmember.NewPair(t, func(tr *rafthttp.Transport) { tr.DialRetryFrequency = 1e-3 }, nil)
				url, _ := p.Script(t, says("HTTP/1.1 200 OK\r\nX-Server-Version: 3.4.0\r\n"+tc.head+"\r\n"+tc.body), false)
				p.A.AddPeer(3, []string{url})
				synctest.Wait()
				require.Len(t, p.A.Recorder.Received(), 2)
				for _, got := range p.A.Recorder.Received() {
					require.EqualValues(t, 5, got.GetCommit())
				}
			})
		})
	}
}

// Hostile answers to posts and snapshots.
func TestHostileAnswersToPosts(t *testing.T) {
	tests := []struct {
		name   string
		say    func(io.Writer) error
		silent bool
	}{
		{"endless head", forever("HTTP/1.1 204 No Content\r\n", "X-More: and more\r\n"), false},
		{"endless refusal", forever("HTTP/1.1 412 No\r\n\r\n", "no! "), false},
		{"wrong status", says("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), false},
		{"nothing", says(""), true},
		{"half a head", says("HTTP/1.1 2"), true},
		{"not HTTP", says("\x00\x00\x00"), false},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				p := testmember.NewPair(t, func(tr *rafthttp.Transport) { tr.DialRetryFrequency = 1e-3 }, nil)
				url, _ := p.Script(t, tc.say, tc.silent)
				p.A.AddPeer(3, []string{url})
				p.A.Send([]*raftpb.Message{testmember.Heartbeat(3, 1, 1)})
				db := &testmember.Database{Reader: strings.NewReader("db")}
				m := testmember.NewSnapshot(db, 2)
				m.To = new(uint64(3))
				p.A.SendSnapshot(m)
				require.False(t, <-m.CloseNotify())
				require.Error(t, <-p.Sent)
				time.Sleep(time.Minute)
				require.NotZero(t, p.A.Recorder.Unreachables(3))
				require.Zero(t, p.A.Status().Peers[1].Lanes[2].Queued)
			})
		})
	}
}

// An answer that comes before the end of a snapshot is none.
func TestSnapshotAnsweredTooEarly(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		p := testmember.NewPair(t, func(tr *rafthttp.Transport) { tr.DialRetryFrequency = 1e-3 }, nil)
		answer := "HTTP/1.1 204 No Content\r\n\r\n"
		url, _ := p.Script(t, testmember.Conversation(answer, answer), true) // a probe, and then the snapshot
		p.A.AddPeer(3, []string{url})
		db := testmember.BlockingReader(testmember.RandomBytes(5))
		m := snap.NewMessage(testmember.MsgSnap(3, 1, 7), db, 10)
		p.A.SendSnapshot(m)
		require.ErrorContains(t, <-p.Sent, "before the end of the snapshot")
		testmember.RequireEnd(t, m, db, false, p.A.Recorder, raft.SnapshotFailure)
	})
}

// TestErrorC: the channel hears of the removal, and is never waited for.
func TestErrorC(t *testing.T) {
	channels := map[string]func() chan error{
		"nil":        func() chan error { return nil },
		"unbuffered": func() chan error { return make(chan error) },
		"full":       func() chan error { c := make(chan error, 1); c <- io.EOF; return c },
		"room":       func() chan error { return make(chan error, 1) },
	}
	for name, channel := range channels {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				c := channel()
				p := testmember.NewPair(t, func(tr *rafthttp.Transport) { tr.ErrorC = c }, func(tr *rafthttp.Transport) {
					b := tr.Raft.(*testmember.Recorder)
					b.Removed = func(id uint64) bool { return id == 3 }
					b.OnProcess = func(context.Context, *raftpb.Message) error { return rafthttp.ErrMemberRemoved }
				})
				errorC := channel()
				removed := p.Start(t, "c", 3, func(tr *rafthttp.Transport) { tr.ErrorC = errorC })
				removed.AddPeer(2, []string{p.B.URL})
				time.Sleep(time.Minute)
				// A post that is answered 403 says the same.
				p.A.UpdatePeer(2, []string{p.B.URL})
				p.A.Send([]*raftpb.Message{{Type: raftpb.MsgSnap.Enum(), To: new(uint64(2)), From: new(uint64(1))}})
				time.Sleep(time.Minute)
				switch name {
				case "room":
					require.ErrorIs(t, <-errorC, rafthttp.ErrMemberRemoved)
					require.ErrorIs(t, <-c, rafthttp.ErrMemberRemoved)
				case "full":
					require.Equal(t, io.EOF, <-c)
				}
			})
		})
	}
}

// TestBadClients: what strangers send to the handlers changes nothing for peers.
func TestBadClients(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		p := testmember.NewPair(t, nil, testmember.Receives(testmember.SavesAll))
		time.Sleep(time.Second)
		since := [2]time.Time{p.A.ActiveSince(2), p.B.ActiveSince(1)}
		bad := []string{
			"\x16\x03\x01\x00", "GET / HTTP/9.9\r\n\r\n", testmember.RequestHead("POST", "/raft", testmember.PeerHeader(nil), 1<<30),
			testmember.RequestHead("POST", "/raft", testmember.PeerHeader(nil), 5) + "\xff\xff\xff\xff\xff",
			testmember.RequestHead("POST", "/raft/snapshot", testmember.PeerHeader(nil), 50) + strings.Repeat("\xff", 50),
			testmember.RequestHead("POST", "/raft/snapshot", testmember.PeerHeader(map[string]string{"X-Server-From": "1"}), 50) + strings.Repeat("\x00", 50),
			testmember.RequestHead("GET", "/raft/stream/message/1", testmember.PeerHeader(map[string]string{"X-Server-From": "1", "X-Raft-To": "9"}), 0),
			testmember.RequestHead("GET", "/raft/stream/msgapp/9", testmember.PeerHeader(map[string]string{"X-PeerURLs": "::"}), 0),
			testmember.RequestHead("GET", "/raft/stream/msgapp/1", testmember.PeerHeader(map[string]string{"X-Server-Version": "....", "X-Server-From": "1"}), 0),
		}
		for _, text := range bad {
			for range 5 {
				c, err := p.Net.Host("c").DialContext(t.Context(), "tcp", "b:80")
				require.NoError(t, err)
				defer c.Close()
				_, err = io.WriteString(c, text)
				require.NoError(t, err)
			}
		}
		time.Sleep(time.Minute)
		p.A.Send([]*raftpb.Message{testmember.Heartbeat(2, 1, 1), testmember.MsgApp(2, 1, 1, nil)})
		p.B.Send([]*raftpb.Message{testmember.Heartbeat(1, 2, 1), testmember.MsgApp(1, 2, 1, nil)})
		synctest.Wait()
		require.Len(t, p.A.Recorder.Received(), 2)
		require.Len(t, p.B.Recorder.Received(), 2)
		require.Equal(t, since[0], p.A.ActiveSince(2))
		require.Equal(t, since[1], p.B.ActiveSince(1))
		for _, m := range []struct {
			*testmember.Member
			peer types.ID
		}{{p.A, 2}, {p.B, 1}} {
			require.Zero(t, m.Recorder.Unreachables(uint64(m.peer)), "no stream was lost")
			require.Zero(t, testmember.LaneOf(m.Member, m.peer, "pipeline").Messages)
		}
	})
}
