// Command tworaftpb has raftpb twice: of raft 3.5 and of raft 3.7. It encodes a
// message with both.
package main

import (
	"fmt"
	"log"

	old "go.etcd.io/etcd/raft/v3/raftpb"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

func main() {
	before := &old.ConfChange{Type: old.ConfChangeRemoveNode, NodeID: 4, Context: []byte("before")}
	data, err := before.Marshal()
	if err != nil {
		log.Fatal(err)
	}
	after := &raftpb.ConfChange{}
	if err := proto.Unmarshal(data, after); err != nil {
		log.Fatal(err)
	}
	if data, err = proto.Marshal(after); err != nil {
		log.Fatal(err)
	}
	again := &old.ConfChange{}
	if err := again.Unmarshal(data); err != nil {
		log.Fatal(err)
	}
	fmt.Println(again.Type, again.NodeID, string(again.Context))
}
