package system

import (
	"context"
	"net/url"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
)

// Member is one of a group of which each sends to all others, as the members of a raft cluster do. Settings are those
// that the system has by itself.
type Member interface {
	// Address is where it listens, as "host:port".
	Address() string
	// AddPeer tells it at which address it reaches another member.
	AddPeer(id uint64, address string) error
	// Connected reports whether it is connected, both ways, to so many others, which are all that it knows.
	Connected(peers int) bool
	// Send sends messages to the members that they are for. It does not block: a message for which there is no room is
	// dropped, and its receiver reported unreachable.
	Send(msgs []*raftpb.Message)
	// Drops is how many messages were dropped on their way out or in, or could not be sent.
	Drops() int64
	// Close ends the member and all its goroutines.
	Close()
}

// MemberConfig says what member to start.
type MemberConfig struct {
	ID      uint64
	Address string // to listen at, as "host:port"; empty: any of loopback
	Raft    Raft
}

// Raft is what a Member hands messages to. Its methods are called concurrently, as the system does.
type Raft interface {
	// Process takes a message that has arrived. It may block: a system that can slows the sender down.
	Process(ctx context.Context, m *raftpb.Message) error
	// ReportUnreachable says that messages to a member were lost.
	ReportUnreachable(id uint64)
}

// listenAt is cfg.Address, or any of loopback.
func (cfg MemberConfig) listenAt() string {
	if cfg.Address == "" {
		return "127.0.0.1:0"
	}
	return cfg.Address
}

// hostMember is a Member that is a host.
type hostMember struct {
	host
	kind make_
}

// noSnapshots makes a Raft that knows no snapshots the callbacks of a transport.
type noSnapshots struct{ Raft }

// IsIDRemoved implements callbacks.
func (noSnapshots) IsIDRemoved(uint64) bool { return false }

// ReportSnapshot implements callbacks.
func (noSnapshots) ReportSnapshot(uint64, raft.SnapshotStatus) {}

func (kind make_) startMember(cfg MemberConfig) (Member, error) {
	m := &hostMember{kind: kind, host: host{id: cfg.ID, url: url.URL{Scheme: "http", Host: cfg.listenAt()}, raft: noSnapshots{cfg.Raft}}}
	if err := m.start(kind); err != nil {
		return nil, err
	}
	return m, nil
}

func (m *hostMember) Address() string { return m.url.Host }

func (m *hostMember) AddPeer(id uint64, address string) error {
	m.transporter.AddPeer(types.ID(id), []string{"http://" + address})
	return nil
}

func (m *hostMember) Connected(peers int) bool { return m.kind.ready(&m.host, peers) }

func (m *hostMember) Drops() int64 { return m.kind.drops(&m.host) }

func (m *hostMember) Close() { m.close() }
