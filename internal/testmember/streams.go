package testmember

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/wire"
	"github.com/seed-4d73690b/rafthttp/memnet"
)

// StartTalker runs a member whose streams a test writes by hand: say writes a message to whoever reads the stream.
func StartTalker(t *testing.T, n *memnet.Network, id types.ID) (say func(kind string, m *raftpb.Message)) {
	t.Helper()
	ln, err := n.Host(HostOf(id)).Listen("2380")
	require.NoError(t, err)
	said := map[string]chan string{"message": make(chan string), "msgapp": make(chan string)}
	ended := make(chan struct{})
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		frames := said[EndpointOf(r.URL.Path)]
		if frames == nil {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("X-Server-Version", "3.7.0")
		w.WriteHeader(http.StatusOK)
		for {
			_ = http.NewResponseController(w).Flush()
			select {
			case f := <-frames:
				_, _ = io.WriteString(w, f)
			case <-ended:
				return
			case <-r.Context().Done():
				return
			}
		}
	})}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(ln)
	}()
	t.Cleanup(func() {
		close(ended)
		_ = server.Close()
		<-served
	})
	return func(kind string, m *raftpb.Message) {
		frame := Frame(Encode(m))
		if kind == "msgapp" {
			frame = "\x02" + frame
		}
		said[kind] <- frame
	}
}

// Encode encodes a message.
func Encode(m *raftpb.Message) string {
	b, err := proto.Marshal(m)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// Frame is a body with its length.
func Frame(body string) string { return LengthPrefix(uint64(len(body))) + body }

// LengthPrefix is a length as the wire has it.
func LengthPrefix(n uint64) string {
	return string([]byte{byte(n >> 56), byte(n >> 48), byte(n >> 40), byte(n >> 32), byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
}

// Arrivals are the messages that came by a stream, and when.
type Arrivals struct {
	mu         sync.Mutex
	heartbeats map[uint64]time.Time // by commit index
	types      map[raftpb.MessageType]int
}

// Heartbeat returns when the response to a heartbeat came, by its commit index.
func (a *Arrivals) Heartbeat(commit uint64) (at time.Time, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	at, ok = a.heartbeats[commit]
	return at, ok
}

// Of returns how many messages of a type came.
func (a *Arrivals) Of(typ raftpb.MessageType) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.types[typ]
}

// ReadArrivals reads a stream until the test ends.
func ReadArrivals(t *testing.T, c *Stream) *Arrivals {
	a := &Arrivals{heartbeats: map[uint64]time.Time{}, types: map[raftpb.MessageType]int{}}
	done := make(chan struct{})
	go func() {
		defer close(done)
		dec := wire.NewMessageDecoder(wire.NewReader(c.Body), wire.Limits{})
		for {
			m, err := dec.Decode()
			if err != nil {
				return
			}
			a.mu.Lock()
			if m != nil {
				a.types[m.GetType()]++
			}
			if m.GetType() == raftpb.MsgHeartbeatResp {
				a.heartbeats[m.GetCommit()] = time.Now()
			}
			a.mu.Unlock()
		}
	}()
	t.Cleanup(func() {
		c.Close()
		<-done
	})
	return a
}

// AddTalker makes the member of StartTalker a peer.
func AddTalker(a *Member) { a.AddPeer(2, []string{URLOf(2)}) }

// Stream is the other end of one stream of a member, operated by hand.
type Stream struct {
	net.Conn
	Body io.Reader
}

// ReadMessages decodes the messages of the stream until it ends, without link heartbeats.
func (c *Stream) ReadMessages(kind string, to, from types.ID) (ms []*raftpb.Message, err error) {
	dec := wire.NewMessageDecoder(wire.NewReader(c.Body), wire.Limits{})
	if kind == "msgapp" {
		dec = wire.NewMsgAppV2Decoder(wire.NewReader(c.Body), uint64(to), uint64(from), wire.Limits{})
	}
	for {
		m, err := dec.Decode()
		if err != nil {
			return ms, err
		}
		if m != nil {
			ms = append(ms, m)
		}
	}
}

// WaitEnd waits for the end of the stream and returns when it came.
func (c *Stream) WaitEnd(t *testing.T) time.Time {
	t.Helper()
	_, err := io.Copy(io.Discard, c.Body)
	var timeout net.Error
	if err != nil {
		require.NotErrorAs(t, err, &timeout)
	}
	return time.Now()
}

// DialStream asks m for a stream as a member would, and reads the head of the answer.
func DialStream(t testing.TB, dial DialFunc, m *Member, kind string, from types.ID) *Stream {
	t.Helper()
	c, status := RequestStream(t, dial, m, kind, from)
	require.Equal(t, http.StatusOK, status)
	return c
}

// RequestStream is DialStream with any answer, whose status it returns.
func RequestStream(t testing.TB, dial DialFunc, m *Member, kind string, from types.ID) (*Stream, int) {
	t.Helper()
	u := types.MustNewURLs([]string{m.URL})[0]
	conn, err := dial(t.Context(), "tcp", u.Host)
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	_, err = fmt.Fprintf(conn, "GET %s/%s/%s HTTP/1.1\r\nHost: x\r\nX-Server-From: %s\r\nX-Server-Version: 3.7.0\r\n"+
		"X-Min-Cluster-Version: 3.0.0\r\nX-Etcd-Cluster-ID: %s\r\nX-Raft-To: %s\r\n\r\n",
		rafthttp.RaftStreamPrefix, kind, from, from, ClusterID, m.ID)
	require.NoError(t, err)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	return &Stream{conn, resp.Body}, resp.StatusCode
}
