package rafthttp

import (
	"context"
	"errors"
	"net/http"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/internal/callback"
	"github.com/seed-4d73690b/rafthttp/internal/conn"
	"github.com/seed-4d73690b/rafthttp/internal/groups"
	"github.com/seed-4d73690b/rafthttp/internal/protocol"
	"github.com/seed-4d73690b/rafthttp/internal/stream"
)

// GroupMessage is a received message of a raft group.
type GroupMessage struct {
	Group   uint64
	Message *raftpb.Message
}

// GroupReceiver receives the messages of all raft groups of a Transport in batches, for a server with a scheduler of its
// own: Transport.GroupReceiver. The methods are called concurrently, also for one node, on goroutines that read from the
// network, so they must not block: a slow one delays all groups of the node, of which the sender drops what is over its limits, and Stop.
type GroupReceiver interface {
	// ReceiveGroups gets the messages of one read from a node, in order; the order of messages is that of
	// Raft.Process. It owns the messages, and must not keep the slice. Messages may be of groups that Transport.Group
	// had not added when they were read; To is then not checked: compare it with the id of the replica.
	ReceiveGroups(node types.ID, msgs []GroupMessage)
	// GroupsUnreachable reports that messages of these groups to the node were lost or may have been: in pieces of
	// up to 1024 groups, with a lost connection once for each group with something in flight.
	GroupsUnreachable(node types.ID, groups []uint64)
}

// guardedReceiver is a GroupReceiver under guard.
type guardedReceiver struct {
	to    GroupReceiver
	guard callback.Guard
}

// Receive implements groups.Receiver.
func (r guardedReceiver) Receive(node types.ID, items []stream.GroupItem) {
	defer r.guard.Recover(callback.Call{Name: "GroupReceiver.ReceiveGroups", Peer: node})
	msgs := make([]GroupMessage, len(items))
	for i, it := range items {
		msgs[i] = GroupMessage{it.Group, it.Msg}
	}
	r.to.ReceiveGroups(node, msgs)
}

// Unreachable implements groups.Receiver.
func (r guardedReceiver) Unreachable(node types.ID, ids []uint64) {
	defer r.guard.End(r.guard.Begin(callback.Call{Name: "GroupReceiver.GroupsUnreachable", Peer: node}))
	r.to.GroupsUnreachable(node, ids)
}

// NoRaft is the Raft of a Transport that has groups only: it has no members of its own, and refuses their messages.
type NoRaft struct{}

// Process refuses a message.
func (NoRaft) Process(context.Context, *raftpb.Message) error { return errNoRaft }

// IsIDRemoved returns false.
func (NoRaft) IsIDRemoved(uint64) bool { return false }

// ReportUnreachable does nothing.
func (NoRaft) ReportUnreachable(uint64) {}

// ReportSnapshot does nothing.
func (NoRaft) ReportSnapshot(uint64, raft.SnapshotStatus) {}

var errNoRaft = errors.New("rafthttp: the Transport has raft groups only")

// serveGroupStream gives the requester a stream with messages of groups to read (extensions: groups).
func (q *request) serveGroupStream(kind stream.Kind) error {
	m, w := q.engine.groups.Writer(q.from, kind)
	if m == nil || w == nil {
		return ErrMemberUnknown
	}
	if err := q.engine.cfg.Self.CheckTo(q.r.Header); err != nil {
		return err
	}
	if m.SawVersion(q.r.Header); m.SawCertificate(q.r.TLS) {
		q.engine.groups.Renew(q.from) // which dials, for CertificateExpires
	}
	return q.lend(m, kind, w)
}

// serveGroups receives messages of groups (extensions: groups).
func (q *request) serveGroups() error {
	if !q.engine.groups.Used() {
		return &protocol.RequestError{Code: http.StatusNotFound, Text: "no raft groups"}
	}
	if err := q.engine.cfg.Self.CheckTo(q.r.Header); err != nil {
		return err
	}
	post := q.engine.postLimit.Begin(q.from, q.engine.groups.HasNode(q.from))
	if post == nil {
		return protocol.ErrBusyPosts
	}
	defer post.End()
	body := conn.NewRequestBody(q.engine.ctx, q.r.Body, q.r.ContentLength, q.engine.cfg.ReadTimeout, q.rc.SetReadDeadline)
	body.RequireRate(q.engine.cfg.PostTimeout())
	if q.r.ProtoMajor > 1 {
		body.RemoveDeadlines()
	}
	defer body.Release()
	refusals, err := q.engine.groups.ReceivePost(q.engine.ctx, groups.Post{
		From: q.from, Body: post.Counted(body), Length: body.Length(), Reserve: post.Reserve, Queued: post.Queued,
	})
	switch {
	case err == nil:
	case errors.Is(err, protocol.ErrBusyPosts):
		q.w.Header().Set("Connection", "close")
		return err
	case errors.Is(body.Err(), ErrStopped): // not a fault of the messages
		q.w.Header().Set("Connection", "close")
		return ErrStopped
	default:
		return q.badBody("failed to read messages of raft groups", err)
	}
	_, _ = q.w.Write(refusals)
	return nil
}
