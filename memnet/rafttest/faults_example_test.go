package rafttest_test

import (
	"context"
	"fmt"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/memnet/rafttest"
)

// printer is a Raft that prints what it is given.
type printer struct{}

func (printer) Process(_ context.Context, m *raftpb.Message) error {
	fmt.Println("2 gets", m.GetType(), "from", m.GetFrom())
	return nil
}
func (printer) IsIDRemoved(uint64) bool                    { return false }
func (printer) ReportUnreachable(uint64)                   {}
func (printer) ReportSnapshot(uint64, raft.SnapshotStatus) {}

// Faults work without a Cluster, over any network: what Wrap returns goes into the field Raft of the Transport of
// member 2, which then calls Process as is done here.
func ExampleFaults() {
	faults := rafttest.NewFaults(1, nil)
	behind := faults.Wrap(2, printer{})
	defer behind.Close()
	arrive := func(typ raftpb.MessageType, from uint64) {
		if err := behind.Process(context.Background(), &raftpb.Message{Type: typ.Enum(), From: &from}); err != nil {
			fmt.Println(err)
		}
	}

	heal := faults.Apply(rafttest.Rule{From: 1, Types: []raftpb.MessageType{raftpb.MsgHeartbeat}, Loss: 1})
	faults.Apply(rafttest.Rule{From: 3, Duplicate: 1})
	arrive(raftpb.MsgHeartbeat, 1) // lost, which is no error
	arrive(raftpb.MsgApp, 1)
	arrive(raftpb.MsgAppResp, 3)
	heal()
	arrive(raftpb.MsgHeartbeat, 1)
	// Output:
	// 2 gets MsgApp from 1
	// 2 gets MsgAppResp from 3
	// 2 gets MsgAppResp from 3
	// 2 gets MsgHeartbeat from 1
}
