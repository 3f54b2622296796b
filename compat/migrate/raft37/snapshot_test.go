package main

import (
	"net/http"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
)

// TestSnapshotMessageWithoutASnapshot: a MsgSnap without a snapshot, which any member can send, is an error. A panic would end
// the process.
func TestSnapshotMessageWithoutASnapshot(t *testing.T) {
	n := &node{store: &store{dir: t.TempDir(), client: http.DefaultClient}}
	for name, s := range map[string]*raftpb.Snapshot{"none": nil, "empty": {}, "without metadata": {Data: []byte("http://127.0.0.1:1")}} {
		m := &raftpb.Message{Type: raftpb.MsgSnap.Enum(), From: new(uint64(2)), To: new(uint64(1)), Term: new(uint64(1)), Snapshot: s}
		if err := n.Process(t.Context(), m); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
