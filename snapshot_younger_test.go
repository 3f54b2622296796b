package rafthttp_test

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
	store := openIn(t, t.TempDir())
	b := startMember(t, 1, func(tr *rafthttp.Transport) { tr.Snapshotter, tr.ReadTimeout = store, time.Minute })
	data := randomBytes(size)
	body := read(t, snapshotBody(t, msgSnap(1, 2, 7), string(data)+checksumOf(data)))
	c, err := net.Dial("tcp", strings.TrimPrefix(b.url, "http://"))
	require.NoError(t, err)
	defer c.Close()
	h := map[string]string{"Connection": "close", "X-Raft-Snapshot-Offset": "0", "X-Raft-Snapshot-Transfer": "a"}
	_, err = io.WriteString(c, requestHead("POST", "/raft/snapshot", peerHeader(h), len(body))+body[:len(body)-rest])
	require.NoError(t, err)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	younger := map[string]string{
		"X-Raft-Snapshot-Term": "1", "X-Raft-Snapshot-Index": "7", "X-Raft-Snapshot-Size": fmt.Sprint(size), "X-Raft-Snapshot-Transfer": "b",
	}
	ask := func() answer { return exchange(t, b.url, "GET", "/raft/snapshot/offset", peerHeader(younger), nil) }
	require.Eventually(t, func() bool { return ask().StatusCode == 409 }, 10*time.Second, time.Millisecond, "it is not received")
	for at := len(body) - rest; at < len(body); at += 1 << 10 {
		got := ask()
		require.Equal(t, 409, got.StatusCode, got.body)
		require.Equal(t, "still writing an earlier part of this snapshot\n", got.body)
		<-tick.C
		_, err = io.WriteString(c, body[at:at+1<<10])
		require.NoError(t, err)
	}
	require.Equal(t, 204, readAnswer(t, c).StatusCode)
	requireSaved(t, store, 7, data)
}

// TestSnapshotIsNotInterruptedWhileTheDiskHangs: a transfer that stands still since its receiver does is not given up
// for a younger one of the same snapshot.
func TestSnapshotIsNotInterruptedWhileTheDiskHangs(t *testing.T) {
	const size = 8 << 20
	data := randomBytes(size)
	dir := t.TempDir()
	bubble.Test(t, func(t *testing.T) {
		store := openIn(t, dir)
		p := newPair(t, nil, receives(&hanging{store, size / 2, func() { time.Sleep(20 * time.Second) }}))
		time.Sleep(time.Second)
		p.a.SendSnapshot(snap.NewMessage(msgSnap(2, 1, 7), &seekable{Reader: bytes.NewReader(data)}, size))
		ended := make(chan error, 1)
		twin := p.start(t, "c", 1, func(tr *rafthttp.Transport) { tr.Observer, tr.DialRetryFrequency = sentTo(ended), 1e-3 })
		twin.AddPeer(2, []string{p.b.url})
		time.Sleep(time.Second)
		twin.SendSnapshot(snap.NewMessage(msgSnap(2, 1, 7), &seekable{Reader: bytes.NewReader(data)}, size))
		require.NoError(t, <-p.sent)
		require.Equal(t, 1, p.a.Status().Peers[0].LastSnapshot.Attempts)
		require.NoError(t, <-ended)
		require.Less(t, twin.Status().Peers[0].SentBytes, uint64(size/10), "the receiver has it")
		requireSaved(t, store, 7, data)
	})
}

// TestSnapshotToAReceiverWithMorePatience: a sender with a ReadTimeout of a second is told in time that the receiver
// is at work, whatever the receiver's own is.
func TestSnapshotToAReceiverWithMorePatience(t *testing.T) {
	const size = 8 << 20
	data := randomBytes(size)
	for _, read := range []time.Duration{5 * time.Second, time.Minute} {
		for _, tc := range []struct{ stock, wrapped bool }{{false, false}, {true, false}, {false, true}} {
			t.Run(fmt.Sprintf("%v, stock %t, behind a middleware %t", read, tc.stock, tc.wrapped), func(t *testing.T) {
				dir := t.TempDir()
				bubble.Test(t, func(t *testing.T) {
					store := openIn(t, dir)
					p := newPair(t, func(tr *rafthttp.Transport) { tr.ReadTimeout = time.Second }, nil)
					var s rafthttp.Snapshotter = &hanging{store, size / 2, func() { time.Sleep(20 * time.Second) }}
					if tc.stock {
						s = plain{s}
					}
					c := p.start(t, "c", 3, func(tr *rafthttp.Transport) { tr.Snapshotter, tr.ReadTimeout = s, read })
					if tc.wrapped {
						c.server.Handler = unhijackable(c.server.Handler)
					}
					p.a.AddPeer(3, []string{c.url})
					time.Sleep(time.Second)
					p.a.SendSnapshot(snap.NewMessage(msgSnap(3, 1, 7), &seekable{Reader: bytes.NewReader(data)}, size))
					require.NoError(t, <-p.sent)
					requireSaved(t, store, 7, data)
				})
			})
		}
	}
}
