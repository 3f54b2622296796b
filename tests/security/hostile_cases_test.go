package security_test

import (
	"io"
	"math"
	"net"
	"strconv"
	"strings"
	"testing/synctest"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/internal/testmember"
)

// nested is a message in a message, and so on.
func nested(depth int) string {
	body := ""
	for range depth {
		body = "\x72" + varint(len(body)) + body // field 14, responses
	}
	return body
}

func varint(n int) string {
	var b []byte
	for ; n >= 0x80; n >>= 7 {
		b = append(b, byte(n)|0x80)
	}
	return string(append(b, byte(n)))
}

func hostileAttacks() (all []attack) {
	for _, group := range [][]attack{hostileHeads(), hostileHeaders(), hostileBodies(), hostileSnapshots(), hostileAnswers(), hostileFrames(), hostileStates()} {
		all = append(all, group...)
	}
	return all
}

func hostileHeads() []attack {
	head := testmember.RequestHead("POST", "/raft", enemyHeader(nil), 0)
	return []attack{
		{"silence", sends("")},
		{"TLS on a plain port", sends("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + strings.Repeat("\xaa", 500))},
		{"garbage", sends(strings.Repeat("\x00\xff\r\n", 1000))},
		{"HTTP 0.9", sends("GET /raft\r\n\r\n")},
		{"HTTP 9.9", sends("POST /raft HTTP/9.9\r\n\r\n")},
		{"HTTP/2 preface", sends("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + strings.Repeat("\x00\x00\x00\x04\x00\x00\x00\x00\x00", 100))},
		{"half a head", sends(head[:30])},
		{"head a byte a second", trickles("", head)},
		{"endless line", pours("POST /", "a", 64<<20)},
		{"endless header", pours("POST /raft HTTP/1.1\r\nX-A: ", "a", 64<<20)},
		{"endless headers", pours("POST /raft HTTP/1.1\r\n", "A: b\r\n", 64<<20)},
		{"header without a colon", sends(withHeader("no colon"))},
		{"two lengths", sends(withHeader("Content-Length: 5"))},
		{"negative length", sends(declared("/raft", "-1", ""))},
		{"length of many digits", sends(declared("/raft", strings.Repeat("9", 50), ""))},
		{"length and chunks", sends(strings.Replace(declared("/raft", "5", "hello"), "Content-Length", "Transfer-Encoding: chunked\r\nContent-Length", 1))},
		{"unknown encoding", sends(withHeader("Transfer-Encoding: gzip, chunked"))},
		{"waits for 100 and says no more", sends(strings.Replace(declared("/raft", "1000", ""), "\r\n", "\r\nExpect: 100-continue\r\n", 1))},
		{"wants another protocol", sends(strings.Replace(head, "\r\n", "\r\nConnection: upgrade\r\nUpgrade: h2c\r\n", 1))},
		{"wrong methods", func(h *hostile) {
			for _, m := range []string{"GET", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "HEAD"} {
				sends(m + " /raft HTTP/1.1\r\nHost: x\r\n\r\n")(h)
			}
		}},
		{"wrong paths", func(h *hostile) {
			for _, p := range []string{"/", "/raft/", "/raft/x", "/raft/stream", "/raft/stream/message/", "/raft/../raft/stream/message/1", "/raft/stream/message/1/2", "//raft", "/raft/stream/%2e%2e/1"} {
				asks("GET", p, nil, "")(h)
			}
		}},
	}
}

func hostileHeaders() []attack {
	good := testmember.Encode(testmember.Heartbeat(2, 3, 1))
	with := func(name, value string) func(*hostile) {
		return asks("POST", "/raft", map[string]string{name: value}, good)
	}
	urls := func(n int) string { return strings.TrimSuffix(strings.Repeat("http://10.0.0.1:80,", n), ",") }
	return []attack{
		{"version that is none", with("X-Server-Version", "3.x.y")},
		{"long version", with("X-Server-Version", strings.Repeat("1", 10_000))},
		{"version over 64 bits", with("X-Server-Version", "99999999999999999999.0.0")},
		{"minimum that is none", with("X-Min-Cluster-Version", "....")},
		{"version of the future as a minimum", with("X-Min-Cluster-Version", "9.0.0")},
		{"cluster that is none", with("X-Etcd-Cluster-Id", "xyz")},
		{"wrong cluster", with("X-Etcd-Cluster-Id", "1")},
		{"sender that is none", with("X-Server-From", "-1")},
		{"sender over 64 bits", with("X-Server-From", strings.Repeat("f", 17))},
		{"nobody", with("X-Server-From", "")},
		{"zero", with("X-Server-From", "0")},
		{"ourselves", with("X-Server-From", "2")},
		{"URLs that are none", with("X-PeerURLs", "::,:://")},
		{"a thousand URLs", with("X-PeerURLs", urls(1000))},
		{"long URLs", with("X-PeerURLs", "http://"+strings.Repeat("a", 20_000)+":80")},
		{"stream to another", asks("GET", "/raft/stream/message/1", map[string]string{"X-Server-From": "1", "X-Raft-To": "9"}, "")},
		{"stream to none", asks("GET", "/raft/stream/msgapp/1", map[string]string{"X-Server-From": "1", "X-Raft-To": "zz"}, "")},
		{"stream of a stranger", asks("GET", "/raft/stream/message/3", nil, "")},
		{"stream of two", asks("GET", "/raft/stream/message/1", nil, "")},
		{"stream with a body", asks("GET", "/raft/stream/message/3", nil, strings.Repeat("x", 10_000))},
	}
}

func hostileBodies() []attack {
	bomb := &raftpb.Message{Type: raftpb.MsgApp.Enum(), Entries: make([]*raftpb.Entry, 500_000)}
	for i := range bomb.Entries {
		bomb.Entries[i] = &raftpb.Entry{}
	}
	local := &raftpb.Message{Type: raftpb.MsgStorageAppendResp.Enum(), From: new(uint64(math.MaxUint64)), To: new(uint64(2))}
	post := func(body string) func(*hostile) { return asks("POST", "/raft", nil, body) }
	head := testmember.RequestHead("POST", "/raft", enemyHeader(nil), len(testmember.Encode(testmember.Heartbeat(2, 3, 1))))
	return []attack{
		{"empty body", post("")},
		{"garbage for a body", post(strings.Repeat("\xff", 1000))},
		{"field longer than the body", post("\x3a\xff\xff\xff\xff\x7f")},
		{"varint without an end", post(strings.Repeat("\x80", 1000))},
		{"deep message", post(nested(10_000))},
		{"small on the wire, large in memory", post(testmember.Encode(bomb))},
		{"word of a local thread", post(testmember.Encode(local))},
		{"gzip", sends(strings.Replace(declared("/raft", "1000", "\x1f\x8b\x08"+strings.Repeat("\x00", 997)), "\r\n", "\r\nContent-Encoding: gzip\r\n", 1))},
		{"length of a petabyte", sends(declared("/raft", strconv.FormatInt(1<<50, 10), "\x08\x08"))},
		{"less than declared, left open", sends(declared("/raft", "1000000", "\x08"))},
		{"less than declared, closed", func(h *hostile) {
			for range enemies {
				c := h.dial()
				_, _ = io.WriteString(c, declared("/raft", "1000000", "\x08"))
				_ = c.(interface{ CloseWrite() error }).CloseWrite()
			}
		}},
		{"body a byte a second", trickles(declared("/raft", "1000", ""), "\x08\x08")},
		{"chunks of no size", sends(chunked("/raft", "zz\r\n"))},
		{"chunk of all bytes there are", sends(chunked("/raft", "ffffffffffffffff\r\nxx"))},
		{"endless chunks", pours(chunked("/raft", ""), "100\r\n"+strings.Repeat("\x08", 256)+"\r\n", 64<<20)},
		{"endless chunks of a byte", pours(chunked("/raft", ""), "1\r\n\x08\r\n", 8<<20)},
		{"endless extension of a chunk", pours(chunked("/raft", "1;"), "a", 64<<20)},
		{"endless trailer", pours(chunked("/raft", "0\r\n"), "A: b\r\n", 64<<20)},
		{"replayed post", sends(strings.Repeat(head+testmember.Encode(testmember.Heartbeat(2, 3, 1)), 500))},
		{"a thousand requests at once", sends(strings.Repeat(testmember.RequestHead("POST", "/raft", enemyHeader(map[string]string{"X-Etcd-Cluster-Id": "9"}), 0), 100))},
		{"large bodies at once", func(h *hostile) {
			body := testmember.Encode(testmember.MsgApp(2, 3, 1, make([]byte, 3<<20)))
			text := []byte(declared("/raft", strconv.Itoa(len(body)), body[:len(body)-1]))
			for range enemies {
				c := h.dial()
				h.background(func() { _, _ = c.Write(text) })
			}
		}},
	}
}

func hostileSnapshots() []attack {
	app, snapshot := testmember.Encode(testmember.Heartbeat(2, 3, 1)), testmember.Encode(testmember.MsgSnap(2, 3, 7))
	empty := testmember.Encode(&raftpb.Message{Type: raftpb.MsgSnap.Enum()})
	post := func(body string) func(*hostile) { return asks("POST", "/raft/snapshot", nil, body) }
	local := testmember.MsgSnap(2, 3, 7)
	local.From = new(raft.LocalAppendThread)
	return []attack{
		{"snapshot: length of all bytes there are", post(testmember.LengthPrefix(math.MaxUint64))},
		{"snapshot: no length", post("\x00\x00")},
		{"snapshot: no message", post(testmember.LengthPrefix(0))},
		{"snapshot: another message", post(testmember.Frame(app))},
		{"snapshot: nothing in it", post(testmember.Frame(empty))},
		{"snapshot: of a local thread", post(testmember.Frame(testmember.Encode(local)) + "db")},
		{"snapshot: cut head", sends(declared("/raft/snapshot", "1000", testmember.LengthPrefix(500)+"\x08"))},
		{"snapshot: database that never comes", sends(declared("/raft/snapshot", "1000000", testmember.Frame(snapshot)))},
		{"snapshot: a byte a second", trickles(declared("/raft/snapshot", "1000000", testmember.Frame(snapshot)), "x")},
		{"snapshot: deep message", post(testmember.Frame(nested(10_000)))},
		{"snapshot: endless", pours(chunked("/raft/snapshot", "10000000000\r\n"+testmember.Frame(snapshot)), "database", 64<<20)},
		{"snapshot: strange offset", asks("POST", "/raft/snapshot", map[string]string{"X-Raft-Snapshot-Offset": "-9x"}, testmember.Frame(snapshot))},
	}
}

func hostileAnswers() []attack {
	const ok = "HTTP/1.1 200 OK\r\nX-Server-Version: 3.7.0\r\n"
	say := func(text string) func(*hostile) { return answers(func(w io.Writer) { _, _ = io.WriteString(w, text) }) }
	always := func(begin, again string) func(*hostile) {
		return answers(func(w io.Writer) { pour(w, begin, again, 8<<20) })
	}
	return []attack{
		{"server: silence", say("")},
		{"server: not HTTP", say("SSH-2.0-x\r\n\r\n")},
		{"server: a request", say("GET /raft/stream/message/2 HTTP/1.1\r\nHost: x\r\n\r\n")},
		{"server: half a head", say("HTTP/1.1 200 OK\r\nX-Ser")},
		{"server: endless head", always("HTTP/1.1 200 OK\r\n", "X-More: and more\r\n")},
		{"server: endless 1xx", always("", "HTTP/1.1 103 Early Hints\r\n\r\n")},
		{"server: endless refusal", always("HTTP/1.1 412 No\r\n\r\n", "no! ")},
		{"server: redirect", say("HTTP/1.1 302 Found\r\nLocation: http://m2:2380/\r\nContent-Length: 0\r\n\r\n")},
		{"server: malformed version", say("HTTP/1.1 200 OK\r\nX-Server-Version: " + strings.Repeat("9.", 1000) + "\r\n\r\n")},
		{"server: gzip", say(ok + "Content-Encoding: gzip\r\n\r\n\x1f\x8b\x08" + strings.Repeat("\x00", 1000))},
		{"server: bad chunks", say(ok + "Transfer-Encoding: chunked\r\n\r\nzz\r\n")},
		{"server: endless chunk extension", always(ok+"Transfer-Encoding: chunked\r\n\r\n1;", "a")},
		{"server: closes at once", answers(func(w io.Writer) { w.(io.Closer).Close() })},
	}
}

func hostileFrames() []attack {
	app := testmember.MsgApp(2, 3, 1, nil)
	app.Term, app.LogTerm = new(uint64(5)), new(uint64(9)) // never continued
	return []attack{
		{"message stream: length of all bytes there are", frames("message", testmember.LengthPrefix(math.MaxUint64), "x", 8<<20)},
		{"message stream: length at the limit, and no more", frames("message", testmember.LengthPrefix(4<<20), "", 0)},
		{"message stream: cut", frames("message", "\x00\x00\x00", "", 0)},
		{"message stream: garbage", frames("message", testmember.LengthPrefix(1000)+strings.Repeat("\xff", 1000), "x", 1<<20)},
		{"message stream: deep message", frames("message", testmember.Frame(nested(10_000)), "x", 1<<20)},
		{"message stream: flood", frames("message", "", testmember.Frame(testmember.Encode(testmember.Heartbeat(2, 3, 1))), 1<<20)},
		{"message stream: flood of another's", frames("message", "", testmember.Frame(testmember.Encode(&raftpb.Message{Type: raftpb.MsgHeartbeat.Enum(), From: new(uint64(math.MaxUint64))})), 1<<20)},
		{"message stream: flood of link heartbeats", frames("message", "", testmember.LengthPrefix(2)+"\x08\x08", 1<<20)},
		{"msgapp stream: unknown type", frames("msgapp", "\x07", "x", 1<<20)},
		{"msgapp stream: more entries than there can be", frames("msgapp", "\x01"+testmember.LengthPrefix(1<<60), testmember.LengthPrefix(0), 4<<20)},
		{"msgapp stream: entry of all bytes there are", frames("msgapp", "\x01"+testmember.LengthPrefix(1)+testmember.LengthPrefix(math.MaxUint64), "x", 4<<20)},
		{"msgapp stream: garbage for an entry", frames("msgapp", "\x01"+testmember.LengthPrefix(1)+testmember.LengthPrefix(4)+"\xff\xff\xff\xff", "x", 1<<20)},
		{"msgapp stream: bomb of empty entries", frames("msgapp", "\x01"+testmember.LengthPrefix(1<<20), testmember.LengthPrefix(0), 16<<20)},
		{"msgapp stream: replayed append", frames("msgapp", "", "\x02"+testmember.Frame(testmember.Encode(app)), 2<<20)},
		{"msgapp stream: whole message of no type", frames("msgapp", "\x02"+testmember.LengthPrefix(0), "\x00", 4<<20)},
	}
}

// hostileStates are attacks by what is done when, not by what is said.
func hostileStates() []attack {
	read := func(c net.Conn) { _, _ = io.CopyN(io.Discard, c, 20) }
	return []attack{
		{"ten thousand senders", numbered(10_000, func(i int) string {
			h := enemyHeader(map[string]string{"X-Server-From": senderOf(i), "X-PeerURLs": "http://10.0.0.1:80"})
			body := testmember.Encode(testmember.Heartbeat(2, 3, 1))
			return testmember.RequestHead("POST", "/raft", h, len(body)) + body
		})},
		{"ten thousand streams of strangers", numbered(10_000, func(i int) string {
			h := enemyHeader(map[string]string{"X-Server-From": senderOf(i), "X-PeerURLs": "http://10.0.0.1:80"})
			return testmember.RequestHead("GET", "/raft/stream/message/"+senderOf(i), h, 0)
		})},
		{"two thousand connections", numbered(2_000, func(int) string { return "" })},
		{"a stream that is not read", readers("msgapp", 1, func(h *hostile, c net.Conn) {
			read(c)
			for i := range uint64(200) {
				h.victim.Send([]*raftpb.Message{testmember.MsgApp(3, 2, i, make([]byte, 20<<10))})
			}
		})},
		{"a stream that is asked for again and again", readers("message", 300, func(*hostile, net.Conn) { synctest.Wait() })},
		{"a stream that is reset again and again", readers("msgapp", 300, func(_ *hostile, c net.Conn) { c.Close() })},
		{"a stream whose reader talks", readers("message", enemies, func(h *hostile, c net.Conn) {
			h.background(func() { pour(c, "", "hello", 1<<20) })
		})},
		{"a stream that is half closed", readers("message", enemies, func(_ *hostile, c net.Conn) {
			_ = c.(interface{ CloseWrite() error }).CloseWrite()
		})},
		{"connections that come and go", func(h *hostile) {
			for range 2_000 {
				h.dial().Close()
			}
		}},
		{"requests that break off", func(h *hostile) {
			text := declared("/raft", "1000", "\x08")
			for i := range len(text) {
				c := h.dial()
				_, _ = io.WriteString(c, text[:i])
				c.Close()
			}
			time.Sleep(time.Second)
		}},
	}
}
