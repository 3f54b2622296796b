package snapshots_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/bubble"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/snap"
)

// gateway dials a proxy that answers by itself: with these statuses, one for each request.
// Where that is 200 or 204, it says what a receiver says that resumes, and has nothing.
func gateway(codes ...int) func() (net.Conn, error) {
	const state = "X-Raft-Extensions: snapshot-1\r\nX-Raft-Snapshot-Offset: 0\r\nX-Raft-Snapshot-Checksum: 00000000\r\n"
	return func() (net.Conn, error) {
		client, server := net.Pipe()
		go func() {
			defer server.Close()
			br := bufio.NewReader(server)
			for _, code := range codes {
				r, err := http.ReadRequest(br)
				if err != nil {
					return
				}
				_, _ = io.Copy(io.Discard, r.Body)
				headers := "Content-Length: 0\r\n"
				switch code {
				case http.StatusOK:
					headers += state
				case http.StatusNoContent:
					headers = state
				}
				if _, err := fmt.Fprintf(server, "HTTP/1.1 %d %s\r\n%s\r\n", code, http.StatusText(code), headers); err != nil {
					return
				}
			}
		}()
		return client, nil
	}
}

// TestSnapshotTransientAnswers: a transfer that can be resumed is, though the answers are
// others' for a while. Only a member that does not resume makes its plan a plain one.
func TestSnapshotTransientAnswers(t *testing.T) {
	const size = 8 << 20
	data := testmember.RandomBytes(size)
	tests := []struct {
		name       string
		codes      []int
		oneRequest bool // of each connection reaches the receiver
		lasts      time.Duration
	}{
		{name: "502", codes: []int{502}, lasts: time.Second},
		{name: "502 for longer", codes: []int{502}, lasts: 2500 * time.Millisecond},
		{name: "503, as of a member before Start", codes: []int{503}, lasts: time.Second},
		{name: "504", codes: []int{504}, lasts: time.Second},
		{name: "404", codes: []int{404}, lasts: 500 * time.Millisecond},
		{name: "502 to the question", codes: []int{200, 502}, lasts: time.Second},
		{name: "502 to the body", codes: []int{200, 204, 502}, lasts: time.Second},
		{name: "closed after the probe", oneRequest: true, lasts: 300 * time.Millisecond},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			bubble.Test(t, func(t *testing.T) {
				store := testmember.OpenStore(t, dir)
				p := testmember.NewPair(t, func(tr *rafthttp.Transport) { tr.DialRetryFrequency = 1e-3 }, testmember.Receives(store))
				toB := func() (net.Conn, error) { return p.Net.Host("road").DialContext(context.Background(), "tcp", "b:80") }
				ln, err := p.Net.Host("road").Listen("80")
				require.NoError(t, err)
				r := newRoad(t, ln)
				r.lead(toB, false)
				r.cutAt = size / 2
				r.onCut = func() {
					r.lead(gateway(tc.codes...), false)
					if tc.oneRequest {
						r.lead(toB, true)
					}
					time.AfterFunc(tc.lasts, func() { r.lead(toB, false) })
				}
				p.A.UpdatePeer(2, []string{"http://road:80"})
				p.A.SendSnapshot(snap.NewMessage(testmember.MsgSnap(2, 1, 7), breaking(data, nil), size))
				require.NoError(t, <-p.Sent)
				testmember.RequireSaved(t, store, 7, data)
				if len(tc.codes) < 3 { // else the proxy took some
					require.Less(t, p.A.Status().Peers[0].SentBytes, uint64(size+size/5), "the receiver had half of it")
				}
			})
		})
	}
}

// TestSnapshotTransientAnswerToTheFirst: what an earlier transfer has brought is used although
// the first answer to the next one is a proxy's.
func TestSnapshotTransientAnswerToTheFirst(t *testing.T) {
	const size = 8 << 20
	data := testmember.RandomBytes(size)
	for _, code := range []int{502, 404} {
		dir := t.TempDir()
		bubble.Test(t, func(t *testing.T) {
			store := testmember.OpenStore(t, dir)
			p := testmember.NewPair(t, func(tr *rafthttp.Transport) { tr.DialRetryFrequency = 1e-3 }, testmember.Receives(store))
			leavePart(t, p, data)
			toB := func() (net.Conn, error) { return p.Net.Host("road").DialContext(context.Background(), "tcp", "b:80") }
			ln, err := p.Net.Host("road").Listen("80")
			require.NoError(t, err)
			r := newRoad(t, ln)
			r.lead(gateway(code), false)
			p.A.UpdatePeer(2, []string{"http://road:80"})
			before := p.A.Status().Peers[0].SentBytes
			time.AfterFunc(50*time.Millisecond, func() { r.lead(toB, false) })
			p.A.SendSnapshot(snap.NewMessage(testmember.MsgSnap(2, 1, 7), breaking(data, nil), size))
			require.NoError(t, <-p.Sent)
			testmember.RequireSaved(t, store, 7, data)
			require.Less(t, p.A.Status().Peers[0].SentBytes-before, uint64(size*6/10), "sent twice")
		})
	}
}
