package groups_test

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/internal/wire"
	"github.com/seed-4d73690b/rafthttp/memnet"
)

// numbers returns varints.
func numbers(vs ...uint64) (b []byte) {
	for _, v := range vs {
		b = binary.AppendUvarint(b, v)
	}
	return b
}

// batch returns the body of a POST with messages of a group.
func batch(t *testing.T, group uint64, ms ...*raftpb.Message) []byte {
	t.Helper()
	var b wire.Batch
	enc := wire.NewGroupEncoder()
	for _, m := range ms {
		enc.Append(&b, group, m)
	}
	enc.Finish(&b)
	var body bytes.Buffer
	_, err := b.WriteTo(&body)
	require.NoError(t, err)
	return body.Bytes()
}

// postGroups posts a body to /raft/groups as a member that is not a node.
func postGroups(t *testing.T, m *testmember.Member, body []byte) (code int, answer []byte) {
	t.Helper()
	got := testmember.Ask(t, m.Transport, http.MethodPost, "/raft/groups", testmember.PeerHeader(nil), bytes.NewReader(body))
	return got.Code, got.Body.Bytes()
}

// TestHostileGroups: what a member posts that is not a node costs its connection, and at most a little memory.
func TestHostileGroups(t *testing.T) {
	var unknown []*raftpb.Message
	for i := range uint64(20000) { // of which a POST may have 4096
		unknown = append(unknown, testmember.Heartbeat(1, 2, i))
	}
	local := testmember.Heartbeat(1, 2, 1)
	local.From = new(raft.LocalApplyThread)
	for name, attack := range map[string]struct {
		body []byte
		code int
	}{
		"not a frame":            {[]byte("GET / HTTP/1.1"), 400},
		"cut":                    {numbers(2, 0), 400},
		"slot out of range":      {numbers(1, 1<<40, 1, 2, 1), 400},
		"large message":          {numbers(3, 1, math.MaxInt64), 400},
		"large columns":          {numbers(5, 1<<30), 400},
		"many rows":              {append(numbers(5, 12, 1<<60), make([]byte, 11)...), 400},
		"many entries":           {append(numbers(1, 0, 1, 2, 1), numbers(4, 0, 1, 1<<60)...), 400},
		"unknown group":          {batch(t, 77, unknown[:4096]...), 200},
		"many messages":          {batch(t, 77, unknown...), 400},
		"many link heartbeats":   {make([]byte, 4097), 400},
		"another replica":        {batch(t, 1, testmember.Heartbeat(9, 2, 1)), 200},
		"no receiver":            {batch(t, 1, testmember.Heartbeat(0, 2, 1)), 200},
		"local thread":           {batch(t, 1, local), 200},
		"forget leader":          {batch(t, 1, &raftpb.Message{Type: raftpb.MsgForgetLeader.Enum(), From: new(uint64(2)), To: new(uint64(1))}), 200},
		"a thousand slots again": {bytes.Repeat(numbers(1, 7, 1, 2, 1), 100000), 200},
	} {
		t.Run(name, func(t *testing.T) {
			testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
				m := startNode(t, n, 1)
				g := join(t, m, 1, nil)
				before := testmember.HeapBytes()
				code, answer := postGroups(t, m, attack.body)
				require.Equal(t, attack.code, code, string(answer))
				require.Less(t, testmember.HeapBytes()-before, int64(4<<20))
				require.LessOrEqual(t, len(answer), 64<<10)
				time.Sleep(time.Second)
				require.Empty(t, g.raft.Received())
				code, _ = postGroups(t, m, batch(t, 1, testmember.Heartbeat(1, 2, 5)))
				require.Equal(t, 200, code)
				requireReceived(t, []*raftpb.Message{testmember.Heartbeat(1, 2, 5)}, g)
			})
		})
	}
}

// TestReplicaOfAnotherNode: with VerifyPeer a message is refused whose replica lives on another node than the one that
// sent it.
func TestReplicaOfAnotherNode(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		ma := testmember.StartSimulated(t, n, 1, func(tr *rafthttp.Transport) {
			tr.Raft = rafthttp.NoRaft{}
			tr.VerifyPeer = func(id types.ID, _ *tls.ConnectionState) error {
				if id == 4 {
					return errors.New("not a node")
				}
				return nil
			}
		})
		a := join(t, ma, 1, nil)
		mb, mc := startNode(t, n, 2), startNode(t, n, 3)
		b, c := join(t, mb, 1, nil), join(t, mc, 1, nil)
		a.AddPeer(2, []string{testmember.URLOf(2)})
		a.AddPeer(3, []string{testmember.URLOf(3)})
		b.AddPeer(1, []string{testmember.URLOf(1)})
		c.AddPeer(1, []string{testmember.URLOf(1)})
		time.Sleep(time.Second)
		c.Send([]*raftpb.Message{testmember.Heartbeat(1, 2, 1), testmember.MsgApp(1, 2, 1, nil)}) // as if it were 2
		time.Sleep(time.Second)
		require.Empty(t, a.raft.Received())
		require.EqualValues(t, 2, a.Status().Drops.Refused)
		b.Send([]*raftpb.Message{testmember.Heartbeat(1, 2, 1)})
		requireReceived(t, []*raftpb.Message{testmember.Heartbeat(1, 2, 1)}, a)
		got := testmember.Ask(t, ma.Transport, http.MethodPost, "/raft/groups", testmember.PeerHeader(map[string]string{"X-Server-From": "4"}), io.NopCloser(bytes.NewReader(nil)))
		require.Equal(t, http.StatusUnauthorized, got.Code)
	})
}
