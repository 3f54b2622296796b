package callback

import (
	"context"
	"crypto/tls"
	"net"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
)

// Raft is the interface of that name in package rafthttp.
type Raft interface {
	Process(ctx context.Context, m *raftpb.Message) error
	IsIDRemoved(id uint64) bool
	ReportUnreachable(id uint64)
	ReportSnapshot(id uint64, status raft.SnapshotStatus)
}

// guardedRaft guards the methods of a Raft except Process, whose callers know more about the
// message.
type guardedRaft struct {
	Raft
	guard Guard
}

// GuardRaft returns r with its methods guarded, except Process, which its callers guard.
func GuardRaft(g Guard, r Raft) Raft { return guardedRaft{r, g} }

// IsIDRemoved implements Raft.
func (r guardedRaft) IsIDRemoved(id uint64) bool {
	defer r.guard.Recover(Call{Name: "Raft.IsIDRemoved", Peer: types.ID(id)})
	return r.Raft.IsIDRemoved(id)
}

// ReportUnreachable implements Raft.
func (r guardedRaft) ReportUnreachable(id uint64) {
	defer r.guard.End(r.guard.Begin(Call{Name: "Raft.ReportUnreachable", Peer: types.ID(id)}))
	r.Raft.ReportUnreachable(id)
}

// ReportSnapshot implements Raft.
func (r guardedRaft) ReportSnapshot(id uint64, status raft.SnapshotStatus) {
	defer r.guard.End(r.guard.Begin(Call{Name: "Raft.ReportSnapshot", Peer: types.ID(id)}))
	r.Raft.ReportSnapshot(id, status)
}

// GuardVerify returns f guarded; nil stays nil.
func GuardVerify(g Guard, f func(types.ID, *tls.ConnectionState) error) func(types.ID, *tls.ConnectionState) error {
	if f == nil {
		return nil
	}
	return func(id types.ID, state *tls.ConnectionState) error {
		defer g.End(g.Begin(Call{Name: "VerifyPeer", Peer: id}))
		return f(id, state)
	}
}

// GuardDial returns f guarded.
func GuardDial(g Guard, f func(ctx context.Context, network, addr string) (net.Conn, error)) func(ctx context.Context, network, addr string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		defer g.End(g.Begin(Call{Name: "DialContext"}))
		return f(ctx, network, addr)
	}
}
