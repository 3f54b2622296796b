package snapshots_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/bubble"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/snap"
)

// checksumOf returns what follows a database that can be resumed.
func checksumOf(db []byte) string {
	return string(binary.BigEndian.AppendUint32(nil, crc32.Checksum(db, crc32.MakeTable(crc32.Castagnoli))))
}

// TestSnapshotThatMovesSlowlyIsNotInterrupted: a few bytes now and then are progress, however long the receiver's
// ReadTimeout is, also where the kernel moves them.
func TestSnapshotThatMovesSlowlyIsNotInterrupted(t *testing.T) {
	const size, rest = 400 << 10, 25 << 10
	store := testmember.OpenStore(t, t.TempDir())
	b := testmember.Start(t, 1, func(tr *rafthttp.Transport) { tr.Snapshotter, tr.ReadTimeout = store, time.Minute })
	data := testmember.RandomBytes(size)
	body := testmember.ReadString(t, testmember.SnapshotBody(t, testmember.MsgSnap(1, 2, 7), string(data)+checksumOf(data)))
	c, err := net.Dial("tcp", strings.TrimPrefix(b.URL, "http://"))
	require.NoError(t, err)
	defer c.Close()
	h := map[string]string{"Connection": "close", "X-Raft-Snapshot-Offset": "0", "X-Raft-Snapshot-Transfer": "a"}
	_, err = io.WriteString(c, testmember.RequestHead("POST", "/raft/snapshot", testmember.PeerHeader(h), len(body))+body[:len(body)-rest])
	require.NoError(t, err)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	younger := map[string]string{
		"X-Raft-Snapshot-Term": "1", "X-Raft-Snapshot-Index": "7", "X-Raft-Snapshot-Size": fmt.Sprint(size), "X-Raft-Snapshot-Transfer": "b",
	}
	ask := func() testmember.Answer {
		return testmember.Exchange(t, b.URL, "GET", "/raft/snapshot/offset", testmember.PeerHeader(younger), nil)
	}
	require.Eventually(t, func() bool { return ask().StatusCode == 409 }, 10*time.Second, time.Millisecond, "it is not received")
	for at := len(body) - rest; at < len(body); at += 1 << 10 {
		got := ask()
		require.Equal(t, 409, got.StatusCode, got.Body)
		require.Equal(t, "still writing an earlier part of this snapshot\n", got.Body)
		<-tick.C
		_, err = io.WriteString(c, body[at:at+1<<10])
		require.NoError(t, err)
	}
	require.Equal(t, 204, testmember.ReadAnswer(t, c).StatusCode)
	testmember.RequireSaved(t, store, 7, data)
}

// TestSnapshotIsNotInterruptedWhileTheDiskHangs: a transfer that stands still since its receiver does is not given up
// for a younger one of the same snapshot.
func TestSnapshotIsNotInterruptedWhileTheDiskHangs(t *testing.T) {
	const size = 8 << 20
	data := testmember.RandomBytes(size)
	dir := t.TempDir()
	bubble.Test(t, func(t *testing.T) {
		store := testmember.OpenStore(t, dir)
		p := testmember.NewPair(t, nil, testmember.Receives(&hanging{store, size / 2, func() { time.Sleep(20 * time.Second) }}))
		time.Sleep(time.Second)
		p.A.SendSnapshot(snap.NewMessage(testmember.MsgSnap(2, 1, 7), &testmember.Seekable{Reader: bytes.NewReader(data)}, size))
		ended := make(chan error, 1)
		twin := p.Start(t, "c", 1, func(tr *rafthttp.Transport) { tr.Observer, tr.DialRetryFrequency = sentTo(ended), 1e-3 })
		twin.AddPeer(2, []string{p.B.URL})
		time.Sleep(time.Second)
		twin.SendSnapshot(snap.NewMessage(testmember.MsgSnap(2, 1, 7), &testmember.Seekable{Reader: bytes.NewReader(data)}, size))
		require.NoError(t, <-p.Sent)
		require.Equal(t, 1, p.A.Status().Peers[0].LastSnapshot.Attempts)
		require.NoError(t, <-ended)
		require.Less(t, twin.Status().Peers[0].SentBytes, uint64(size/10), "the receiver has it")
		testmember.RequireSaved(t, store, 7, data)
	})
}

// TestSnapshotToAReceiverWithMorePatience: a sender with a ReadTimeout of a second is told in time that the receiver
// is at work, whatever the receiver's own is.
func TestSnapshotToAReceiverWithMorePatience(t *testing.T) {
	const size = 8 << 20
	data := testmember.RandomBytes(size)
	for _, read := range []time.Duration{5 * time.Second, time.Minute} {
		for _, tc := range []struct{ stock, wrapped bool }{{false, false}, {true, false}, {false, true}} {
			t.Run(fmt.Sprintf("%v, stock %t, behind a middleware %t", read, tc.stock, tc.wrapped), func(t *testing.T) {
				dir := t.TempDir()
				bubble.Test(t, func(t *testing.T) {
					store := testmember.OpenStore(t, dir)
					p := testmember.NewPair(t, func(tr *rafthttp.Transport) { tr.ReadTimeout = time.Second }, nil)
					var s rafthttp.Snapshotter = &hanging{store, size / 2, func() { time.Sleep(20 * time.Second) }}
					if tc.stock {
						s = testmember.PlainStore{Snapshotter: s}
					}
					c := p.Start(t, "c", 3, func(tr *rafthttp.Transport) { tr.Snapshotter, tr.ReadTimeout = s, read })
					if tc.wrapped {
						c.Server.Handler = unhijackable(c.Server.Handler)
					}
					p.A.AddPeer(3, []string{c.URL})
					time.Sleep(time.Second)
					p.A.SendSnapshot(snap.NewMessage(testmember.MsgSnap(3, 1, 7), &testmember.Seekable{Reader: bytes.NewReader(data)}, size))
					require.NoError(t, <-p.Sent)
					testmember.RequireSaved(t, store, 7, data)
				})
			})
		}
	}
}
