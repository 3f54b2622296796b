package rafthttp_test

import (
	"context"
	"fmt"
	"log"
	"net/http/httptest"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
)

// groupRaft is the Raft of one group: in a server it passes messages to the group's raft.Node or RawNode.
type groupRaft struct {
	quietRaft
	received chan<- string
	group    uint64
}

func (r groupRaft) Process(_ context.Context, m *raftpb.Message) error {
	r.received <- fmt.Sprintf("group %d: %v", r.group, m.GetType())
	return nil
}

// Two nodes have a hundred groups each, which share the connections between them.
func ExampleTransport_Group() {
	received := make(chan string)
	nodes := map[types.ID]*rafthttp.Transport{}
	urls := map[types.ID][]string{}
	for id := types.ID(1); id <= 2; id++ {
		t := &rafthttp.Transport{ID: id, ClusterID: clusterID, Raft: rafthttp.NoRaft{}}
		if err := t.Start(); err != nil {
			log.Fatal(err)
		}
		defer t.Stop()
		web := httptest.NewServer(t.Handler()) // in a server: rafthttp.NewServer
		defer web.Close()
		nodes[id], urls[id] = t, []string{web.URL}
	}
	groups := map[types.ID][]*rafthttp.Group{}
	for id, t := range nodes {
		for group := uint64(1); group <= 100; group++ {
			g, err := t.Group(group, rafthttp.GroupConfig{Raft: groupRaft{received: received, group: group}})
			if err != nil {
				log.Fatal(err)
			}
			groups[id] = append(groups[id], g)
		}
	}
	for id, all := range groups {
		other := 3 - id
		for _, g := range all {
			g.AddPeer(other, urls[other])
		}
	}
	groups[1][41].Send([]*raftpb.Message{{Type: raftpb.MsgHeartbeat.Enum(), From: new(uint64(1)), To: new(uint64(2))}})
	fmt.Println(<-received)
	// Output: group 42: MsgHeartbeat
}
