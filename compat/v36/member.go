package main

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/etcd/server/v3/etcdserver/api/rafthttp"
	"go.etcd.io/etcd/server/v3/etcdserver/api/snap"
	stats "go.etcd.io/etcd/server/v3/etcdserver/api/v2stats"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/seed-4d73690b/rafthttp/compat/v36/drive"
)

// member is a transport, a listener and a raft that only reports.
type member struct {
	*events
	raft     raftStub
	tr       *rafthttp.Transport
	server   *http.Server
	requests drive.Requests
	logged   *observer.ObservedLogs
	quit     chan struct{}
}

// do carries out one command.
func (m *member) do(c drive.Command) (done drive.Event, err error) {
	if c.Op == drive.Start {
		done.URL, err = m.start(c)
		return done, err
	}
	if m.tr == nil {
		return done, fmt.Errorf("%s before start", c.Op)
	}
	peer := types.ID(c.Peer)
	switch c.Op {
	case drive.AddPeer:
		m.tr.AddPeer(peer, c.URLs)
	case drive.AddRemote:
		m.tr.AddRemote(peer, c.URLs)
	case drive.UpdatePeer:
		m.tr.UpdatePeer(peer, c.URLs)
	case drive.RemovePeer:
		m.tr.RemovePeer(peer)
	case drive.Cut:
		m.tr.CutPeer(peer)
	case drive.Mend:
		m.tr.MendPeer(peer)
	case drive.Pause:
		m.tr.Pause()
	case drive.Resume:
		m.tr.Resume()
	case drive.Send:
		return done, m.send(c.Messages)
	case drive.SendSnapshot:
		return done, m.sendSnapshot(c)
	case drive.MarkRemoved:
		m.raft.markRemoved(c.Peer)
	case drive.SetAnswer:
		m.raft.setAnswer(c.Answer)
	case drive.Look:
		done.ActiveSince, done.ActivePeers = m.tr.ActiveSince(peer), m.tr.ActivePeers()
		done.Requests = m.requests.Counts()
		for _, line := range m.logged.TakeAll() {
			done.Logged = append(done.Logged, line.Message)
		}
	case drive.Stop:
		m.stop()
	default:
		return done, fmt.Errorf("no command %q", c.Op)
	}
	return done, nil
}

func (m *member) start(c drive.Command) (string, error) {
	var tls transport.TLSInfo
	u := url.URL{Scheme: "http", Host: c.Listen}
	if u.Host == "" {
		u.Host = "127.0.0.1:0"
	}
	if c.TLS != nil {
		u.Scheme = "https"
		tls = transport.TLSInfo{CertFile: c.TLS.Cert, KeyFile: c.TLS.Key, TrustedCAFile: c.TLS.CA, ClientCertAuth: true}
	}
	listener, err := rafthttp.NewListener(u, &tls)
	if err != nil {
		return "", err
	}
	u.Host = listener.Addr().String()

	id := types.ID(c.ID)
	errorC := make(chan error, 16)
	m.quit = make(chan struct{})
	m.raft.events = m.events
	core, logged := observer.New(zap.InfoLevel)
	m.logged = logged
	m.tr = &rafthttp.Transport{
		Logger: zap.New(core), ID: id, ClusterID: types.ID(c.Cluster), TLSInfo: tls, DialTimeout: time.Second,
		URLs: types.MustNewURLs([]string{u.String()}), Raft: &m.raft, ErrorC: errorC,
		Snapshotter: snap.New(zap.NewNop(), c.Dir),
		ServerStats: stats.NewServerStats("", id.String()), LeaderStats: stats.NewLeaderStats(zap.NewNop(), id.String()),
	}
	if err := m.tr.Start(); err != nil {
		return "", err
	}
	m.server = &http.Server{Handler: m.requests.Counting(m.tr.Handler())}
	go func() { _ = m.server.Serve(listener) }()
	go m.forwardErrors(errorC, m.quit)
	return u.String(), nil
}

func (m *member) forwardErrors(errorC <-chan error, quit <-chan struct{}) {
	for {
		select {
		case err := <-errorC:
			_ = m.emit(drive.Event{Ev: drive.Failed, Err: err.Error()})
		case <-quit:
			return
		}
	}
}

func (m *member) send(encoded [][]byte) error {
	msgs := make([]raftpb.Message, len(encoded))
	for i, b := range encoded {
		if err := msgs[i].Unmarshal(b); err != nil {
			return err
		}
	}
	m.tr.Send(msgs)
	return nil
}

func (m *member) sendSnapshot(c drive.Command) error {
	var msg raftpb.Message
	if err := msg.Unmarshal(c.Messages[0]); err != nil {
		return err
	}
	var rc io.ReadCloser
	var size int64
	if c.File != "" {
		f, err := os.Open(c.File)
		if err != nil {
			return err
		}
		info, err := f.Stat()
		if err != nil {
			return err
		}
		rc, size = f, info.Size()
	} else {
		rc, size = io.NopCloser(c.Database.Reader()), c.Database.Size
	}
	s := snap.NewMessage(msg, rc, size)
	m.tr.SendSnapshot(*s)
	quit := m.quit
	go func() {
		select {
		case ok := <-s.CloseNotify():
			_ = m.emit(drive.Event{Ev: drive.Closed, Seq: c.Seq, OK: ok})
		case <-quit:
		}
	}()
	return nil
}

// stop ends the member; it can be started again.
func (m *member) stop() {
	if m.tr == nil {
		return
	}
	m.tr.Stop()
	m.server.Close()
	close(m.quit)
	m.tr = nil
}
