// Package rafthttp has the exported names of etcd's package of this name, on top of our transport. It is built in the place
// of etcd's, inside a copy of etcd's server module, so that a real etcd server runs on our transport.
package rafthttp

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/version"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/etcd/server/v3/etcdserver/api/snap"
	stats "go.etcd.io/etcd/server/v3/etcdserver/api/v2stats"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"
	"golang.org/x/time/rate"
	"google.golang.org/protobuf/proto"

	ours "github.com/seed-4d73690b/rafthttp"
	oursnap "github.com/seed-4d73690b/rafthttp/snap"
)

const (
	DefaultConnReadTimeout  = ours.DefaultConnReadTimeout
	DefaultConnWriteTimeout = ours.DefaultConnWriteTimeout
)

// Etcd's flags set these before a server starts.
var (
	ConnReadTimeout  = DefaultConnReadTimeout
	ConnWriteTimeout = DefaultConnWriteTimeout
)

var (
	RaftPrefix         = ours.RaftPrefix
	ProbingPrefix      = ours.ProbingPrefix
	RaftStreamPrefix   = ours.RaftStreamPrefix
	RaftSnapshotPrefix = ours.RaftSnapshotPrefix

	ErrClusterIDMismatch = ours.ErrClusterIDMismatch
	ErrExceedSizeLimit   = ours.ErrExceedSizeLimit
)

// Types that are ours by another name.
type (
	Raft     = ours.Raft
	Peer     = ours.Peer
	Pausable = ours.Pausable
)

// NewListener is ours.
func NewListener(u url.URL, tlsinfo *transport.TLSInfo) (net.Listener, error) {
	return ours.NewListener(u, tlsinfo)
}

// NewRoundTripper is ours.
func NewRoundTripper(tlsInfo transport.TLSInfo, dialTimeout time.Duration) (http.RoundTripper, error) {
	return ours.NewRoundTripper(tlsInfo, dialTimeout)
}

// Transporter is ours, with etcd's snapshot message.
type Transporter interface {
	Start() error
	Handler() http.Handler
	Send(m []*raftpb.Message)
	SendSnapshot(m *snap.Message)
	AddRemote(id types.ID, urls []string)
	AddPeer(id types.ID, urls []string)
	RemovePeer(id types.ID)
	RemoveAllPeers()
	UpdatePeer(id types.ID, urls []string)
	ActiveSince(id types.ID) time.Time
	ActivePeers() int
	Stop()
}

// Transport has the fields of etcd's; the statistics of the old v2 API are not kept.
type Transport struct {
	Logger             *zap.Logger
	DialTimeout        time.Duration
	DialRetryFrequency rate.Limit
	TLSInfo            transport.TLSInfo
	ID                 types.ID
	URLs               types.URLs
	ClusterID          types.ID
	Raft               Raft
	Snapshotter        *snap.Snapshotter
	ServerStats        *stats.ServerStats
	LeaderStats        *stats.LeaderStats
	ErrorC             chan error

	*ours.Transport // from Start on
}

// Start makes our transport from the fields and starts it.
func (t *Transport) Start() error {
	t.Transport = &ours.Transport{
		Logger: t.Logger, DialTimeout: t.DialTimeout, DialRetryFrequency: t.DialRetryFrequency, TLSInfo: t.TLSInfo,
		ID: t.ID, URLs: t.URLs, ClusterID: t.ClusterID, Raft: t.Raft, ErrorC: t.ErrorC, Observer: observer(t.ID),
		ReadTimeout: ConnReadTimeout, WriteTimeout: ConnWriteTimeout,
		ServerVersion: version.Version, MinClusterVersion: version.MinClusterVersion,
	}
	if t.Snapshotter != nil {
		t.Transport.Snapshotter = t.Snapshotter
	}
	return t.Transport.Start()
}

// SendSnapshot sends etcd's message as ours, and passes on what becomes of it.
func (t *Transport) SendSnapshot(m *snap.Message) {
	m.ReadCloser = &closedOnce{ReadCloser: m.ReadCloser} // the message's, and our message's
	database := m.TotalSize - int64(proto.Size(m.Message))
	sent := oursnap.NewMessage(m.Message, m.ReadCloser, database)
	t.Transport.SendSnapshot(sent)
	go func() {
		if <-sent.CloseNotify() {
			m.CloseWithError(nil)
		} else {
			m.CloseWithError(errNotSent)
		}
	}()
}

var errNotSent = errors.New("the snapshot was not sent")

// closedOnce passes on the first Close.
type closedOnce struct {
	io.ReadCloser
	once sync.Once
	err  error
}

func (c *closedOnce) Close() error {
	c.once.Do(func() { c.err = c.ReadCloser.Close() })
	return c.err
}
