package rafthttp_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/url"
	"sync"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/seed-4d73690b/rafthttp"
)

// asyncServer is a member whose storage works beside raft: raft goes on, and its messages go out, while the log is written.
type asyncServer struct {
	raft.Node
	disk      *raft.MemoryStorage // a real server writes to a disk, and goes on with that by raft.RestartNode
	transport *rafthttp.Transport
	appends   chan *raftpb.Message // to the thread that writes the log
	applies   chan *raftpb.Message // to the one that has the state
	removed   sync.Map             // ids of members that left; a real server has them in its state
	proposals chan string
	applied   chan string
}

// Process has nothing to check: what is for other members, or of removed ones, does not get there.
func (s *asyncServer) Process(ctx context.Context, m *raftpb.Message) error { return s.Step(ctx, m) }

func (s *asyncServer) IsIDRemoved(id uint64) bool { _, gone := s.removed.Load(id); return gone }

// loop is the Ready loop. It waits for no disk: what it has read goes to three places at once.
func (s *asyncServer) loop(ctx context.Context) error {
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			s.Tick()
		case rd := <-s.Ready():
			peers, appends, applies := rafthttp.SplitMessages(rd.Messages)
			s.transport.Send(peers) // what has to be durable first is not among them
			for _, m := range appends {
				hand(ctx, s.appends, m)
			}
			for _, m := range applies {
				hand(ctx, s.applies, m)
			}
			// No Advance: the responses take its place.
		case text := <-s.proposals:
			go func() { _ = s.Propose(ctx, []byte(text)) }() // waits for a leader
		case err := <-s.transport.ErrorC: // we were removed from the cluster
			return err
		case <-ctx.Done():
			return nil
		}
	}
}

func hand(ctx context.Context, thread chan<- *raftpb.Message, m *raftpb.Message) {
	select {
	case thread <- m:
	case <-ctx.Done():
	}
}

// thread does the messages to one of raft's local threads in their order, and then delivers what waited for each.
func (s *asyncServer) thread(ctx context.Context, messages <-chan *raftpb.Message, do func(*raftpb.Message) error) error {
	step := func(m *raftpb.Message) error { return s.Step(ctx, m) }
	for {
		select {
		case m := <-messages:
			if err := do(m); err != nil {
				return err
			}
			if err := rafthttp.DeliverResponses(m, step, s.transport.Send); err != nil {
				return err
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// save makes a MsgStorageAppend durable: fsync comes before it returns.
func (s *asyncServer) save(m *raftpb.Message) error {
	if err := s.disk.Append(m.GetEntries()); err != nil {
		return err
	}
	hs := &raftpb.HardState{Term: m.Term, Vote: m.Vote, Commit: m.Commit} // empty if it has not changed
	if raft.IsEmptyHardState(hs) {
		return nil
	}
	return s.disk.SetHardState(hs)
	// Where the log is compacted there is m.Snapshot, too: docs/async-storage-writes.md.
}

// apply carries out a MsgStorageApply. That has to be in memory only.
func (s *asyncServer) apply(m *raftpb.Message) error {
	for _, e := range m.GetEntries() {
		switch {
		case e.GetType() == raftpb.EntryConfChange:
			var change raftpb.ConfChange
			if err := proto.Unmarshal(e.Data, &change); err != nil {
				return err
			}
			s.ApplyConfChange(&change)
			if id := change.GetNodeId(); change.GetType() == raftpb.ConfChangeRemoveNode {
				s.removed.Store(id, true)
				s.transport.RemovePeer(types.ID(id)) // for others: AddPeer or UpdatePeer
			}
		case len(e.Data) > 0:
			s.applied <- string(e.Data)
		}
	}
	return nil
}

// run runs a member until ctx ends, or something fails.
func (s *asyncServer) run(ctx context.Context, id types.ID, ln net.Listener, cluster map[types.ID]string) error {
	s.transport = &rafthttp.Transport{ID: id, ClusterID: clusterID, Raft: s, ErrorC: make(chan error, 1)}
	config := &raft.Config{
		ID: uint64(id), ElectionTick: 10, HeartbeatTick: 1, Storage: s.disk, MaxSizePerMsg: 1 << 20, MaxInflightMsgs: 256,
		AsyncStorageWrites: true,
		Logger:             &raft.DefaultLogger{Logger: log.New(io.Discard, "", 0)},
	}
	s.transport.LimitInflight(config) // fits raft's window to the transport's queues
	var peers []raft.Peer
	for peer := types.ID(1); int(peer) <= len(cluster); peer++ { // in the same order everywhere
		peers = append(peers, raft.Peer{ID: uint64(peer)})
	}
	s.Node = raft.StartNode(config, peers) // before AddPeer: Process may come from then on
	defer s.Stop()
	if err := s.transport.Start(); err != nil {
		return err
	}
	defer s.transport.Stop()
	for peer, u := range cluster {
		s.transport.AddPeer(peer, []string{u}) // does nothing for ourselves
	}
	web := rafthttp.NewServer(s.transport.Handler())
	go func() { _ = web.Serve(ln) }()
	defer web.Close()

	ctx, end := context.WithCancelCause(ctx)
	var threads sync.WaitGroup
	threads.Go(func() { end(s.thread(ctx, s.appends, s.save)) })
	threads.Go(func() { end(s.thread(ctx, s.applies, s.apply)) })
	end(s.loop(ctx))
	threads.Wait()
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
		return err // the first of the three that failed
	}
	return nil
}

// Three members whose raft runs with AsyncStorageWrites.
func Example_asyncStorageWrites() {
	ctx, stop := context.WithCancel(context.Background())
	listeners, cluster := map[types.ID]net.Listener{}, map[types.ID]string{}
	for id := types.ID(1); id <= 3; id++ {
		ln, err := rafthttp.NewListener(url.URL{Scheme: "http", Host: "127.0.0.1:0"}, nil)
		if err != nil {
			log.Fatal(err)
		}
		listeners[id], cluster[id] = ln, "http://"+ln.Addr().String()
	}
	servers, ended := map[types.ID]*asyncServer{}, make(chan error)
	for id, ln := range listeners {
		s := &asyncServer{
			disk: raft.NewMemoryStorage(), proposals: make(chan string, 1), applied: make(chan string, 1),
			appends: make(chan *raftpb.Message, 64), applies: make(chan *raftpb.Message, 64),
		}
		servers[id] = s
		go func() { ended <- s.run(ctx, id, ln, cluster) }()
	}

	servers[2].proposals <- "hello"
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
