package system

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// grpcSystem is what somebody would write on gRPC: client streams of raft messages. As its guide to performance says,
// there are streams instead of calls, and a channel of its own for what bulk must not delay. Windows are fixed and
// large instead of estimated, and buffers larger than its 32 KiB, which takes less CPU time here.
var grpcSystem = System{Name: "grpc", Title: "gRPC stream", Module: "google.golang.org/grpc", Start: startGRPC, StartMember: startGRPCMember}

const (
	grpcWindow     = 16 << 20
	grpcBuffer     = 128 << 10
	grpcMaxMessage = 64 << 20
	grpcMethod     = "/raft/Messages"
)

type grpcCluster struct {
	cfg     Config
	members []*grpcMember // the sender first
	appends []grpc.ClientStream
	pings   []grpc.ClientStream
	beats   []*raftpb.Message
	out     *fanout
	closing atomic.Bool
}

// grpcMember is a server, and the channels to others.
type grpcMember struct {
	cluster  *grpcCluster
	id       uint64
	listener net.Listener
	server   *grpc.Server
	served   sync.WaitGroup
	channels []*grpc.ClientConn
	answers  grpc.ClientStream // of a peer to the sender
	pong     *raftpb.Message
}

func startGRPC(cfg Config) (Cluster, error) {
	c := &grpcCluster{cfg: cfg}
	if err := c.start(); err != nil {
		c.Close()
		return nil, err
	}
	c.out = newFanout(cfg.Peers, func(peer, number int) error { return c.appends[peer].SendMsg(cfg.Load.to(peer, number)) }, c.fail)
	return c, nil
}

func (c *grpcCluster) start() error {
	for id := uint64(senderID); id < peerID(c.cfg.Peers); id++ {
		m, err := c.newMember(id)
		if err != nil {
			return err
		}
		c.members = append(c.members, m)
	}
	sender := c.members[0]
	for _, m := range c.members[1:] {
		appends, err := sender.stream(m)
		if err != nil {
			return err
		}
		c.appends = append(c.appends, appends)
		pings, err := sender.stream(m)
		if err != nil {
			return err
		}
		c.pings = append(c.pings, pings)
		c.beats = append(c.beats, heartbeat(m.id)[0])
		if m.answers, err = m.stream(sender); err != nil {
			return err
		}
	}
	return nil
}

func (c *grpcCluster) newMember(id uint64) (*grpcMember, error) {
	m := &grpcMember{cluster: c, id: id, pong: heartbeatResponse(id)[0]}
	creds := insecure.NewCredentials()
	if c.cfg.TLS != nil {
		creds = credentials.NewTLS(c.cfg.TLS.config())
	}
	m.server = newGRPCServer(creds, m.receive)
	var err error
	if m.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return nil, err
	}
	m.served.Go(func() { _ = m.server.Serve(m.listener) })
	return m, nil
}

// newGRPCServer returns a server of streams of messages, each of which receive serves.
func newGRPCServer(creds credentials.TransportCredentials, receive grpc.StreamHandler) *grpc.Server {
	s := grpc.NewServer(
		grpc.Creds(creds), grpc.InitialWindowSize(grpcWindow), grpc.InitialConnWindowSize(grpcWindow),
		grpc.ReadBufferSize(grpcBuffer), grpc.WriteBufferSize(grpcBuffer), grpc.MaxRecvMsgSize(grpcMaxMessage),
	)
	s.RegisterService(&grpc.ServiceDesc{
		ServiceName: "raft", HandlerType: (*any)(nil),
		Streams: []grpc.StreamDesc{{StreamName: "Messages", Handler: receive, ClientStreams: true}},
	}, nil)
	return s
}

func newGRPCChannel(address string, creds credentials.TransportCredentials, options ...grpc.DialOption) (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///"+address, append(options,
		grpc.WithTransportCredentials(creds), grpc.WithInitialWindowSize(grpcWindow), grpc.WithInitialConnWindowSize(grpcWindow),
		grpc.WithReadBufferSize(grpcBuffer), grpc.WithWriteBufferSize(grpcBuffer),
	)...)
}

// stream opens a stream from m to another member, on a channel of its own.
func (m *grpcMember) stream(to *grpcMember) (grpc.ClientStream, error) {
	creds := insecure.NewCredentials()
	if t := m.cluster.cfg.TLS; t != nil {
		creds = credentials.NewTLS(t.config())
	}
	channel, err := newGRPCChannel(to.listener.Addr().String(), creds)
	if err != nil {
		return nil, err
	}
	m.channels = append(m.channels, channel)
	return channel.NewStream(context.Background(), &grpc.StreamDesc{ClientStreams: true}, grpcMethod)
}

// receive serves a stream.
func (m *grpcMember) receive(_ any, stream grpc.ServerStream) error {
	sink := m.cluster.cfg.Sink
	for {
		msg := new(raftpb.Message) // raft keeps it
		if err := stream.RecvMsg(msg); err != nil {
			m.cluster.fail(err)
			return err
		}
		switch msg.GetType() {
		case raftpb.MsgApp:
			if !m.cluster.cfg.Load.fits(msg) {
				sink.Failed(errors.New("an append has arrived that was not sent"))
			}
			sink.Appended(int(m.id-peerID(0)), 1)
		case raftpb.MsgHeartbeat:
			if err := m.answers.SendMsg(m.pong); err != nil {
				m.cluster.fail(err)
			}
		case raftpb.MsgHeartbeatResp:
			sink.Ponged(int(msg.GetFrom() - peerID(0)))
		}
	}
}

func (c *grpcCluster) Send(from, n int) { c.out.send(from, n) }

func (c *grpcCluster) Ping(peer int) {
	if err := c.pings[peer].SendMsg(c.beats[peer]); err != nil {
		c.fail(err)
	}
}

func (c *grpcCluster) fail(err error) {
	if !c.closing.Load() {
		c.cfg.Sink.Failed(fmt.Errorf("gRPC: %w", err))
	}
}

func (c *grpcCluster) Close() {
	c.closing.Store(true)
	for _, m := range c.members {
		for _, channel := range m.channels {
			channel.Close()
		}
	}
	if c.out != nil {
		c.out.close()
	}
	for _, m := range c.members {
		m.server.Stop()
		m.served.Wait()
	}
}
