package snapshots_test

import (
	"bytes"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp/internal/bubble"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/snap"
)

// TestMessageThatDoesNotComeIsNotCalledWrong: 400 is for bytes that are wrong. A connection that breaks in the middle of
// the message, and a transport that is stopped, say nothing of it: the sender may try again.
func TestMessageThatDoesNotComeIsNotCalledWrong(t *testing.T) {
	head := testmember.ReadString(t, testmember.SnapshotBody(t, testmember.MsgSnap(2, 1, 7), ""))
	halfClose := func(p *testmember.Pair, c net.Conn) {
		require.NoError(t, c.(interface{ CloseWrite() error }).CloseWrite())
	}
	tests := []struct {
		name, path string
		breaks     func(p *testmember.Pair, c net.Conn)
		code       int
		body       string
	}{
		{"snapshot, stopped", "/raft/snapshot", func(p *testmember.Pair, _ net.Conn) { p.B.Stop() }, 503, "failed to save database snapshot: "},
		{"snapshot, silent", "/raft/snapshot", func(*testmember.Pair, net.Conn) {}, 500, "failed to save database snapshot (stalled): "},
		{"snapshot, cut", "/raft/snapshot", halfClose, 500, "failed to save database snapshot (connection cut): "},
		{"post, stopped", "/raft", func(p *testmember.Pair, _ net.Conn) { p.B.Stop() }, 503, ""},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				p := testmember.NewPair(t, nil, testmember.Receives(testmember.SavesAll))
				c, err := p.Net.Host("c").DialContext(t.Context(), "tcp", "b:80")
				require.NoError(t, err)
				defer c.Close()
				h := testmember.PeerHeader(map[string]string{"X-Server-From": "1"})
				_, err = io.WriteString(c, testmember.RequestHead("POST", tc.path, h, len(head))+head[:len(head)/2])
				require.NoError(t, err)
				time.Sleep(time.Second)
				tc.breaks(p, c)
				got := testmember.ReadAnswer(t, c)
				require.Equal(t, tc.code, got.StatusCode, got.Body)
				require.True(t, strings.HasPrefix(got.Body, tc.body), got.Body)
				require.True(t, got.Close)
			})
		})
	}
}

// TestSnapshotToAReceiverThatStopsDuringTheHead goes on once the receiver is back.
func TestSnapshotToAReceiverThatStopsDuringTheHead(t *testing.T) {
	dir := t.TempDir()
	bubble.Test(t, func(t *testing.T) {
		p := testmember.NewPair(t, nil, testmember.Receives(testmember.OpenStore(t, t.TempDir())))
		p.Net.Link("a", "b").SetBandwidth(1 << 20)
		time.Sleep(time.Second)
		head := testmember.MsgSnap(2, 1, 7)
		head.Snapshot.Data = make([]byte, 8<<20)
		data := testmember.RandomBytes(1 << 20)
		p.A.SendSnapshot(snap.NewMessage(head, &testmember.Seekable{Reader: bytes.NewReader(data)}, int64(len(data))))
		time.Sleep(3 * time.Second)
		p.B.Stop()
		p.Net.Host("b").Crash()
		store := testmember.OpenStore(t, dir)
		b := p.Start(t, "b", 2, testmember.Receives(store))
		b.AddPeer(1, []string{p.A.URL})
		require.NoError(t, <-p.Sent)
		testmember.RequireSaved(t, store, 7, data)
	})
}
