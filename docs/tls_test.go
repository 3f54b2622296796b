package docs_test

import (
	"context"
	"errors"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/peerid"
)

// deaf is a Raft that does nothing.
type deaf struct{}

func (deaf) Process(context.Context, *raftpb.Message) error { return nil }
func (deaf) IsIDRemoved(uint64) bool                        { return false }
func (deaf) ReportUnreachable(uint64)                       {}
func (deaf) ReportSnapshot(uint64, raft.SnapshotStatus)     {}

// useTLS is the snippet of tls.md; nobody calls it, since it has fixed names.
var _ = func(cluster types.ID, r rafthttp.Raft) error {
	info := transport.TLSInfo{
		TrustedCAFile:  "ca.crt",
		CertFile:       "1.crt",
		KeyFile:        "1.key",
		CRLFile:        "revoked.crl", // or leave it out
		ClientCertAuth: true,
	}
	verify, err := peerid.SPIFFE("cluster.example")
	if err != nil {
		return err
	}
	t := &rafthttp.Transport{ID: 1, ClusterID: cluster, Raft: r, TLSInfo: info, VerifyPeer: verify}
	if err := t.Start(); err != nil {
		return err
	}
	ln, err := rafthttp.NewListener(url.URL{Scheme: "https", Host: "127.0.0.1:2380"}, &t.TLSInfo)
	return errors.Join(err, ln.Close())
}

// TestTLS makes certificates by the commands of tls.md, and has members use them: those in force connect, the one that is
// revoked does not, nor one that says it is another.
func TestTLS(t *testing.T) {
	t.Parallel()
	out, dir := runCommands(t, "tls.md")
	require.Contains(t, out, "URI:spiffe://cluster.example/member/1")
	listeners, urls := map[types.ID]net.Listener{}, map[types.ID]string{}
	start := func(id types.ID, certificate string) *rafthttp.Transport {
		verify, err := peerid.SPIFFE("cluster.example")
		require.NoError(t, err)
		tr := &rafthttp.Transport{
			ID: id, ClusterID: 0x1000, Raft: deaf{}, VerifyPeer: verify, TLSRecheck: 50 * time.Millisecond,
			TLSInfo: transport.TLSInfo{
				TrustedCAFile: filepath.Join(dir, "ca.crt"), ClientCertAuth: true,
				CertFile: filepath.Join(dir, certificate+".crt"), KeyFile: filepath.Join(dir, certificate+".key"),
				CRLFile: filepath.Join(dir, "list"),
			},
		}
		require.NoError(t, tr.Start())
		t.Cleanup(tr.Stop)
		ln, err := rafthttp.NewListener(url.URL{Scheme: "https", Host: "127.0.0.1:0"}, &tr.TLSInfo)
		require.NoError(t, err)
		listeners[id], urls[id] = ln, "https://"+ln.Addr().String()
		srv := rafthttp.NewServer(tr.Handler())
		t.Cleanup(func() { srv.Close() })
		go func() { _ = srv.Serve(ln) }()
		return tr
	}
	list := func(name string) {
		text, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, "new"), text, 0o600))
		require.NoError(t, os.Rename(filepath.Join(dir, "new"), filepath.Join(dir, "list")))
	}
	list("empty.crl")
	one, two, three, impostor := start(1, "1"), start(2, "2"), start(3, "3"), start(4, "2")
	for _, tr := range []*rafthttp.Transport{one, two, three, impostor} {
		for id, u := range urls {
			tr.AddPeer(id, []string{u})
		}
	}
	active := func(tr *rafthttp.Transport, id types.ID) func() bool {
		return func() bool { return !tr.ActiveSince(id).IsZero() }
	}
	for _, id := range []types.ID{2, 3} {
		require.Eventually(t, active(one, id), time.Minute, 10*time.Millisecond, "member %d", id)
	}
	require.Eventually(t, func() bool { return one.Status().Refused.Requests > 0 }, time.Minute, 10*time.Millisecond)
	require.False(t, active(one, 4)())

	list("revoked.crl")
	require.Eventually(t, func() bool { return !active(one, 3)() && active(one, 2)() }, time.Minute, 10*time.Millisecond)
	require.Contains(t, statusOf(one, 3).LastError, "revoked")
}

func statusOf(t *rafthttp.Transport, id types.ID) rafthttp.PeerStatus {
	for _, p := range t.Status().Peers {
		if p.ID == id {
			return p
		}
	}
	return rafthttp.PeerStatus{}
}
