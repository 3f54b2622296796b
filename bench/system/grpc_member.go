package system

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
)

const (
	// grpcQueue is how many messages wait for a stream, as many as with etcd's transport.
	grpcQueue = 4096
	// grpcRetry is how long a broken stream is left alone, and grpcMaxDelay the most between two dials.
	grpcRetry    = 100 * time.Millisecond
	grpcMaxDelay = time.Second
)

// grpcNode is a Member on gRPC: to each other one there are two streams, of appends and of all else, each with a queue and
// a goroutine.
type grpcNode struct {
	id       uint64
	raft     Raft
	listener net.Listener
	server   *grpc.Server
	drops    atomic.Int64

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu    sync.Mutex
	peers map[uint64]*grpcPeer
}

type grpcPeer struct {
	id      uint64
	channel [2]*grpc.ClientConn
	queue   [2]chan *raftpb.Message
}

func startGRPCMember(cfg MemberConfig) (Member, error) {
	m := &grpcNode{id: cfg.ID, raft: cfg.Raft, peers: map[uint64]*grpcPeer{}}
	var err error
	if m.listener, err = net.Listen("tcp", cfg.listenAt()); err != nil {
		return nil, err
	}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	m.server = newGRPCServer(insecure.NewCredentials(), m.receive)
	m.wg.Go(func() { _ = m.server.Serve(m.listener) })
	return m, nil
}

func (m *grpcNode) Address() string { return m.listener.Addr().String() }

func (m *grpcNode) AddPeer(id uint64, address string) error {
	p := &grpcPeer{id: id}
	for i := range p.queue {
		var err error
		p.channel[i], err = newGRPCChannel(address, insecure.NewCredentials(), grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: backoff.Config{BaseDelay: grpcRetry, Multiplier: 1.6, Jitter: 0.2, MaxDelay: grpcMaxDelay}, MinConnectTimeout: grpcMaxDelay,
		}))
		if err != nil {
			return err
		}
		p.queue[i] = make(chan *raftpb.Message, grpcQueue)
	}
	m.mu.Lock()
	m.peers[id] = p
	m.mu.Unlock()
	for i := range p.queue {
		m.wg.Go(func() { m.feed(p, p.channel[i], p.queue[i]) })
	}
	return nil
}

// Connected implements Member: a channel connects when it is used, and its queue waits for it.
func (m *grpcNode) Connected(int) bool { return true }

// Send implements Member.
func (m *grpcNode) Send(msgs []*raftpb.Message) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, msg := range msgs {
		p := m.peers[msg.GetTo()]
		if p == nil {
			continue
		}
		way := 0
		if msg.GetType() != raftpb.MsgApp {
			way = 1
		}
		select {
		case p.queue[way] <- msg:
		default:
			m.lost(p)
		}
	}
}

// lost is called for a message; raft must not be called from Send.
func (m *grpcNode) lost(p *grpcPeer) {
	m.drops.Add(1)
	m.wg.Go(func() { m.raft.ReportUnreachable(p.id) })
}

// feed sends what is queued for one stream, and opens it anew when it breaks.
func (m *grpcNode) feed(p *grpcPeer, channel *grpc.ClientConn, queue <-chan *raftpb.Message) {
	var stream grpc.ClientStream
	for {
		var msg *raftpb.Message
		select {
		case msg = <-queue:
		case <-m.ctx.Done():
			return
		}
		var err error
		if stream == nil {
			stream, err = channel.NewStream(m.ctx, &grpc.StreamDesc{ClientStreams: true}, grpcMethod)
		}
		if err == nil {
			err = stream.SendMsg(msg)
		}
		if err == nil {
			continue
		}
		stream = nil
		m.lost(p)
		select {
		case <-time.After(grpcRetry):
		case <-m.ctx.Done():
			return
		}
	}
}

// receive serves a stream.
func (m *grpcNode) receive(_ any, stream grpc.ServerStream) error {
	for {
		msg := new(raftpb.Message) // raft keeps it
		if err := stream.RecvMsg(msg); err != nil {
			return err
		}
		if err := m.raft.Process(stream.Context(), msg); err != nil {
			return err
		}
	}
}

func (m *grpcNode) Drops() int64 { return m.drops.Load() }

// Close implements Member.
func (m *grpcNode) Close() {
	m.cancel()
	m.mu.Lock()
	for _, p := range m.peers {
		for _, c := range p.channel {
			c.Close()
		}
	}
	m.mu.Unlock()
	m.server.Stop()
	m.wg.Wait()
}
