package security_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/bubble"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
)

func TestHandlerPostBodies(t *testing.T) {
	const max = 10_000
	a := testmember.Start(t, 1, func(tr *rafthttp.Transport) { tr.MaxMessageBytes = max })
	good := testmember.Marshal(t, testmember.Heartbeat(1, 2, 1))
	unsized := func(r io.Reader) io.Reader { return io.MultiReader(r) } // chunked
	endless := testmember.ReaderFunc(func(p []byte) (int, error) { return len(p), nil })
	bomb := &raftpb.Message{Entries: make([]*raftpb.Entry, max/10)} // small on the wire only
	for i := range bomb.Entries {
		bomb.Entries[i] = &raftpb.Entry{}
	}
	tests := []struct {
		name string
		body io.Reader
		code int
	}{
		{"good", bytes.NewReader(good), 204},
		{"good, chunked", unsized(bytes.NewReader(good)), 204},
		{"good, byte by byte", iotest.OneByteReader(bytes.NewReader(good)), 204},
		{"largest", bytes.NewReader(testmember.Marshal(t, testmember.MsgApp(1, 2, 1, make([]byte, max*9/10)))), 204},
		{"undecodable", strings.NewReader("\xff\xff\xff"), 400},
		{"undecodable, chunked", unsized(strings.NewReader("\xff\xff\xff")), 400},
		{"cut inside a field", bytes.NewReader(good[:len(good)-1]), 400},
		{"too long", bytes.NewReader(make([]byte, max+1)), 400},
		{"too long, chunked", unsized(bytes.NewReader(make([]byte, max+1))), 400},
		{"endless", io.LimitReader(endless, 1<<40), 400},
		{"too large in memory", bytes.NewReader(testmember.Marshal(t, bomb)), 400},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			before := len(a.Recorder.Received())
			got := testmember.Exchange(t, a.URL, "POST", "/raft", testmember.PeerHeader(nil), tc.body)
			require.Equal(t, tc.code, got.StatusCode, got.Body)
			want := before
			if tc.code == 204 {
				want++
			}
			require.Len(t, a.Recorder.Received(), want)
		})
	}
}

func TestHandlerTruncatedPost(t *testing.T) {
	a := testmember.Start(t, 1, nil)
	c, err := net.Dial("tcp", strings.TrimPrefix(a.URL, "http://"))
	require.NoError(t, err)
	defer c.Close()
	_, err = io.WriteString(c, testmember.RequestHead("POST", "/raft", testmember.PeerHeader(nil), 100)+"\x08")
	require.NoError(t, err)
	require.NoError(t, c.(*net.TCPConn).CloseWrite())
	require.Equal(t, 400, testmember.ReadAnswer(t, c).StatusCode)
	require.Empty(t, a.Recorder.Received())
}

func TestHandlerProcessErrors(t *testing.T) {
	tests := []struct {
		name   string
		err    error
		code   int
		body   string
		closes bool
	}{
		{"none", nil, 204, "", false},
		{"plain", errors.New("no leader"), 500, "failed to process raft message: no leader\n", true},
		{"answers by itself", testmember.Teapot{}, 418, "", false},
		{"answers by itself, wrapped", fmt.Errorf("on its way: %w", testmember.Teapot{}), 418, "", false},
		{"WriteTo with a result", testmember.NotTeapot{}, 500, "failed to process raft message: no teapot\n", true},
		{"removed", rafthttp.ErrMemberRemoved, 403, "failed to process raft message: the member has been permanently removed from the cluster\n", true},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			a := testmember.Start(t, 1, nil)
			a.Recorder.OnProcess = func(context.Context, *raftpb.Message) error { return tc.err }
			body := testmember.Marshal(t, testmember.Heartbeat(1, 2, 1))
			c, err := net.Dial("tcp", strings.TrimPrefix(a.URL, "http://"))
			require.NoError(t, err)
			defer c.Close()
			_, err = io.WriteString(c, testmember.RequestHead("POST", "/raft", testmember.PeerHeader(nil), len(body))+string(body))
			require.NoError(t, err)
			got := testmember.ReadAnswer(t, c)
			require.Equal(t, tc.code, got.StatusCode)
			require.Equal(t, tc.body, got.Body)
			require.Equal(t, tc.closes, got.Close, "Connection: close")
			_, err = io.WriteString(c, testmember.RequestHead("GET", "/raft/probing", nil, 0))
			if !tc.closes {
				require.NoError(t, err)
				require.Equal(t, 200, testmember.ReadAnswer(t, c).StatusCode, "the connection is good for more")
				return
			}
			_, err = c.Read(make([]byte, 1))
			require.Error(t, err)
		})
	}
}

// A follower passes proposals and reads on to the leader as they came. If they are of a member that was removed, the follower
// must not hear that it was: it would stop.
func TestHandlerPassedOnOfARemovedMember(t *testing.T) {
	for name, tc := range map[string]struct {
		message *raftpb.Message
		from    string // header
		code    int
	}{
		"its own":                  {&raftpb.Message{Type: raftpb.MsgProp.Enum(), From: new(uint64(2))}, "2", 403},
		"a proposal of another":    {&raftpb.Message{Type: raftpb.MsgProp.Enum(), From: new(uint64(3))}, "2", 500},
		"a read of another":        {&raftpb.Message{Type: raftpb.MsgReadIndex.Enum(), From: new(uint64(3))}, "2", 500},
		"of nobody":                {&raftpb.Message{Type: raftpb.MsgProp.Enum()}, "2", 500},
		"sent by who knows":        {&raftpb.Message{Type: raftpb.MsgProp.Enum(), From: new(uint64(3))}, "", 403},
		"sent by who knows, alone": {&raftpb.Message{Type: raftpb.MsgProp.Enum()}, "", 403},
	} {
		t.Run(name, func(t *testing.T) {
			a := testmember.Start(t, 1, nil)
			a.Recorder.OnProcess = func(context.Context, *raftpb.Message) error { return rafthttp.ErrMemberRemoved }
			tc.message.To = new(uint64(1))
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, a.URL+"/raft", bytes.NewReader(testmember.Marshal(t, tc.message)))
			require.NoError(t, err)
			req.Header = testmember.PeerHeader(map[string]string{"X-Server-From": tc.from})
			resp, err := http.DefaultClient.Do(req)
			require.NoError(t, err)
			defer resp.Body.Close()
			require.Equal(t, tc.code, resp.StatusCode)
		})
	}
}

// A body that stops coming is given up after ReadTimeout, not before.
func TestHandlerSlowBody(t *testing.T) {
	tests := []struct {
		path, begin string
		code        int
	}{
		{"/raft", string(testmember.Marshal(t, testmember.Heartbeat(1, 2, 1))), 400},
		{"/raft/snapshot", "\x00\x00\x00\x00\x00", 500},
	}
	for _, tc := range tests {
		bubble.Test(t, func(t *testing.T) {
			p := testmember.NewPair(t, nil, func(tr *rafthttp.Transport) {
				tr.ReadTimeout, tr.Snapshotter = 2*time.Second, testmember.SavesAll
			})
			c, err := p.Net.Host("c").DialContext(t.Context(), "tcp", "b:80")
			require.NoError(t, err)
			defer c.Close()
			start := time.Now()
			_, err = io.WriteString(c, testmember.RequestHead("POST", tc.path, testmember.PeerHeader(nil), 1000))
			require.NoError(t, err)
			for i := range 5 { // slow, but moving
				time.Sleep(time.Second)
				_, err = io.WriteString(c, tc.begin[i:i+1])
				require.NoError(t, err)
			}
			require.Equal(t, tc.code, testmember.ReadAnswer(t, c).StatusCode)
			require.Equal(t, 7*time.Second, time.Since(start))
		})
	}
}

// A refusal does not wait for a body that does not come, and neither does the
// connection wait for ever.
func TestHandlerRefusesBeforeTheBody(t *testing.T) {
	tests := []struct {
		name, path string
		change     map[string]string
		body       string
		code       int
		within     time.Duration
	}{
		{"undecodable", "/raft", nil, "\xff\xff", 400, 2 * time.Second},
		{"over-long head", "/raft/snapshot", nil, "\xff\xff\xff\xff\xff\xff\xff\xff", 400, 0},
		{"other cluster", "/raft", map[string]string{"X-Etcd-Cluster-Id": "2"}, "", 412, 2 * time.Second},
		{"not a snapshot", "/raft/snapshot", nil, "\x00\x00\x00\x00\x00\x00\x00\x00", 400, 2 * time.Second},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				p := testmember.NewPair(t, nil, func(tr *rafthttp.Transport) { tr.ReadTimeout, tr.Snapshotter = 2*time.Second, testmember.SavesAll })
				c, err := p.Net.Host("c").DialContext(t.Context(), "tcp", "b:80")
				require.NoError(t, err)
				defer c.Close()
				start := time.Now()
				_, err = io.WriteString(c, testmember.RequestHead("POST", tc.path, testmember.PeerHeader(tc.change), 1000)+tc.body)
				require.NoError(t, err)
				require.Equal(t, tc.code, testmember.ReadAnswer(t, c).StatusCode)
				require.LessOrEqual(t, time.Since(start), tc.within)
				_, err = c.Read(make([]byte, 1))
				require.ErrorIs(t, err, io.EOF)
				require.LessOrEqual(t, time.Since(start), 4*time.Second)
			})
		})
	}
}
