package snapshots_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
)

// FuzzSnapshotRequest gives the handler any body for a snapshot, and compares what
// it makes of the message at its head with the plainest reading of it: a length
// and what proto decodes; it has to be for us, and not in the name of a local
// thread of raft, or nothing of it is saved or processed.
func FuzzSnapshotRequest(f *testing.F) {
	const limit = 64 << 10
	var (
		processed []*raftpb.Message
		saved     [][]byte
	)
	tr := &rafthttp.Transport{
		ID: 1, ClusterID: testmember.ClusterID, MaxMessageBytes: limit,
		Raft: &testmember.Recorder{OnProcess: func(_ context.Context, m *raftpb.Message) error {
			processed = append(processed, m)
			return nil
		}},
		Snapshotter: testmember.Saver(func(r io.Reader, _ uint64) (int64, error) {
			b, err := io.ReadAll(r)
			saved = append(saved, b)
			return int64(len(b)), err
		}),
	}
	require.NoError(f, tr.Start())
	f.Cleanup(tr.Stop)
	h := tr.Handler()
	add := func(m *raftpb.Message, db string) {
		b, err := proto.Marshal(m)
		require.NoError(f, err)
		f.Add(append(append(testmember.LengthPrefixBytes(uint64(len(b))), b...), db...), true)
	}
	add(testmember.MsgSnap(1, 2, 7), "db")
	add(testmember.MsgSnap(0, 2, 7), "db")
	add(testmember.MsgSnap(1, 2, 0), "db")
	add(testmember.MsgSnap(3, 2, 7), "for another member")
	add(testmember.MsgSnap(1, types.ID(raft.LocalAppendThread), 7), "of a local thread")
	add(testmember.MsgSnap(1, types.ID(raft.LocalApplyThread), 7), "of a local thread")
	add(testmember.MsgApp(1, 2, 7, []byte("x")), "")
	add(&raftpb.Message{Type: raftpb.MsgSnap.Enum()}, "")
	f.Add(append(testmember.LengthPrefixBytes(2), 8, 8), false) // a link heartbeat
	f.Add(testmember.LengthPrefixBytes(1<<62), true)
	f.Add(testmember.LengthPrefixBytes(limit), false)
	f.Fuzz(func(t *testing.T, body []byte, declared bool) {
		want, db, code := snapshotOf(body, limit)
		processed, saved = nil, nil
		r := httptest.NewRequest(http.MethodPost, "/raft/snapshot", iotest.HalfReader(bytes.NewReader(body)))
		for k, v := range testmember.PeerHeader(nil) {
			r.Header[k] = v
		}
		r.ContentLength = -1
		if declared {
			r.ContentLength = int64(len(body))
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code == http.StatusBadRequest && bytes.Contains(w.Body.Bytes(), []byte("limit")) {
			code = w.Code // a message within the limit on the wire may take more in memory
		}
		require.Equal(t, code, w.Code, w.Body)
		if code != http.StatusNoContent {
			require.Empty(t, processed)
			require.Empty(t, saved)
		} else {
			require.Len(t, saved, 1)
			require.True(t, bytes.Equal(db, saved[0]))
			require.Len(t, processed, 1)
			require.True(t, proto.Equal(want, processed[0]))
		}
		require.Empty(t, tr.Status().Receiving)
	})
}

// snapshotOf returns how a body has to be answered, the message at its head, if that
// is a snapshot with an index, and the database behind it.
func snapshotOf(body []byte, limit uint64) (m *raftpb.Message, db []byte, code int) {
	if m, db = headOf(body, limit); m == nil {
		return nil, nil, http.StatusBadRequest
	}
	switch to, from := m.GetTo(), m.GetFrom(); {
	case to != 0 && to != 1:
		return m, db, http.StatusPreconditionFailed
	case from == raft.LocalAppendThread || from == raft.LocalApplyThread:
		return m, db, http.StatusUnauthorized
	}
	return m, db, http.StatusNoContent
}

func headOf(body []byte, limit uint64) (*raftpb.Message, []byte) {
	if len(body) < 8 {
		return nil, nil
	}
	n, rest := binary.BigEndian.Uint64(body), body[8:]
	m := &raftpb.Message{}
	if n > limit || n > uint64(len(rest)) || proto.Unmarshal(rest[:n], m) != nil {
		return nil, nil
	}
	if m.GetType() != raftpb.MsgSnap || raft.IsEmptySnap(m.GetSnapshot()) {
		return nil, nil
	}
	return m, rest[n:]
}
