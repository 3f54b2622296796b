// Package compat_test holds the public API against what code written for upstream uses: it has to compile with the imports
// changed. The same text is compiled against upstream, so that it stays what such code really may write.
package compat_test

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/client/pkg/v3/types"
	stock "go.etcd.io/etcd/server/v3/etcdserver/api/rafthttp"
	stocksnap "go.etcd.io/etcd/server/v3/etcdserver/api/snap"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"
	"golang.org/x/time/rate"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/snap"
)

// They are constants: an index that is one is checked by the compiler.
var (
	_ = [1]struct{}{}[rafthttp.DefaultConnReadTimeout-5*time.Second]
	_ = [1]struct{}{}[rafthttp.DefaultConnWriteTimeout-5*time.Second]
)

// raftServer is a Raft, as a program has one, for ours and for upstream alike.
type raftServer struct{}

func (raftServer) Process(context.Context, *raftpb.Message) error { return nil }
func (raftServer) IsIDRemoved(uint64) bool                        { return false }
func (raftServer) ReportUnreachable(uint64)                       {}
func (raftServer) ReportSnapshot(uint64, raft.SnapshotStatus)     {}

var (
	_ rafthttp.Raft = raftServer{}
	_ stock.Raft    = raftServer{}
	_ stock.Raft    = rafthttp.Raft(nil) // each is the other
	_ rafthttp.Raft = stock.Raft(nil)

	_ rafthttp.Transporter = (*rafthttp.Transport)(nil)
	_ stock.Transporter    = (*stock.Transport)(nil)
	_ rafthttp.Pausable    = (*rafthttp.Transport)(nil)
	_ stock.Pausable       = rafthttp.Pausable(nil)

	// What stores incoming databases: etcd's and ours.
	_ interface {
		SaveDBFrom(r io.Reader, id uint64) (int64, error)
	} = (*snap.Store)(nil)
)

// The functions, by their whole types: ours and upstream's in one variable.
var (
	_ = []func(url.URL, *transport.TLSInfo) (net.Listener, error){rafthttp.NewListener, stock.NewListener}
	_ = []func(transport.TLSInfo, time.Duration) (http.RoundTripper, error){rafthttp.NewRoundTripper, stock.NewRoundTripper}

	_ func(*raftpb.Message, io.ReadCloser, int64) *snap.Message      = snap.NewMessage
	_ func(*raftpb.Message, io.ReadCloser, int64) *stocksnap.Message = stocksnap.NewMessage
	_                                                                = []func(*raftpb.Message) <-chan bool{
		func(m *raftpb.Message) <-chan bool { return (&snap.Message{Message: m}).CloseNotify() },
		func(m *raftpb.Message) <-chan bool { return (&stocksnap.Message{Message: m}).CloseNotify() },
	}
	_ interface{ CloseWithError(error) } = (*snap.Message)(nil)
)

// common is what both transporters can do, SendSnapshot and Get apart.
type common interface {
	Start() error
	Handler() http.Handler
	Send([]*raftpb.Message)
	AddRemote(types.ID, []string)
	AddPeer(types.ID, []string)
	RemovePeer(types.ID)
	RemoveAllPeers()
	UpdatePeer(types.ID, []string)
	ActiveSince(types.ID) time.Time
	ActivePeers() int
	Stop()
}

var (
	_ = []common{rafthttp.Transporter(nil), stock.Transporter(nil)}
	_ = []interface {
		common
		CutPeer(types.ID)
		MendPeer(types.ID)
		Pause()
		Resume()
	}{(*rafthttp.Transport)(nil), (*stock.Transport)(nil)}
)

// TestSourceForUpstreamCompiles is made of what programs write. That it compiles is most of it.
func TestSourceForUpstreamCompiles(t *testing.T) {
	// As etcd's server makes one; ServerStats and LeaderStats are not there.
	tr := &rafthttp.Transport{
		Logger:             zap.NewNop(),
		TLSInfo:            transport.TLSInfo{},
		DialTimeout:        time.Second,
		DialRetryFrequency: rate.Every(100 * time.Millisecond),
		ID:                 types.ID(1),
		URLs:               types.MustNewURLs([]string{"http://127.0.0.1:2380"}),
		ClusterID:          types.ID(0x1000),
		Raft:               raftServer{},
		Snapshotter:        stocksnap.New(zap.NewNop(), t.TempDir()),
		ErrorC:             make(chan error),
	}
	require.NoError(t, tr.Start())
	defer tr.Stop()

	// As etcd's server and the former raftexample use one.
	var transporter rafthttp.Transporter = tr
	tr.AddPeer(types.ID(2), []string{"http://127.0.0.1:1"})
	mux := http.NewServeMux()
	mux.Handle(rafthttp.RaftPrefix, transporter.Handler())
	mux.Handle(rafthttp.RaftPrefix+"/", transporter.Handler())
	transporter.Send([]*raftpb.Message{{To: new(uint64(2))}})
	transporter.(rafthttp.Pausable).Pause()
	transporter.(rafthttp.Pausable).Resume()
	var peer rafthttp.Peer = tr.Get(types.ID(2)) //nolint:staticcheck // the type is what is tested
	require.NotNil(t, peer)
	require.Nil(t, tr.Get(types.ID(3)), "an unknown peer is nil, not an interface around one")
	require.Nil(t, new(stock.Transport).Get(types.ID(3)))
	m := snap.NewMessage(&raftpb.Message{To: new(uint64(3))}, io.NopCloser(http.NoBody), 0)
	require.EqualValues(t, 3, m.GetTo())
	require.NotNil(t, m.ReadCloser)
	require.Equal(t, stocksnap.NewMessage(m.Message, nil, 0).TotalSize, m.TotalSize)
	transporter.SendSnapshot(m)
	require.False(t, <-m.CloseNotify())

	// Ours has these as fields, not as package variables.
	_ = rafthttp.Transport{ReadTimeout: rafthttp.DefaultConnReadTimeout, WriteTimeout: rafthttp.DefaultConnWriteTimeout}
	_ = rafthttp.Transport{VerifyPeer: func(types.ID, *tls.ConnectionState) error { return nil }}
}

// TestNamesMeanTheSame compares the values that go over the wire or that programs look for.
func TestNamesMeanTheSame(t *testing.T) {
	require.Equal(t, stock.RaftPrefix, rafthttp.RaftPrefix)                 //nolint:testifylint // stock is what is expected
	require.Equal(t, stock.ProbingPrefix, rafthttp.ProbingPrefix)           //nolint:testifylint // stock is what is expected
	require.Equal(t, stock.RaftStreamPrefix, rafthttp.RaftStreamPrefix)     //nolint:testifylint // stock is what is expected
	require.Equal(t, stock.RaftSnapshotPrefix, rafthttp.RaftSnapshotPrefix) //nolint:testifylint // stock is what is expected
	require.Equal(t, stock.DefaultConnReadTimeout, rafthttp.DefaultConnReadTimeout)
	require.Equal(t, stock.DefaultConnWriteTimeout, rafthttp.DefaultConnWriteTimeout)
	require.EqualError(t, rafthttp.ErrClusterIDMismatch, stock.ErrClusterIDMismatch.Error())
	require.ErrorIs(t, rafthttp.ErrExceedSizeLimit, rafthttp.ErrExceedSizeLimit)
	require.Error(t, stock.ErrExceedSizeLimit)
}
