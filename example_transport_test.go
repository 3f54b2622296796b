package rafthttp_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"strings"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/snap"
)

// follower is a Raft that says what arrives.
type follower struct {
	quietRaft
	store *snap.Store
}

func (f follower) Process(_ context.Context, m *raftpb.Message) error {
	path, err := f.store.DBFilePath(m.GetSnapshot().GetMetadata().GetIndex())
	if err != nil {
		return err
	}
	database, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	fmt.Printf("%v with a database: %s\n", m.GetType(), database)
	return nil
}

// A snapshot whose data is a database of its own goes out as a stream of bytes, and is saved before Process sees the
// message.
func ExampleTransport_SendSnapshot() {
	dir, err := os.MkdirTemp("", "snap")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	store, err := snap.Open(dir)
	if err != nil {
		log.Fatal(err)
	}
	two := &rafthttp.Transport{ID: 2, ClusterID: clusterID, Raft: follower{store: store}, Snapshotter: store}
	if err := two.Start(); err != nil {
		log.Fatal(err)
	}
	defer two.Stop()
	web := httptest.NewServer(two.Handler())
	defer web.Close()

	one := &rafthttp.Transport{ID: 1, ClusterID: clusterID, Raft: quietRaft{}}
	if err := one.Start(); err != nil {
		log.Fatal(err)
	}
	defer one.Stop()
	one.AddPeer(2, []string{web.URL})

	database := "color=blue"
	m := snap.NewMessage(&raftpb.Message{
		Type: raftpb.MsgSnap.Enum(), From: new(uint64(1)), To: new(uint64(2)), Term: new(uint64(3)),
		Snapshot: &raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{Index: new(uint64(1047)), Term: new(uint64(3))}},
	}, io.NopCloser(strings.NewReader(database)), int64(len(database)))
	one.SendSnapshot(m)
	fmt.Println("sent:", <-m.CloseNotify()) // until then, hold back compaction
	// Output:
	// MsgSnap with a database: color=blue
	// sent: true
}

// An Observer's hooks are called as things happen. Those that are nil cost nothing.
func ExampleObserver() {
	states := make(chan string, 1)
	two := &rafthttp.Transport{ID: 2, ClusterID: clusterID, Raft: quietRaft{}}
	if err := two.Start(); err != nil {
		log.Fatal(err)
	}
	defer two.Stop()
	web := httptest.NewServer(two.Handler())
	defer web.Close()

	one := &rafthttp.Transport{ID: 1, ClusterID: clusterID, Raft: quietRaft{}, Observer: &rafthttp.Observer{
		Sent: func(id types.ID, lane string, messages int, _ int64, _ time.Duration) {
			states <- fmt.Sprintf("sent %d message to member %s by its lane %q", messages, id, lane)
		},
	}}
	if err := one.Start(); err != nil {
		log.Fatal(err)
	}
	defer one.Stop()
	one.AddPeer(2, []string{web.URL})
	// Member 2 has not dialled its streams: a post stands in.
	one.Send([]*raftpb.Message{{Type: raftpb.MsgHeartbeat.Enum(), From: new(uint64(1)), To: new(uint64(2)), Term: new(uint64(3))}})
	fmt.Println(<-states)
	// Output: sent 1 message to member 2 by its lane "pipeline"
}

// Status is a value: keep it, compare it, marshal it.
func ExampleTransport_Status() {
	t := &rafthttp.Transport{ID: 1, ClusterID: clusterID, Raft: quietRaft{}}
	if err := t.Start(); err != nil {
		log.Fatal(err)
	}
	defer t.Stop()
	t.AddPeer(2, []string{"http://127.0.0.1:1"}) // nobody is there

	for _, p := range t.Status().Peers {
		fmt.Printf("member %s, active: %t\n", p.ID, p.Active)
		for _, l := range p.Lanes {
			fmt.Printf("  %-8s up: %-5t %d of %d messages\n", l.Name, l.Up, l.Queued, l.Capacity)
		}
	}
	// Output:
	// member 2, active: false
	//   message  up: false 0 of 4096 messages
	//   msgapp   up: false 0 of 4096 messages
	//   pipeline up: true  0 of 64 messages
	//   control  up: true  0 of 4096 messages
	//   append   up: true  0 of 4096 messages
	//   proposal up: true  0 of 4096 messages
}

// quietRaft is a Raft that does nothing.
type quietRaft struct{}

func (quietRaft) Process(context.Context, *raftpb.Message) error { return nil }
func (quietRaft) IsIDRemoved(uint64) bool                        { return false }
func (quietRaft) ReportUnreachable(uint64)                       {}
func (quietRaft) ReportSnapshot(uint64, raft.SnapshotStatus)     {}
