package snapshots_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/internal/bubble"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/snap"
)

// TestSnapshotPreparedForOneThatCannotResume: what PrepareDB returns need be no more than a Saver. It gets all of the
// database, from its beginning also where the connection broke, and none whose checksum is wrong.
func TestSnapshotPreparedForOneThatCannotResume(t *testing.T) {
	const size = 4 << 20
	data := testmember.RandomBytes(size)
	for _, size := range []int64{size, 1, 0} {
		t.Run(fmt.Sprint(size, " bytes"), func(t *testing.T) {
			dir := t.TempDir()
			bubble.Test(t, func(t *testing.T) {
				var saved []byte
				var discards int
				keeps := testmember.Saver(func(r io.Reader, _ uint64) (n int64, err error) {
					if size > 0 {
						saved, err = io.ReadAll(r)
					}
					return int64(len(saved)), err
				})
				p := testmember.NewPair(t, nil, testmember.Receives(preparing{testmember.OpenStore(t, dir), func(context.Context, *raftpb.Message, int64) (snap.Saver, error) {
					return discarder{keeps, func() { discards++ }}, nil
				}}))
				p.Net.Link("a", "b").SetBandwidth(4 << 20)
				time.Sleep(time.Second)
				db := breaking(data[:size], func() { p.Net.Reset("a", "b") }, 1<<20)
				p.A.SendSnapshot(snap.NewMessage(testmember.MsgSnap(2, 1, 7), db, size))
				require.NoError(t, <-p.Sent)
				require.True(t, bytes.Equal(data[:size], saved))
				require.Len(t, p.B.Recorder.Received(), 1)
				require.Zero(t, discards)

				h := map[string]string{"X-Server-From": "1", "X-Raft-To": "2", "X-Raft-Snapshot-Offset": "0"}
				got := exchangeOver(t, p, "/raft/snapshot", testmember.PeerHeader(h), testmember.ReadString(t, testmember.SnapshotBody(t, testmember.MsgSnap(2, 1, 8), string(data[:size])+"sums")))
				require.Equal(t, 500, got.StatusCode)
				require.Equal(t, "failed to save database snapshot (checksum differs): snap: checksum of the database differs\n", got.Body)
				require.Less(t, int64(len(saved)), max(size, 1), "an end is seen of what is whole only")
				require.Len(t, p.B.Recorder.Received(), 1)
				require.Equal(t, size == 0, discards == 1)
			})
		})
	}
}

// discarder is a Saver that counts what it is told.
type discarder struct {
	testmember.Saver
	discarded func()
}

func (d discarder) DiscardDB(uint64, error) { d.discarded() }

// exchangeOver posts a body to b over the network of p.
func exchangeOver(t *testing.T, p *testmember.Pair, path string, h http.Header, body string) testmember.Answer {
	t.Helper()
	c, err := p.Net.Host("c").DialContext(t.Context(), "tcp", "b:80")
	require.NoError(t, err)
	defer c.Close()
	_, err = io.WriteString(c, testmember.RequestHead("POST", path, h, len(body))+body)
	require.NoError(t, err)
	return testmember.ReadAnswer(t, c)
}
