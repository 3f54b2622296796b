package operating_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/memnet"
	"github.com/seed-4d73690b/rafthttp/snap"
)

func snapshot(from, to types.ID, db io.Reader, size int64) *snap.Message {
	return snap.NewMessage(&raftpb.Message{
		Type: raftpb.MsgSnap.Enum(), To: new(uint64(to)), From: new(uint64(from)), Term: new(uint64(1)),
		Snapshot: &raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{
			Index: new(uint64(7)), Term: new(uint64(1)), ConfState: &raftpb.ConfState{Voters: []uint64{1, 2}},
		}},
	}, io.NopCloser(db), size)
}

// TestSlowDialsAreNamed: a dial that takes too long is named as that on each way to a peer, also where DialTimeout is longer than
// the timeouts of what dials; nowhere is it a connection that made no progress.
func TestSlowDialsAreNamed(t *testing.T) {
	for _, timeout := range []time.Duration{time.Second, 30 * time.Second} {
		t.Run(timeout.String(), func(t *testing.T) {
			simulate(t, func(t *testing.T, n *memnet.Network) {
				m := start(t, n, 1, func(tr *rafthttp.Transport) {
					tr.DialTimeout = timeout
					tr.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
						<-ctx.Done()
						return nil, ctx.Err()
					}
				})
				m.AddPeer(2, urls(2))
				m.Send([]*raftpb.Message{heartbeat(1, 2)})
				m.SendSnapshot(snapshot(1, 2, bytes.NewReader(nil), 0))
				time.Sleep(5 * time.Minute)
				said := map[string][]string{"probe": {m.peer(t, 2).ProbeError}, "status": {m.peer(t, 2).LastError}}
				for _, l := range m.logs.All() {
					if err, ok := l.ContextMap()["error"].(string); ok {
						said[l.Message] = append(said[l.Message], err)
					}
				}
				require.Len(t, said, 2+3, "dials, drops and the snapshot: %v", said)
				for what, errors := range said {
					for _, err := range errors {
						require.Contains(t, err, "no connection within the dial timeout", what)
						require.NotContains(t, err, rafthttp.ErrStalled.Error(), what)
					}
				}
			})
		})
	}
}
