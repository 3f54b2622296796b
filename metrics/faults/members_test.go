//go:build linux

package faults_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"sync/atomic"

	"github.com/stretchr/testify/require"
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
	{"a removed member at the address of a new one", []string{
		"the member has been permanently removed from the cluster", "to field mismatch",
	}, addressUsedAgain},
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

// addressUsedAgain has member 3 come back where member 4 is now, and then lets member 4 be there.
func addressUsedAgain(s *scene) {
	one := s.member(1, func(tr *rafthttp.Transport) { tr.Raft = without{id: 3} })
	var there atomic.Pointer[http.Handler]
	old := s.behind(3, func(tr *rafthttp.Transport) { tr.ErrorC = make(chan error, 1) }, func(h http.Handler) http.Handler {
		there.Store(&h)
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { (*there.Load()).ServeHTTP(w, r) })
	})
	one.AddPeer(4, []string{old.url})
	old.AddPeer(1, []string{one.url})
	s.waitFor("refused a request … permanently removed from the cluster … remote-peer-id:3 status:410")
	s.waitFor("last error of 4: … to field mismatch")
	require.ErrorIs(s, <-old.ErrorC, rafthttp.ErrMemberRemoved)
	old.Stop()

	four := s.transport(4)
	require.NoError(s, four.Start())
	s.Cleanup(four.Stop)
	s.all = append(s.all, four)
	handler := four.Handler()
	there.Store(&handler)
	four.AddPeer(1, []string{one.url})
	s.waitActive(one, 4)
}

// without is a Raft that has removed one member.
type without struct {
	deaf
	id uint64
}

func (w without) IsIDRemoved(id uint64) bool { return id == w.id }

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
