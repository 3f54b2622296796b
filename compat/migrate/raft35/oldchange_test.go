package main

import (
	"bytes"
	"encoding/json"
	"io"
	"log"
	"net/http"
	"runtime"
	"slices"
	"testing"
	"testing/synctest"

	"go.etcd.io/etcd/raft/v3"
	"go.etcd.io/etcd/raft/v3/raftpb"
)

// applying is a node that waits before it applies a change of the members.
type applying struct {
	raft.Node
	goOn chan struct{}
}

func (a applying) ApplyConfChange(cc raftpb.ConfChangeI) *raftpb.ConfState {
	<-a.goOn
	return a.Node.ApplyConfChange(cc)
}

// fetched is the answer to every request.
type fetched []byte

func (f fetched) RoundTrip(*http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(bytes.NewReader(f))}, nil
}

// snapshotOf is a snapshot, and the state that it points to.
func snapshotOf(t *testing.T, meta raftpb.SnapshotMetadata) (raftpb.Snapshot, fetched) {
	t.Helper()
	text, err := meta.Marshal()
	must(t, err)
	data, err := json.Marshal(&state{Metadata: text, Members: map[uint64]string{1: "http://127.0.0.1:1"}})
	must(t, err)
	return raftpb.Snapshot{Metadata: meta, Data: []byte("http://127.0.0.1:1/state")}, data
}

// TestOldChangeAfterASnapshot: a change of the members that is older than a snapshot, and is being applied when that comes, does not
// change those that the snapshot has brought (etcd#11510): afterwards raft's members are those of the state.
func TestOldChangeAfterASnapshot(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1)) // for the race detector: golang.org/issue/78156
	synctest.Test(t, func(t *testing.T) {
		n := follower(t, &raft.DefaultLogger{Logger: log.New(io.Discard, "", 0)})
		n.state.Members[4] = "http://127.0.0.1:1"
		s, data := snapshotOf(t, raftpb.SnapshotMetadata{
			Index: 20, Term: 1, ConfState: raftpb.ConfState{Voters: []uint64{1, 2, 3, 5}},
		})
		n.store.client = &http.Client{Transport: data}
		plain, served, ended, result := n.raft, make(chan error), make(chan error), make(chan error)
		held := applying{plain, make(chan struct{})}
		n.raft = held
		go func() { ended <- n.run(served) }()

		cc := raftpb.ConfChange{Type: raftpb.ConfChangeAddNode, NodeID: 4}
		change, err := cc.Marshal()
		must(t, err)
		n.lead(t, raftpb.Message{
			Type: raftpb.MsgApp, Index: 3, LogTerm: 1, Commit: 4,
			Entries: []raftpb.Entry{{Index: 4, Term: 1, Type: raftpb.EntryConfChange, Data: change}},
		})
		synctest.Wait()
		m := raftpb.Message{Type: raftpb.MsgSnap, From: 2, To: 1, Term: 1, Snapshot: s}
		go func() { result <- n.Process(t.Context(), m) }()
		synctest.Wait()
		close(held.goOn)
		must(t, <-result)
		synctest.Wait()
		voters := plain.Status().Config.Voters[0].Slice()
		served <- nil
		must(t, <-ended)
		if n.applied != 20 || !slices.Equal(n.confState.Voters, voters) {
			t.Fatalf("applied %d; raft has the members %v, the state has %v", n.applied, voters, n.confState.Voters)
		}
	})
}
