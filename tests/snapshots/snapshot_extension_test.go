package snapshots_test

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/bubble"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/snap"
)

// Nothing that the headers of a resumed snapshot say is believed.
func TestSnapshotExtensionHeaders(t *testing.T) {
	dir := t.TempDir()
	store := testmember.OpenStore(t, dir)
	b := testmember.Start(t, 1, testmember.Receives(store))
	stock := testmember.Start(t, 1, testmember.Receives(testmember.PlainStore{Snapshotter: store}))
	ask := map[string]string{"X-Raft-Snapshot-Term": "1", "X-Raft-Snapshot-Index": "7", "X-Raft-Snapshot-Size": "100"}
	with := func(more ...string) map[string]string {
		h := map[string]string{}
		for k, v := range ask {
			h[k] = v
		}
		for i := 0; i < len(more); i += 2 {
			h[more[i]] = more[i+1]
		}
		return h
	}
	questions := []struct {
		name string
		to   *testmember.Member
		h    map[string]string
		code int
	}{
		{"good", b, with(), 204},
		{"no such Snapshotter", stock, with(), 404},
		{"to another member", b, with("X-Raft-To", "3"), 412},
		{"from nobody", b, with("X-Server-From", ""), 400},
		{"another cluster", b, with("X-Etcd-Cluster-Id", "2"), 412},
		{"no size", b, with("X-Raft-Snapshot-Size", ""), 400},
		{"negative size", b, with("X-Raft-Snapshot-Size", "-1"), 400},
		{"size out of range", b, with("X-Raft-Snapshot-Size", "9223372036854775808"), 400},
		{"no index", b, with("X-Raft-Snapshot-Index", ""), 400},
		{"term that is none", b, with("X-Raft-Snapshot-Term", "1e3"), 400},
	}
	for _, tc := range questions {
		t.Run("question, "+tc.name, func(t *testing.T) {
			got := testmember.Exchange(t, tc.to.URL, "GET", "/raft/snapshot/offset", testmember.PeerHeader(tc.h), nil)
			require.Equal(t, tc.code, got.StatusCode, got.Body)
			if tc.code == 204 {
				require.Equal(t, "0", got.Header.Get("X-Raft-Snapshot-Offset"))
				require.Equal(t, "00000000", got.Header.Get("X-Raft-Snapshot-Checksum"))
			}
		})
	}
	db := "a database of some bytes"
	body := func(db string) io.Reader {
		return strings.NewReader(testmember.ReadString(t, testmember.SnapshotBody(t, testmember.MsgSnap(1, 2, 7), db)))
	}
	sum := "\x94\x16\x36\x20" // of another
	snapshots := []struct {
		name string
		to   *testmember.Member
		h    map[string]string
		body io.Reader
		code int
	}{
		{"offset where nothing is", b, map[string]string{"X-Raft-Snapshot-Offset": "5"}, body(db + sum), 409},
		{"negative offset", b, map[string]string{"X-Raft-Snapshot-Offset": "-5"}, body(db + sum), 400},
		{"offset and size out of range", b, map[string]string{"X-Raft-Snapshot-Offset": "9223372036854775807"}, body(db + sum), 400},
		{"wrong checksum", b, map[string]string{"X-Raft-Snapshot-Offset": "0"}, body(db + sum), 500},
		{"no room for a checksum", b, map[string]string{"X-Raft-Snapshot-Offset": "0"}, body("db"), 400},
		{"length not declared", b, map[string]string{"X-Raft-Snapshot-Offset": "0"}, io.MultiReader(body(db + sum)), 400},
		{"no such Snapshotter", stock, map[string]string{"X-Raft-Snapshot-Offset": "0"}, body(db + sum), 404},
		{"from nobody", b, map[string]string{"X-Raft-Snapshot-Offset": "0", "X-Server-From": ""}, body(db + sum), 400},
		{"to another member", b, map[string]string{"X-Raft-Snapshot-Offset": "0", "X-Raft-To": "3"}, body(db + sum), 412},
	}
	for _, tc := range snapshots {
		t.Run("snapshot, "+tc.name, func(t *testing.T) {
			got := testmember.Exchange(t, tc.to.URL, "POST", "/raft/snapshot", testmember.PeerHeader(tc.h), tc.body)
			require.Equal(t, tc.code, got.StatusCode, got.Body)
			require.Empty(t, tc.to.Recorder.Received())
			files, err := os.ReadDir(dir)
			require.NoError(t, err)
			require.Empty(t, files)
		})
	}
}

// What a receiver says is not believed either.
func TestSnapshotHostileReceiver(t *testing.T) {
	probe := "HTTP/1.1 200 OK\r\nX-Raft-Extensions: snapshot-1\r\nContent-Length: 0\r\n\r\n"
	offset := func(offset, sum string) string {
		return fmt.Sprintf("HTTP/1.1 204 No Content\r\nX-Raft-Snapshot-Offset: %s\r\nX-Raft-Snapshot-Checksum: %s\r\n\r\n", offset, sum)
	}
	tests := map[string]string{
		"more than there is": offset("11", "00000000"),
		"negative":           offset("-1", "00000000"),
		"not a number":       offset("ten", "00000000"),
		"no checksum":        offset("5", ""),
		"checksum too long":  offset("5", "123456789"),
		"no offset":          "HTTP/1.1 204 No Content\r\n\r\n",
		"another status":     "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
		"endless":            "HTTP/1.1 500 No\r\n\r\n",
	}
	for name, answer := range tests {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				p := testmember.NewPair(t, func(tr *rafthttp.Transport) { tr.DialRetryFrequency = 1e-3 }, nil)
				url, _ := p.Script(t, testmember.Conversation(probe, answer), true)
				p.A.AddPeer(3, []string{url})
				db := &testmember.Seekable{Reader: bytes.NewReader(testmember.RandomBytes(10))}
				m := snap.NewMessage(testmember.MsgSnap(3, 1, 7), db, 10)
				p.A.SendSnapshot(m)
				require.Error(t, <-p.Sent)
				require.False(t, <-m.CloseNotify())
				require.EqualValues(t, 1, db.Closes.Load())
			})
		})
	}
}
