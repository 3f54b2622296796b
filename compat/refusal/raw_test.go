package refusal_test

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/seed-4d73690b/rafthttp/compat/member"
)

// request is one request, byte for byte what a test says: nothing is added by a client.
type request struct {
	method, path string
	header       map[string]string
	body         []byte
}

// The ids in all requests. The member that is asked is 1 and has 2 as a peer; it does not know 3; 9 was removed.
const cluster = 0x1000

// identity is the header of a good request from member 2 to member 1.
func identity() map[string]string {
	return map[string]string{
		"X-Server-From": "2", "X-Server-Version": "3.7.0", "X-Min-Cluster-Version": "3.0.0", "X-Etcd-Cluster-ID": "1000", "X-Raft-To": "1",
	}
}

// with returns the request with a header set, or left out where value is empty.
func (r request) with(name, value string) request {
	header := make(map[string]string)
	for k, v := range r.header {
		header[k] = v
	}
	if header[name] = value; value == "" {
		delete(header, name)
	}
	r.header = header
	return r
}

func (r request) withBody(body []byte) request {
	r.body = body
	return r
}

func (r request) withMethod(method string) request {
	r.method = method
	return r
}

func (r request) withPath(path string) request {
	r.path = path
	return r
}

var (
	pipeline = request{http.MethodPost, "/raft", identity(), encode(heartbeat())}
	stream   = request{http.MethodGet, "/raft/stream/message/2", identity(), nil}
	appends  = request{http.MethodGet, "/raft/stream/msgapp/2", identity(), nil}
	snapshot = request{http.MethodPost, "/raft/snapshot", identity(), append(framed(snap()), "the database"...)}
	probing  = request{http.MethodGet, "/raft/probing", nil, nil}
)

func heartbeat() *raftpb.Message {
	return &raftpb.Message{Type: raftpb.MessageType_MsgHeartbeat.Enum(), From: new(uint64(2)), To: new(uint64(1)), Term: new(uint64(1))}
}

func snap() *raftpb.Message {
	return &raftpb.Message{Type: raftpb.MessageType_MsgSnap.Enum(), From: new(uint64(2)), To: new(uint64(1)), Term: new(uint64(1)),
		Snapshot: &raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{Index: new(uint64(5)), Term: new(uint64(1)),
			ConfState: &raftpb.ConfState{Voters: []uint64{1, 2}}}}}
}

func encode(m *raftpb.Message) []byte {
	b, err := proto.Marshal(m)
	if err != nil {
		panic(err)
	}
	return b
}

// framed is how a message stands at the head of a snapshot's body.
func framed(m *raftpb.Message) []byte {
	b := encode(m)
	return append(binary.BigEndian.AppendUint64(nil, uint64(len(b))), b...)
}

// response is what of an answer is compared.
type response struct {
	Status int    // 0: the connection was closed without an answer
	Body   string // of a 200 answer to a stream nothing
	Header map[string]string
	Kept   bool // the connection took another request
	Told   int  // how many messages raft was told
}

func (r response) String() string {
	return fmt.Sprintf("%d %q %v, connection kept: %v, raft told: %d", r.Status, r.Body, r.Header, r.Kept, r.Told)
}

// ask sends r to a and returns the answer.
func (a asked) ask(t *testing.T, r request) (got response) {
	t.Helper()
	u, err := url.Parse(a.URL())
	require.NoError(t, err)
	conn, err := net.Dial("tcp", u.Host)
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(20*time.Second)))
	in := bufio.NewReader(conn)
	a.recorder.Reset()
	defer func() { a.recorder.Look(func(s *member.Seen) { got.Told = len(s.Messages) }) }()

	writeRequest(t, conn, r)
	resp, err := http.ReadResponse(in, &http.Request{Method: r.method})
	if err != nil {
		return got
	}
	got.Status, got.Header = resp.StatusCode, make(map[string]string)
	for _, name := range []string{"Allow", "X-Etcd-Cluster-Id", "X-Server-Version", "Content-Type", "X-Content-Type-Options", "Trailer"} {
		if v := resp.Header.Get(name); v != "" {
			got.Header[name] = v
		}
	}
	if got.Status == http.StatusOK && strings.HasPrefix(r.path, "/raft/stream") {
		return got // its body does not end
	}
	body, err := io.ReadAll(resp.Body)
	got.Body = string(body)
	if err != nil {
		got.Body += " (cut off)"
		return got
	}
	writeRequest(t, conn, probing)
	_, err = http.ReadResponse(in, nil)
	got.Kept = err == nil
	return got
}

// writeRequest writes the bytes of r. That the other side closes the connection meanwhile is no fault.
func writeRequest(t *testing.T, conn net.Conn, r request) {
	t.Helper()
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: x\r\n", r.method, r.path)
	for name, value := range r.header {
		fmt.Fprintf(&b, "%s: %s\r\n", name, value)
	}
	if r.body != nil {
		fmt.Fprintf(&b, "Content-Length: %d\r\n", len(r.body))
	}
	b.WriteString("\r\n")
	b.Write(r.body)
	_, _ = conn.Write(b.Bytes())
}
