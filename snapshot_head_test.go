package rafthttp_test

import (
	"bytes"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp/internal/bubble"
	"github.com/seed-4d73690b/rafthttp/snap"
)

// TestMessageThatDoesNotComeIsNotCalledWrong: 400 is for bytes that are wrong. A connection that breaks in the middle of
// the message, and a transport that is stopped, say nothing of it: the sender may try again.
func TestMessageThatDoesNotComeIsNotCalledWrong(t *testing.T) {
	head := read(t, snapshotBody(t, msgSnap(2, 1, 7), ""))
	halfClose := func(p *pair, c net.Conn) { require.NoError(t, c.(interface{ CloseWrite() error }).CloseWrite()) }
	tests := []struct {
		name, path string
		breaks     func(p *pair, c net.Conn)
		code       int
		body       string
	}{
		{"snapshot, stopped", "/raft/snapshot", func(p *pair, _ net.Conn) { p.b.Stop() }, 503, "failed to save database snapshot: "},
		{"snapshot, silent", "/raft/snapshot", func(*pair, net.Conn) {}, 500, "failed to save database snapshot (stalled): "},
		{"snapshot, cut", "/raft/snapshot", halfClose, 500, "failed to save database snapshot (connection cut): "},
		{"post, stopped", "/raft", func(p *pair, _ net.Conn) { p.b.Stop() }, 503, ""},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				p := newPair(t, nil, receives(savesAll))
				c, err := p.net.Host("c").DialContext(t.Context(), "tcp", "b:80")
				require.NoError(t, err)
				defer c.Close()
				h := peerHeader(map[string]string{"X-Server-From": "1"})
				_, err = io.WriteString(c, requestHead("POST", tc.path, h, len(head))+head[:len(head)/2])
				require.NoError(t, err)
				time.Sleep(time.Second)
				tc.breaks(p, c)
				got := readAnswer(t, c)
				require.Equal(t, tc.code, got.StatusCode, got.body)
				require.True(t, strings.HasPrefix(got.body, tc.body), got.body)
				require.True(t, got.Close)
			})
		})
	}
}

// TestSnapshotToAReceiverThatStopsDuringTheHead goes on once the receiver is back.
func TestSnapshotToAReceiverThatStopsDuringTheHead(t *testing.T) {
	dir := t.TempDir()
	bubble.Test(t, func(t *testing.T) {
		p := newPair(t, nil, receives(openIn(t, t.TempDir())))
		p.net.Link("a", "b").SetBandwidth(1 << 20)
		time.Sleep(time.Second)
		head := msgSnap(2, 1, 7)
		head.Snapshot.Data = make([]byte, 8<<20)
		data := randomBytes(1 << 20)
		p.a.SendSnapshot(snap.NewMessage(head, &seekable{Reader: bytes.NewReader(data)}, int64(len(data))))
		time.Sleep(3 * time.Second)
		p.b.Stop()
		p.net.Host("b").Crash()
		store := openIn(t, dir)
		b := p.start(t, "b", 2, receives(store))
		b.AddPeer(1, []string{p.a.url})
		require.NoError(t, <-p.sent)
		requireSaved(t, store, 7, data)
	})
}
