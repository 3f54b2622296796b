package migrate_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/client/pkg/v3/types"
	etcdsnap "go.etcd.io/etcd/server/v3/etcdserver/api/snap"
	"go.etcd.io/etcd/server/v3/storage/wal/walpb"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/compat/member"
	"github.com/seed-4d73690b/rafthttp/snap"
)

// requireQuoted makes sure that the guide has the very words of an error.
func requireQuoted(t *testing.T, words, output string) {
	t.Helper()
	require.Contains(t, output, words)
	require.Contains(t, guide(t), words)
}

// TestTwoVersionsOfRaftpb: a binary with raftpb of raft 3.5 and of 3.7 panics before main, unless it is told not to.
func TestTwoVersionsOfRaftpb(t *testing.T) {
	folder := filepath.Join("testdata", "tworaftpb")
	path := filepath.Join(t.TempDir(), "tworaftpb")
	run := func(env ...string) (string, error) {
		cmd := exec.CommandContext(t.Context(), path)
		cmd.Env = append(os.Environ(), env...)
		out, err := cmd.CombinedOutput()
		return strings.ReplaceAll(string(out), "\u00a0", " "), err // protobuf has either, so that nobody compares its errors
	}

	out, err := goIn(t, folder, "build", "-o", path, ".")
	require.NoError(t, err, out)
	out, err = run()
	require.Error(t, err)
	requireQuoted(t, "panic: proto: message raftpb.Entry is already registered", out)
	requireQuoted(t, "See https://protobuf.dev/reference/go/faq#namespace-conflict", out)
	out, err = run("GOLANG_PROTOBUF_REGISTRATION_CONFLICT=ignore")
	require.NoError(t, err)
	require.Equal(t, "ConfChangeRemoveNode 4 before\n", out)
	out, err = run("GOLANG_PROTOBUF_REGISTRATION_CONFLICT=warn")
	require.NoError(t, err)
	require.Contains(t, out, "WARNING: proto: message raftpb.Entry is already registered")
	require.Contains(t, guide(t), "GOLANG_PROTOBUF_REGISTRATION_CONFLICT=ignore")

	const flag = "-X google.golang.org/protobuf/reflect/protoregistry.conflictPolicy=ignore"
	require.Contains(t, guide(t), `-ldflags "`+flag+`"`)
	out, err = goIn(t, folder, "build", "-ldflags", flag, "-o", path, ".")
	require.NoError(t, err, out)
	out, err = run()
	require.NoError(t, err)
	require.Equal(t, "ConfChangeRemoveNode 4 before\n", out)
}

// TestGogo: gogo's protobuf compiles with messages of raft 3.7, and does not work.
func TestGogo(t *testing.T) {
	folder := filepath.Join("testdata", "gogo")
	out, err := goIn(t, folder, "vet", ".")
	require.NoError(t, err, out)
	out, err = goIn(t, folder, "run", ".")
	require.Error(t, err)
	require.Contains(t, out, "equal to itself: false")
	requireQuoted(t, "panic: protobuf tag not enough fields in ConfChange.state", out)
}

// TestServerModuleOf36: etcd's write-ahead log of 3.6 does not compile with raft 3.7.
func TestServerModuleOf36(t *testing.T) {
	out, err := goIn(t, filepath.Join("testdata", "server36"), "vet", ".")
	require.Error(t, err)
	requireQuoted(t, "m.ConfState.Size undefined (type *raftpb.ConfState has no field or method Size)", out)
}

// TestLogBringsGRPC: the write-ahead log of etcd has needed gRPC since 3.6.
func TestLogBringsGRPC(t *testing.T) {
	for _, c := range []struct {
		folder, mod, pkg string
		grpc             bool
	}{
		{"raft37", "go.mod", "go.etcd.io/etcd/server/v3/storage/wal", true},
		{"raft37", "go.mod", "github.com/seed-4d73690b/rafthttp", false},
		{"raft35", "raft36.mod", "go.etcd.io/etcd/server/v3/storage/wal", true},
		{"raft35", "go.mod", "go.etcd.io/etcd/server/v3/wal", false},
	} {
		out, err := goIn(t, c.folder, "list", "-modfile", c.mod, "-deps", c.pkg)
		require.NoError(t, err, out)
		require.Equal(t, c.grpc, strings.Contains(out, "google.golang.org/grpc\n"), c.pkg)
	}
}

// appends returns the messages of a leader that has just been elected.
func appends(t *testing.T) raft.Ready {
	t.Helper()
	storage := raft.NewMemoryStorage()
	require.NoError(t, storage.ApplySnapshot(&raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{
		Index: new(uint64(1)), Term: new(uint64(1)), ConfState: &raftpb.ConfState{Voters: []uint64{1, 2}},
	}}))
	node, err := raft.NewRawNode(&raft.Config{
		ID: 1, ElectionTick: 10, HeartbeatTick: 1, Storage: storage, MaxSizePerMsg: 1 << 20, MaxInflightMsgs: 256,
	})
	require.NoError(t, err)
	require.NoError(t, node.Campaign())
	take := func() raft.Ready {
		rd := node.Ready()
		require.NoError(t, errors.Join(storage.Append(rd.Entries), storage.SetHardState(rd.HardState)))
		node.Advance(rd)
		return rd
	}
	vote := take()
	require.NoError(t, node.Step(&raftpb.Message{
		Type: raftpb.MsgVoteResp.Enum(), From: new(uint64(2)), To: new(uint64(1)), Term: vote.Messages[0].Term,
	}))
	rd := take()
	require.Equal(t, raftpb.MsgApp, rd.Messages[0].GetType())
	return rd
}

// TestNilFields: what compiles with raft 3.7 as it did with 3.5, and does not work.
func TestNilFields(t *testing.T) {
	rd := appends(t)
	require.Nil(t, rd.Messages[0].Snapshot)
	message := recovered(func() { rd.Messages[0].Snapshot.Metadata.ConfState = &raftpb.ConfState{} })
	requireQuoted(t, "runtime error: invalid memory address or nil pointer dereference", message)
	require.Nil(t, rd.HardState, "nothing changed in it")
	require.Equal(t, message, recovered(func() { _ = *rd.HardState.Commit }))
	require.Zero(t, rd.HardState.GetCommit())
	require.True(t, raft.IsEmptyHardState(rd.HardState))

	one, two := &raftpb.Entry{Term: new(uint64(5))}, &raftpb.Entry{Term: new(uint64(5))}
	require.False(t, one.Term == two.Term, "pointers")
	require.Equal(t, one.GetTerm(), two.GetTerm())
	require.NotEqual(t, "5", fmt.Sprint(one.Term))
	require.NotEqual(t, "5", fmt.Sprintf("%d", one.Term))
}

// recovered returns what do panics with.
func recovered(do func()) (message string) {
	defer func() {
		if err, ok := recover().(error); ok {
			message = err.Error()
		}
	}()
	do()
	return ""
}

// TestSnapshotterBesideStore: etcd's Snapshotter, for the snapshots that raft has, and a Store, for databases, share a folder.
func TestSnapshotterBesideStore(t *testing.T) {
	dir := t.TempDir()
	snapshotter := etcdsnap.New(zap.NewNop(), dir)
	meta := &raftpb.SnapshotMetadata{Index: new(uint64(7)), Term: new(uint64(2)), ConfState: &raftpb.ConfState{Voters: []uint64{1}}}
	require.NoError(t, snapshotter.SaveSnap(&raftpb.Snapshot{Data: []byte("data"), Metadata: meta}))

	store, err := snap.Open(dir)
	require.NoError(t, err)
	defer store.Close()
	for _, index := range []uint64{6, 7} {
		_, err = store.SaveDBFrom(strings.NewReader("database"), index)
		require.NoError(t, err)
	}
	require.NoError(t, store.RemoveBefore(7))
	require.NoError(t, store.RemoveUnclaimed(7))
	loaded, err := snapshotter.LoadNewestAvailable([]*walpb.Snapshot{{Index: meta.Index, Term: meta.Term}})
	require.NoError(t, err)
	require.Equal(t, "data", string(loaded.GetData()))
	path, err := snapshotter.DBFilePath(7)
	require.NoError(t, err)
	ours, err := store.DBFilePath(7)
	require.NoError(t, err)
	require.Equal(t, ours, path)
	_, err = snapshotter.DBFilePath(6)
	require.ErrorIs(t, err, etcdsnap.ErrNoDBSnapshot)

	var none *etcdsnap.Snapshotter
	tr := rafthttp.Transport{Snapshotter: none}
	require.True(t, tr.Snapshotter != nil, "an interface with a nil pointer is not nil")
	require.Contains(t, recovered(func() { _, _ = tr.Snapshotter.SaveDBFrom(strings.NewReader("database"), 1) }), "nil pointer")
}

// pointing is a Raft that cannot fetch the state of the first snapshot.
type pointing struct {
	processed chan *raftpb.Message
	reports   chan raft.SnapshotStatus
}

func (p *pointing) Process(_ context.Context, m *raftpb.Message) error {
	p.processed <- m
	if string(m.GetSnapshot().GetData()) == "gone" {
		return errors.New("404 Not Found")
	}
	return nil
}
func (p *pointing) IsIDRemoved(uint64) bool                             { return false }
func (p *pointing) ReportUnreachable(uint64)                            {}
func (p *pointing) ReportSnapshot(_ uint64, status raft.SnapshotStatus) { p.reports <- status }

// TestPointerSnapshots: a MsgSnap given to Send needs no Snapshotter, and what Process returns is what the sender's raft is told. The
// server serves TLS by itself.
func TestPointerSnapshots(t *testing.T) {
	files, err := member.NewCertificate(t.TempDir())
	require.NoError(t, err)
	info := transport.TLSInfo{TrustedCAFile: files.CA, CertFile: files.Cert, KeyFile: files.Key, ClientCertAuth: true}
	node := func(id types.ID) (*rafthttp.Transport, *pointing) {
		r := &pointing{make(chan *raftpb.Message, 4), make(chan raft.SnapshotStatus, 4)}
		tr := &rafthttp.Transport{ID: id, ClusterID: 0x1000, Raft: r, TLSInfo: info}
		require.NoError(t, tr.Start())
		t.Cleanup(tr.Stop)
		return tr, r
	}
	sender, reported := node(1)
	receiver, received := node(2)

	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	config, err := info.ServerConfig()
	require.NoError(t, err)
	require.Equal(t, tls.RequireAndVerifyClientCert, config.ClientAuth)
	srv := rafthttp.NewServer(receiver.Handler())
	srv.TLSConfig = config
	served := make(chan error, 1)
	go func() { served <- srv.ServeTLS(ln, "", "") }()
	sender.AddPeer(2, []string{"https://" + ln.Addr().String()})
	receiver.AddPeer(1, []string{"https://127.0.0.1:1"}) // streams that nobody takes

	for _, data := range []string{"gone", "here"} {
		want := raft.SnapshotFinish
		if data == "gone" {
			want = raft.SnapshotFailure
		}
		sender.Send([]*raftpb.Message{{
			Type: raftpb.MsgSnap.Enum(), From: new(uint64(1)), To: new(uint64(2)), Term: new(uint64(1)),
			Snapshot: &raftpb.Snapshot{Data: []byte(data), Metadata: &raftpb.SnapshotMetadata{
				Index: new(uint64(7)), Term: new(uint64(1)), ConfState: &raftpb.ConfState{Voters: []uint64{1, 2}},
			}},
		}})
		require.Equal(t, data, string((<-received.processed).GetSnapshot().GetData()))
		require.Equal(t, want, <-reported.reports)
	}
	require.NoError(t, srv.Close())
	require.ErrorIs(t, <-served, http.ErrServerClosed)
}
