package security_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/bubble"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/memnet"
)

// What an attack may cost a process: of memory at any time, and of goroutines
// once it had the time to notice.
const (
	hostileMemory     = 16 << 20
	hostileGoroutines = 50
	hostileTime       = 45 * time.Second
)

// hostile is a cluster with a victim: member 2, behind NewListener's limits and
// NewServer, with two good peers, 1 and 4, and one that turned bad, 3.
type hostile struct {
	*testing.T
	net    *memnet.Network
	victim *testmember.Member
	good   []*testmember.Member

	mu    sync.Mutex
	conns []net.Conn
	wg    sync.WaitGroup
}

// attack is what one enemy does; all connections are left open.
type attack struct {
	name string
	run  func(h *hostile)
}

func startHostile(t *testing.T) *hostile {
	t.Helper()
	h := &hostile{T: t, net: testmember.NewNetwork()}
	small := func(tr *rafthttp.Transport) { tr.MaxMessageBytes, tr.MaxQueuedBytes = 4<<20, 8<<20 }
	for _, id := range []types.ID{1, 4} {
		h.good = append(h.good, testmember.StartSimulated(t, h.net, id, small))
	}
	ln, err := h.net.Host(testmember.HostOf(2)).Listen("2380")
	require.NoError(t, err)
	h.victim = &testmember.Member{Recorder: &testmember.Recorder{}, URL: testmember.URLOf(2)}
	h.victim.Transport = &rafthttp.Transport{
		ID: 2, ClusterID: testmember.ClusterID, Raft: h.victim.Recorder, URLs: types.MustNewURLs([]string{testmember.URLOf(2)}),
		DialContext: h.net.Host(testmember.HostOf(2)).DialContext, Snapshotter: testmember.SavesAll,
	}
	h.victim.Recorder.OnProcess = func(_ context.Context, m *raftpb.Message) error {
		if m.GetFrom() != 3 { // the test's memory is not the victim's
			h.victim.Recorder.Keep(m)
		}
		return nil
	}
	small(h.victim.Transport)
	require.NoError(t, h.victim.Start())
	h.victim.Server = rafthttp.NewServer(h.victim.Handler())
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = h.victim.Server.Serve(testmember.NewDeadlineListener(ln, testmember.ReadTimeout, testmember.WriteTimeout))
	}()
	t.Cleanup(func() {
		h.victim.Stop()
		_ = h.victim.Server.Close()
		<-served
	})
	for _, m := range h.good {
		m.AddPeer(2, []string{h.victim.URL})
		h.victim.AddPeer(m.ID, []string{m.URL})
	}
	t.Cleanup(h.end)
	time.Sleep(2 * time.Second)
	require.Equal(t, 2, h.victim.ActivePeers())
	return h
}

// dial connects to the victim.
func (h *hostile) dial() net.Conn {
	c, err := h.net.Host("evil").DialContext(h.Context(), "tcp", testmember.HostOf(2)+":2380")
	require.NoError(h, err)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.conns = append(h.conns, c)
	return c
}

// background runs a part of the attack beside the rest.
func (h *hostile) background(f func()) { h.wg.Go(f) }

// end closes what the enemy has open.
func (h *hostile) end() {
	h.mu.Lock()
	for _, c := range h.conns {
		c.Close()
	}
	h.mu.Unlock()
	h.wg.Wait()
	time.Sleep(time.Second) // a server lingers for a moment
}

// TestHostileInput: each attack leaves the victim alive, within its bounds, and the
// traffic with its good peers as it was: every message there, in order, over the
// same connections.
func TestHostileInput(t *testing.T) {
	attacks := hostileAttacks()
	require.GreaterOrEqual(t, len(attacks), 60)
	for i := 0; i < len(attacks); i += bubble.Runs(1, 3) {
		at := attacks[i]
		t.Run(at.name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				h := startHostile(t)
				stop := load(t, []*testmember.Member{h.victim, h.good[0]}, 100*time.Millisecond, 100)
				time.Sleep(time.Second)
				memory, goroutines := testmember.HeapBytes(), runtime.NumGoroutine()
				at.run(h)
				for _, pause := range []time.Duration{0, 2 * time.Second, hostileTime} {
					time.Sleep(pause)
					synctest.Wait()
					require.Less(t, testmember.HeapBytes()-memory, int64(hostileMemory), "memory after %v", pause)
				}
				require.Less(t, runtime.NumGoroutine()-goroutines, hostileGoroutines)
				require.LessOrEqual(t, len(h.victim.Status().Remotes), testmember.MaxRemotes)
				n := stop()
				time.Sleep(time.Second)
				h.unharmed(n)
			})
		})
	}
}

// unharmed requires that the victim and its first good peer got n messages of each
// kind from each other, and that nothing was ever wrong between the three.
func (h *hostile) unharmed(n uint64) {
	h.Helper()
	for _, m := range []*testmember.Member{h.victim, h.good[0]} {
		from := 3 - m.ID
		next := map[raftpb.MessageType]uint64{}
		for _, got := range m.Recorder.Received() {
			if got.GetFrom() == uint64(from) {
				require.Equal(h, next[got.GetType()], got.GetCommit(), "member %s: %s", m.ID, got.GetType())
				next[got.GetType()]++
			}
		}
		require.Equal(h, map[raftpb.MessageType]uint64{raftpb.MsgApp: n, raftpb.MsgHeartbeat: n}, next, "member %s", m.ID)
	}
	for _, m := range append([]*testmember.Member{h.victim}, h.good...) {
		for _, p := range m.Status().Peers {
			if p.ID == 3 {
				continue
			}
			require.Zero(h, p.SendFailures+p.ReceiveFailures+p.Disconnects, "%s and %s", m.ID, p.ID)
			for _, s := range p.Streams {
				require.True(h, s.Up)
				require.EqualValues(h, 1, s.Connects, "%s and %s", m.ID, p.ID)
			}
		}
	}
}

// enemies is how many connections an attack has where nothing else is said.
const enemies = 20

// sends has enemies connect and say text.
func sends(text string) func(*hostile) {
	return func(h *hostile) {
		for range enemies {
			_, _ = io.WriteString(h.dial(), text)
		}
	}
}

// asks has enemies send a request whose body is as long as it says.
func asks(method, path string, change map[string]string, body string) func(*hostile) {
	return sends(testmember.RequestHead(method, path, enemyHeader(change), len(body)) + body)
}

// enemyHeader is what member 3 says that it is.
func enemyHeader(change map[string]string) http.Header {
	h := testmember.PeerHeader(map[string]string{"X-Server-From": "3", "X-Raft-To": "2"})
	for k, v := range change {
		if v == "" {
			h.Del(k)
		} else {
			h.Set(k, v)
		}
	}
	return h
}

// pours has two enemies say something and then repeat another, up to a volume,
// for as long as it is taken.
func pours(begin, again string, volume int) func(*hostile) {
	return func(h *hostile) {
		for range 2 {
			c := h.dial()
			h.background(func() { pour(c, begin, again, volume) })
		}
	}
}

func pour(w io.Writer, begin, again string, volume int) {
	if _, err := io.WriteString(w, begin); err != nil || again == "" {
		return
	}
	piece := strings.Repeat(again, 1+8192/len(again))
	for n := 0; n < volume; n += len(piece) {
		if _, err := io.WriteString(w, piece); err != nil {
			return
		}
	}
}

// trickles has enemies say something a byte a second.
func trickles(begin, text string) func(*hostile) {
	return func(h *hostile) {
		for range enemies {
			c := h.dial()
			_, _ = io.WriteString(c, begin)
			h.background(func() {
				for i := 0; i < 120; i++ {
					if _, err := io.WriteString(c, text[i%len(text):i%len(text)+1]); err != nil {
						return
					}
					time.Sleep(time.Second)
				}
			})
		}
	}
}

// answers makes member 3 a peer of the victim, whose server says something to
// everyone who asks.
func answers(say func(io.Writer)) func(*hostile) {
	return func(h *hostile) {
		ln, err := h.net.Host(testmember.HostOf(3)).Listen("2380")
		require.NoError(h, err)
		h.Cleanup(func() { ln.Close() })
		h.background(func() {
			for {
				c, err := ln.Accept()
				if err != nil {
					return
				}
				h.mu.Lock()
				h.conns = append(h.conns, c)
				h.mu.Unlock()
				h.background(func() {
					if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
						say(c)
					}
				})
			}
		})
		h.victim.AddPeer(3, []string{testmember.URLOf(3)})
		h.Cleanup(func() { h.victim.RemovePeer(3) })
		h.mu.Lock()
		h.conns = append(h.conns, closes{ln})
		h.mu.Unlock()
	}
}

// closes makes a listener a connection, to be closed with the others.
type closes struct{ net.Listener }

func (c closes) Read([]byte) (int, error)         { return 0, io.EOF }
func (c closes) Write([]byte) (int, error)        { return 0, io.EOF }
func (c closes) LocalAddr() net.Addr              { return c.Addr() }
func (c closes) RemoteAddr() net.Addr             { return c.Addr() }
func (c closes) SetDeadline(time.Time) error      { return nil }
func (c closes) SetReadDeadline(time.Time) error  { return nil }
func (c closes) SetWriteDeadline(time.Time) error { return nil }

// frames has member 3 answer with a stream of this kind; the other kind is refused.
func frames(kind, begin, again string, volume int) func(*hostile) {
	const ok = "HTTP/1.1 200 OK\r\nX-Server-Version: 3.7.0\r\n\r\n"
	return func(h *hostile) {
		ln, err := h.net.Host(testmember.HostOf(3)).Listen("2380")
		require.NoError(h, err)
		h.background(func() {
			for {
				c, err := ln.Accept()
				if err != nil {
					return
				}
				h.mu.Lock()
				h.conns = append(h.conns, c)
				h.mu.Unlock()
				h.background(func() {
					r, err := http.ReadRequest(bufio.NewReader(c))
					if err != nil || !strings.Contains(r.URL.Path, "/stream/"+kind+"/") {
						c.Close()
						return
					}
					pour(c, ok+begin, again, bubble.Runs(volume, volume/4))
				})
			}
		})
		h.mu.Lock()
		h.conns = append(h.conns, closes{ln})
		h.mu.Unlock()
		h.victim.AddPeer(3, []string{testmember.URLOf(3)})
	}
}

// readers has member 3, a peer, ask for a stream, and do something with it.
func readers(kind string, times int, with func(h *hostile, c net.Conn)) func(*hostile) {
	return func(h *hostile) {
		h.victim.AddPeer(3, []string{testmember.URLOf(3)})
		h.net.Host(testmember.HostOf(3))
		head := testmember.RequestHead("GET", "/raft/stream/"+kind+"/3", enemyHeader(nil), 0)
		for range times {
			c := h.dial()
			if _, err := io.WriteString(c, head); err == nil {
				with(h, c)
			}
		}
	}
}

func numbered(n int, text func(i int) string) func(*hostile) {
	return func(h *hostile) {
		for i := range bubble.Runs(n, n/4) {
			c := h.dial()
			_, _ = io.WriteString(c, text(i))
			if i%100 == 99 {
				synctest.Wait()
			}
		}
	}
}

// chunked is a request with a body in chunks as given.
func chunked(path, chunks string) string {
	head := testmember.RequestHead("POST", path, enemyHeader(nil), 0)
	return strings.Replace(head, "Content-Length: 0", "Transfer-Encoding: chunked", 1) + chunks
}

// declared is a request that says it has a body of this length.
func declared(path, length, body string) string {
	head := testmember.RequestHead("POST", path, enemyHeader(nil), 0)
	return strings.Replace(head, "Content-Length: 0", "Content-Length: "+length, 1) + body
}

func withHeader(line string) string {
	return strings.Replace(testmember.RequestHead("POST", "/raft", enemyHeader(nil), 0), "\r\n", "\r\n"+line+"\r\n", 1)
}

func senderOf(i int) string {
	return fmt.Sprintf("%x", 0x10000+i)
}
