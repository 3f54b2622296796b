package system

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
)

// member is a host that counts what arrives. It is the Raft of its transport.
type member struct {
	host
	cfg     *Config
	pong    []*raftpb.Message // of a peer
	closing atomic.Bool
}

func startMember(kind make_, cfg *Config, id uint64) (*member, error) {
	m := &member{cfg: cfg, pong: heartbeatResponse(id), host: host{
		id: id, tls: cfg.TLS.info(), url: url.URL{Scheme: "http", Host: "127.0.0.1:0"},
		checksum: cfg.Checksum, queueBytes: 2 * maxInFlightBytes,
	}}
	m.raft, m.lost = m, m.failed
	if cfg.TLS != nil {
		m.url.Scheme = "https"
	}
	if cfg.SnapshotDir != "" {
		m.dir = filepath.Join(cfg.SnapshotDir, fmt.Sprint(id))
		if err := os.Mkdir(m.dir, 0o755); err != nil {
			return nil, err
		}
	}
	if err := m.start(kind); err != nil {
		return nil, err
	}
	return m, nil
}

// Process implements Raft.
func (m *member) Process(_ context.Context, msg *raftpb.Message) error {
	switch msg.GetType() {
	case raftpb.MsgApp:
		if !m.cfg.Load.fits(msg) {
			m.cfg.Sink.Failed(errors.New("an append has arrived that was not sent"))
		}
		m.cfg.Sink.Appended(int(m.id-peerID(0)), 1)
	case raftpb.MsgHeartbeat:
		m.Send(m.pong)
	case raftpb.MsgHeartbeatResp:
		m.cfg.Sink.Ponged(int(msg.GetFrom() - peerID(0)))
	case raftpb.MsgSnap: // the database is saved; the sender will know
	default:
		m.cfg.Sink.Failed(fmt.Errorf("a %v has arrived", msg.GetType()))
	}
	return nil
}

// IsIDRemoved implements Raft.
func (m *member) IsIDRemoved(uint64) bool { return false }

// ReportUnreachable implements Raft: messages were lost.
func (m *member) ReportUnreachable(id uint64) {
	m.failed(fmt.Errorf("member %d has reported member %d unreachable", m.id, id))
}

func (m *member) failed(err error) {
	if !m.closing.Load() {
		m.cfg.Sink.Failed(err)
	}
}

// ReportSnapshot implements Raft.
func (m *member) ReportSnapshot(uint64, raft.SnapshotStatus) {}

// members is a cluster of them.
type members struct {
	kind  make_
	load  *Load
	all   []*member // the sender first
	pings [][]*raftpb.Message
}

func (kind make_) start(cfg Config) (Cluster, error) {
	c := &members{kind: kind, load: cfg.Load}
	for id := uint64(senderID); id < peerID(cfg.Peers); id++ {
		m, err := startMember(kind, &cfg, id)
		if err != nil {
			c.Close()
			return nil, err
		}
		c.all = append(c.all, m)
		c.pings = append(c.pings, heartbeat(id))
	}
	if err := c.connect(); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

const connectTimeout = 30 * time.Second

func (c *members) connect() error {
	sender, peers := c.all[0], c.all[1:]
	for _, m := range peers { // first, so that the sender's dials find them waiting for it
		m.AddPeer(types.ID(sender.id), []string{sender.url.String()})
	}
	for _, m := range peers {
		sender.AddPeer(types.ID(m.id), []string{m.url.String()})
	}
	deadline := time.Now().Add(connectTimeout)
	for _, m := range c.all {
		n := 1
		if m == sender {
			n = len(peers)
		}
		for !c.kind.ready(&m.host, n) {
			if time.Now().After(deadline) {
				return fmt.Errorf("not all streams of member %d are up after %v", m.id, connectTimeout)
			}
			time.Sleep(time.Millisecond)
		}
	}
	return nil
}

func (c *members) Send(from, n int) { c.all[0].Send(c.load.messages(from, n)) }

func (c *members) Ping(peer int) { c.all[0].Send(c.pings[peer+1]) }

const snapshotIndex = 7

// SendSnapshot implements SnapshotSender.
func (c *members) SendSnapshot(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	info, err := f.Stat()
	if err != nil {
		return "", errors.Join(err, f.Close())
	}
	to := c.all[1]
	msg := &raftpb.Message{
		Type: raftpb.MsgSnap.Enum(), From: new(uint64(senderID)), To: new(to.id), Term: new(uint64(term)),
		Snapshot: &raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{
			Index: new(uint64(snapshotIndex)), Term: new(uint64(term)), ConfState: &raftpb.ConfState{Voters: []uint64{senderID, to.id}},
		}},
	}
	if !<-c.kind.sendSnapshot(&c.all[0].host, msg, f, info.Size()) {
		return "", errors.New("the snapshot was not sent")
	}
	return filepath.Join(to.dir, fmt.Sprintf("%016x.snap.db", snapshotIndex)), nil
}

func (c *members) Close() {
	for _, m := range c.all {
		m.closing.Store(true)
	}
	var wg sync.WaitGroup
	for _, m := range c.all {
		wg.Go(m.close)
	}
	wg.Wait()
}
