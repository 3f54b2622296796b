// Package raftnode is the raft node of a server, with the shape of etcd's former
// raftexample: channels in, channels out, and a transport between. Its log is in
// memory: a server that is started again needs one on disk, and raft.RestartNode.
package raftnode

import (
	"context"
	"log"
	"net/http"
	"net/url"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/snap"
)

type raftNode struct {
	proposeC    <-chan string
	commitC     chan<- string
	errorC      chan<- error
	id          int
	peers       []string // peer URLs: that of member 1 first
	raftStorage *raft.MemoryStorage
	snapshotter *snap.Store
	snapdir     string

	node      raft.Node
	transport *rafthttp.Transport
	httpstopc chan struct{}
	logger    *zap.Logger
}

// New starts member id. It ends when proposeC is closed.
func New(id int, peers []string, snapdir string, proposeC <-chan string) (<-chan string, <-chan error) {
	commitC := make(chan string, 16)
	errorC := make(chan error, 1)
	rc := &raftNode{
		proposeC: proposeC, commitC: commitC, errorC: errorC, id: id, peers: peers, snapdir: snapdir,
		raftStorage: raft.NewMemoryStorage(), httpstopc: make(chan struct{}), logger: zap.NewNop(),
	}
	go rc.startRaft()
	return commitC, errorC
}

func (rc *raftNode) startRaft() {
	var err error
	if rc.snapshotter, err = snap.Open(rc.snapdir); err != nil {
		log.Fatal(err)
	}
	var rpeers []raft.Peer
	for i := range rc.peers {
		rpeers = append(rpeers, raft.Peer{ID: uint64(i + 1)})
	}
	c := &raft.Config{
		ID: uint64(rc.id), ElectionTick: 10, HeartbeatTick: 1, Storage: rc.raftStorage,
		MaxSizePerMsg: 1024 * 1024, MaxInflightMsgs: 256,
	}
	new(rafthttp.Transport).LimitInflight(c) // the transport below has the default queues
	rc.node = raft.StartNode(c, rpeers)

	rc.transport = &rafthttp.Transport{
		Logger:      rc.logger,
		ID:          types.ID(rc.id),
		ClusterID:   0x1000,
		Raft:        rc,
		Snapshotter: rc.snapshotter,
		ErrorC:      make(chan error, 1),
	}
	if err := rc.transport.Start(); err != nil {
		log.Fatal(err)
	}
	for i := range rc.peers {
		if i+1 != rc.id {
			rc.transport.AddPeer(types.ID(i+1), []string{rc.peers[i]})
		}
	}
	go rc.serveRaft()
	go rc.serveProposals()
	rc.serveChannels()
}

func (rc *raftNode) serveRaft() {
	u, err := url.Parse(rc.peers[rc.id-1])
	if err != nil {
		log.Fatal(err)
	}
	ln, err := rafthttp.NewListener(*u, nil)
	if err != nil {
		log.Fatal(err)
	}
	srv := rafthttp.NewServer(rc.transport.Handler())
	go func() {
		<-rc.httpstopc
		srv.Close()
	}()
	if err := srv.Serve(ln); err != http.ErrServerClosed {
		log.Fatal(err)
	}
}

func (rc *raftNode) serveProposals() {
	for prop := range rc.proposeC {
		if err := rc.node.Propose(context.TODO(), []byte(prop)); err != nil {
			rc.logger.Warn("proposal failed", zap.Error(err))
		}
	}
	close(rc.httpstopc)
}

func (rc *raftNode) serveChannels() {
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			rc.node.Tick()
		case rd := <-rc.node.Ready():
			if !raft.IsEmptyHardState(rd.HardState) {
				_ = rc.raftStorage.SetHardState(rd.HardState)
			}
			_ = rc.raftStorage.Append(rd.Entries)
			rc.transport.Send(rd.Messages)
			rc.publishEntries(rd.CommittedEntries)
			rc.node.Advance()
		case err := <-rc.transport.ErrorC:
			rc.errorC <- err
			rc.stop()
			return
		case <-rc.httpstopc:
			rc.stop()
			return
		}
	}
}

func (rc *raftNode) stop() {
	rc.transport.Stop()
	close(rc.commitC)
	close(rc.errorC)
	rc.node.Stop()
}

func (rc *raftNode) publishEntries(ents []*raftpb.Entry) {
	for _, e := range ents {
		switch {
		case e.GetType() == raftpb.EntryConfChange:
			var cc raftpb.ConfChange
			if err := proto.Unmarshal(e.Data, &cc); err == nil {
				rc.node.ApplyConfChange(&cc)
			}
		case len(e.Data) > 0:
			rc.commitC <- string(e.Data)
		}
	}
}

// sendSnapshot sends a database to a follower that is far behind.
func (rc *raftNode) sendSnapshot(m *raftpb.Message, db *dbReader) {
	rc.transport.SendSnapshot(snap.NewMessage(m, db, db.size))
}

func (rc *raftNode) Process(ctx context.Context, m *raftpb.Message) error {
	return rc.node.Step(ctx, m)
}

// IsIDRemoved says that nobody was removed: the members of this program never change.
func (rc *raftNode) IsIDRemoved(_ uint64) bool   { return false }
func (rc *raftNode) ReportUnreachable(id uint64) { rc.node.ReportUnreachable(id) }
func (rc *raftNode) ReportSnapshot(id uint64, status raft.SnapshotStatus) {
	rc.node.ReportSnapshot(id, status)
}
