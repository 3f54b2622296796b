// Command gogo gives a message of raft 3.7 to gogo's protobuf, as a program that
// changed nothing but the import of raft does.
package main

import (
	"fmt"
	"log"

	"github.com/gogo/protobuf/proto"
	"go.etcd.io/raft/v3/raftpb"
)

func main() {
	cc := &raftpb.ConfChange{NodeId: new(uint64(4))}
	data, err := proto.Marshal(cc)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("equal to itself:", proto.Equal(cc, cc))
	fmt.Println(proto.Unmarshal(data, &raftpb.ConfChange{}))
}
