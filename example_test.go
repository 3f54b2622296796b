package rafthttp_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/seed-4d73690b/rafthttp"
)

// clusterID was drawn at random when the cluster was founded; a real server keeps it with its data.
const clusterID types.ID = 0x4c1d80f7a2936be5

// server is one member: raft decides what to send, the transport carries it.
type server struct {
	node      raft.Node
	log       *raft.MemoryStorage // a real server saves to disk, and goes on with that by raft.RestartNode
	removed   sync.Map            // ids of members that left; a real server has them in its state
	transport *rafthttp.Transport
	propose   chan string
	applied   chan string
}

// These methods make a server a rafthttp.Raft. Process has nothing to check: what is for other members, or of removed ones,
// does not get there.

func (s *server) Process(ctx context.Context, m *raftpb.Message) error { return s.node.Step(ctx, m) }
func (s *server) IsIDRemoved(id uint64) bool                           { _, gone := s.removed.Load(id); return gone }
func (s *server) ReportUnreachable(id uint64)                          { s.node.ReportUnreachable(id) }
func (s *server) ReportSnapshot(id uint64, st raft.SnapshotStatus)     { s.node.ReportSnapshot(id, st) }

// run runs a member until ctx ends.
func (s *server) run(ctx context.Context, id types.ID, ln net.Listener, cluster map[types.ID]string) error {
	s.transport = &rafthttp.Transport{ID: id, ClusterID: clusterID, Raft: s, ErrorC: make(chan error, 1)}
	config := raftConfig(id, s.log)
	s.transport.LimitInflight(config) // fits raft's window to the transport's queues
	s.node = raft.StartNode(config, raftPeers(cluster))
	defer s.node.Stop()

	if err := s.transport.Start(); err != nil {
		return err
	}
	defer s.transport.Stop()
	for peer, u := range cluster {
		s.transport.AddPeer(peer, []string{u}) // does nothing for ourselves
	}
	web := &http.Server{Handler: s.transport.Handler()}
	go func() { _ = web.Serve(ln) }()
	defer web.Close()

	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	leads := false
	for {
		select {
		case <-ticker.C:
			s.node.Tick()
		case rd := <-s.node.Ready():
			if rd.SoftState != nil {
				leads = rd.RaftState == raft.StateLeader
			}
			if leads {
				s.transport.Send(rd.Messages) // while we save: a leader's messages promise nothing of its own disk
			}
			if err := s.save(rd); err != nil {
				return err
			}
			if !leads {
				s.transport.Send(rd.Messages) // once what they promise is saved
			}
			s.apply(rd.CommittedEntries)
			s.node.Advance()
		case text := <-s.propose:
			go func() { _ = s.node.Propose(ctx, []byte(text)) }() // waits for a leader
		case err := <-s.transport.ErrorC: // we were removed from the cluster
			return err
		case <-ctx.Done():
			return nil
		}
	}
}

// Three members of a cluster, which agree on what any of them proposes.
func Example() {
	ctx, stop := context.WithCancel(context.Background())
	listeners, cluster := map[types.ID]net.Listener{}, map[types.ID]string{}
	for id := types.ID(1); id <= 3; id++ {
		ln, err := rafthttp.NewListener(url.URL{Scheme: "http", Host: "127.0.0.1:0"}, nil)
		if err != nil {
			log.Fatal(err)
		}
		listeners[id], cluster[id] = ln, "http://"+ln.Addr().String()
	}
	servers, ended := map[types.ID]*server{}, make(chan error)
	for id, ln := range listeners {
		s := &server{log: raft.NewMemoryStorage(), propose: make(chan string, 1), applied: make(chan string, 1)}
		servers[id] = s
		go func() { ended <- s.run(ctx, id, ln, cluster) }()
	}

	servers[2].propose <- "hello"
	for id := types.ID(1); id <= 3; id++ {
		fmt.Printf("member %d applied %q\n", id, <-servers[id].applied)
	}
	stop()
	for range servers {
		if err := <-ended; err != nil {
			log.Fatal(err)
		}
	}
	// Output:
	// member 1 applied "hello"
	// member 2 applied "hello"
	// member 3 applied "hello"
}

func raftConfig(id types.ID, storage raft.Storage) *raft.Config {
	return &raft.Config{
		ID: uint64(id), ElectionTick: 10, HeartbeatTick: 1, Storage: storage, MaxSizePerMsg: 1 << 20, MaxInflightMsgs: 256,
		Logger: &raft.DefaultLogger{Logger: log.New(io.Discard, "", 0)},
	}
}

func raftPeers(cluster map[types.ID]string) (peers []raft.Peer) {
	for id := types.ID(1); int(id) <= len(cluster); id++ { // in the same order everywhere
		peers = append(peers, raft.Peer{ID: uint64(id)})
	}
	return peers
}

// save makes durable what raft has decided.
func (s *server) save(rd raft.Ready) error {
	if !raft.IsEmptyHardState(rd.HardState) {
		if err := s.log.SetHardState(rd.HardState); err != nil {
			return err
		}
	}
	return s.log.Append(rd.Entries)
}

// apply carries out what the cluster has agreed on.
func (s *server) apply(entries []*raftpb.Entry) {
	for _, e := range entries {
		switch {
		case e.GetType() == raftpb.EntryConfChange:
			var change raftpb.ConfChange
			if err := proto.Unmarshal(e.Data, &change); err == nil {
				s.node.ApplyConfChange(&change)
				if id := change.GetNodeId(); change.GetType() == raftpb.ConfChangeRemoveNode {
					s.removed.Store(id, true)
					s.transport.RemovePeer(types.ID(id)) // for others: AddPeer or UpdatePeer
				}
			}
		case len(e.Data) > 0:
			s.applied <- string(e.Data)
		}
	}
}
