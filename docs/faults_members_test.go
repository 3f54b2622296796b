//go:build linux

package docs_test

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/snap"
)

// memberFaults are those of members that reach each other.
var memberFaults = []fault{
	{"a member of another cluster", []string{
		"cluster ID mismatch: ours is …, the peer's is …", "cluster ID mismatch: ours is …, the requester's is …",
	}, func(s *scene) {
		meet(s.member(1, nil), s.member(2, func(tr *rafthttp.Transport) { tr.ClusterID = 0xc2 }))
		s.waitFor("ours is c1, the peer's is c2")
		s.waitFor("ours is c1, the requester's is c2 … remote-peer-id:2")
	}},
	{"a member without a cluster id", []string{"ClusterID is 0", "cluster ID mismatch: ours is …, the peer's is 0"}, func(s *scene) {
		meet(s.member(1, nil), s.member(2, func(tr *rafthttp.Transport) { tr.ClusterID = 0 }))
	}},
	{"a member that the other does not know", []string{"member not found"}, func(s *scene) {
		one, two := s.member(1, nil), s.member(2, nil)
		one.AddPeer(2, []string{two.url})
	}},
	{"a member that was removed", []string{"the member has been permanently removed from the cluster"}, func(s *scene) {
		meet(s.member(1, nil), s.member(2, func(tr *rafthttp.Transport) { tr.Raft = forgetful{} }))
	}},
	{"a member that is too old", []string{"incompatible version"}, func(s *scene) {
		meet(s.member(1, nil), s.member(2, func(tr *rafthttp.Transport) { tr.ServerVersion, tr.MinClusterVersion = "4.1.0", "4.0.0" }))
	}},
	{"two members with one id", []string{"closed a stream for a newer connection"}, func(s *scene) {
		one, _ := s.connected(nil)
		s.member(2, nil).AddPeer(1, []string{one.url})
	}},
	{"a server whose Process stands still", []string{"Process took no append within the read timeout"}, func(s *scene) {
		one, _ := s.connected(func(tr *rafthttp.Transport) {
			if tr.ID == 2 {
				tr.Raft, tr.ReceiveQueueMessages = standing{}, 4
			}
		})
		s.keepSending(one, 2, 100)
	}},
	{"a full disk", []string{"disk full"}, func(s *scene) {
		sendDatabase(s, fullDisk{})
		s.waitFor("failed to save incoming database snapshot")
	}},
	{"no place for snapshots", []string{"unexpected http status 501"}, func(s *scene) { sendDatabase(s, nil) }},
}

// forgetful is a Raft that has removed all members.
type forgetful struct{ deaf }

func (forgetful) IsIDRemoved(uint64) bool { return true }

// standing is a Raft that takes nothing.
type standing struct{ deaf }

func (standing) Process(ctx context.Context, _ *raftpb.Message) error {
	<-ctx.Done()
	return context.Cause(ctx)
}

// fullDisk is a Snapshotter whose disk has no room.
type fullDisk struct{}

func (fullDisk) SaveDBFrom(r io.Reader, _ uint64) (int64, error) {
	f, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		return 0, err
	}
	n, err := io.Copy(f, r)
	return n, errors.Join(err, f.Close())
}

// sendDatabase has member 1 send a database to member 2.
func sendDatabase(s *scene, to rafthttp.Snapshotter) {
	one, _ := s.connected(func(tr *rafthttp.Transport) { tr.Snapshotter = to })
	text := strings.Repeat("database", 1000)
	m := &raftpb.Message{
		Type: raftpb.MsgSnap.Enum(), To: new(uint64(2)), From: new(uint64(1)), Term: new(uint64(1)),
		Snapshot: &raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{
			Index: new(uint64(5)), Term: new(uint64(1)), ConfState: &raftpb.ConfState{Voters: []uint64{1, 2}},
		}},
	}
	one.SendSnapshot(snap.NewMessage(m, io.NopCloser(strings.NewReader(text)), int64(len(text))))
	s.waitFor("failed to send database snapshot")
}
