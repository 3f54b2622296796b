// Command server36 has the write-ahead log of etcd 3.6 beside raft 3.7. It does
// not compile.
package main

import (
	"go.etcd.io/etcd/server/v3/storage/wal/walpb"
	"go.etcd.io/raft/v3/raftpb"
)

func main() {
	_ = walpb.Snapshot{ConfState: &raftpb.ConfState{}}
}
