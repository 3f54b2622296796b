package promise

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/seed-4d73690b/rafthttp"
)

// headers are those of a request of a member.
func headers(from uint64) string {
	return fmt.Sprintf("X-Server-From: %x\r\nX-Server-Version: 3.7.0\r\nX-Min-Cluster-Version: 3.0.0\r\nX-Etcd-Cluster-ID: %x\r\n", from, uint64(cluster))
}

// begin sends the head of a POST, and the beginning of its body.
func (st *stage) begin(c net.Conn, path string, from uint64, length int, body []byte) {
	head := fmt.Sprintf("POST %s HTTP/1.1\r\nHost: member\r\n%sContent-Length: %d\r\n\r\n", path, headers(from), length)
	if _, err := c.Write(append([]byte(head), body...)); err != nil {
		st.wrong("cannot write: %v", err)
	}
}

// answered returns the status of the answer that is there within d; 0 if none is, -1 if the connection was closed without one.
func answered(c net.Conn, d time.Duration) int {
	_ = c.SetReadDeadline(time.Now().Add(d))
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		if timeout, ok := err.(net.Error); ok && timeout.Timeout() { //nolint:errorlint // ReadResponse returns it as it is
			return 0
		}
		return -1
	}
	resp.Body.Close()
	return resp.StatusCode
}

func playHalfPost(st *stage) {
	a := st.actor(1, "a", nil)
	c := st.dial()
	st.begin(c, "/raft", 2, 1000, make([]byte, st.IntN(500)))
	if st.IntN(2) == 0 {
		if answered(c, 2*readTime+time.Second) == 0 {
			st.wrong("a post whose body stands still is under way after %v", 2*readTime+time.Second)
		}
		return
	}
	time.Sleep(time.Duration(st.IntN(3000)) * time.Millisecond)
	began := time.Now()
	a.Stop()
	if took := time.Since(began); took > 2*time.Second {
		st.wrong("Stop waits %v for a post whose body stands still", took)
	}
}

// playPostedRemoval: a client posts, in the name of a node, that the node has refused a message since the local replica was removed.
func playPostedRemoval(st *stage) {
	const refusal, wasRemoved = 7, 3 // extensions: the frames of groups-1, refusals
	group, removed := byte(1+st.IntN(100)), make(chan error, 1)
	a := st.actor(1, "a", nil)
	g, err := a.Group(uint64(group), rafthttp.GroupConfig{Raft: a, ErrorC: removed})
	if err != nil {
		st.wrong("no group: %v", err)
		return
	}
	g.AddPeer(2, []string{st.urlOf("nobody")})
	c := st.dial()
	body := []byte{refusal, group, 1, 2, wasRemoved}
	if _, err := fmt.Fprintf(c, "POST /raft/groups HTTP/1.1\r\nHost: member\r\nX-Raft-To: 1\r\n%sContent-Length: %d\r\n\r\n%s", headers(2), len(body), body); err != nil {
		st.wrong("cannot write: %v", err)
	}
	if status := answered(c, time.Second); status != http.StatusOK {
		st.wrong("the refusal is answered %d", status)
	}
	time.Sleep(time.Second)
	if len(removed) > 0 {
		st.wrong("a replica ends since anybody says that it was removed")
	}
	if a.told(2) == 0 {
		st.wrong("raft is not told that a message was refused")
	}
}

const (
	maxPostsOfMember = 16
	unread           = 1 << 20 // so much of a body that net/http does not wait for it before it answers
)

func playManyPosts(st *stage) {
	st.actor(1, "a", nil)
	var conns []net.Conn
	for range maxPostsOfMember + 1 + st.IntN(10) {
		c := st.dial()
		st.begin(c, "/raft", 2, unread, make([]byte, 10))
		conns = append(conns, c)
	}
	waiting := 0
	for _, c := range conns {
		if status := answered(c, 100*time.Millisecond); status == 0 {
			waiting++
		} else if status != http.StatusServiceUnavailable {
			st.wrong("a post too many is answered %d", status)
		}
	}
	if waiting > maxPostsOfMember {
		st.wrong("%d posts of one member are read at once", waiting)
	}
}

// headOf returns the head of the body of a snapshot.
func headOf(m *raftpb.Message) []byte {
	b, _ := proto.Marshal(m)
	var head bytes.Buffer
	for shift := 56; shift >= 0; shift -= 8 {
		head.WriteByte(byte(uint64(len(b)) >> shift))
	}
	head.Write(b)
	return head.Bytes()
}

func (st *stage) snapshot(from, to, index uint64) *raftpb.Message {
	return &raftpb.Message{
		Type: raftpb.MsgSnap.Enum(), From: new(from), To: new(to), Term: new(uint64(1)),
		Snapshot: &raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{
			Index: new(index), Term: new(uint64(1)), ConfState: &raftpb.ConfState{Voters: []uint64{from, to}},
		}},
	}
}

// discarding is a Snapshotter that keeps nothing.
type discarding struct{}

// SaveDBFrom implements rafthttp.Snapshotter.
func (discarding) SaveDBFrom(r io.Reader, _ uint64) (int64, error) { return io.Copy(io.Discard, r) }

func playManySnapshots(st *stage) {
	most := 1 + st.IntN(3)
	st.actor(1, "a", func(a *actor) { a.MaxSnapshots, a.Snapshotter = most, discarding{} })
	var conns []net.Conn
	for i := range most + 1 + st.IntN(3) {
		c := st.dial()
		from := uint64(i) + 2
		head := headOf(st.snapshot(from, 1, 5))
		st.begin(c, "/raft/snapshot", from, len(head)+unread, append(head, 1, 2, 3))
		conns = append(conns, c)
	}
	waiting := 0
	for _, c := range conns {
		if answered(c, 100*time.Millisecond) == 0 {
			waiting++
		}
	}
	if waiting != most {
		st.wrong("%d snapshots are received at once, and MaxSnapshots is %d", waiting, most)
	}
}
