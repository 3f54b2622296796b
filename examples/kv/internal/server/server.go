// Package server is a member of a replicated key-value store: etcd's raft
// library for consensus, rafthttp for the connections between members, bbolt
// for storage. Start reading at ready.go, the loop that everything hangs on;
// transport.go is what it takes to use rafthttp.
package server

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/raft/v3"
	"go.uber.org/zap"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/examples/kv/internal/storage"
)

// Config says who a member is and how it runs.
type Config struct {
	ID        uint64 // of this member; an id is used once, ever
	DataDir   string // everything the member must not forget
	PeerURL   string // where it listens for other members, and they reach it
	ClientURL string // where it listens for clients, and they reach it

	// A member that is started for the first time is either one of those that
	// found the cluster (Bootstrap: id -> peer URL, the same at all of them), or
	// joins one (Join: the client URL of a member). Later starts ignore both.
	Bootstrap map[uint64]string
	Join      string

	PeerTLS    transport.TLSInfo // zero: plain connections between members
	TLSRecheck time.Duration     // how often connections are checked against changed files of PeerTLS; zero means 10 s
	// With PeerTLS, a certificate is good for the one member that its URI names:
	// spiffe://<TrustDomain>/member/<id in hexadecimal>. Empty means that each
	// certificate that PeerTLS accepts can speak as any member.
	TrustDomain string
	Tick        time.Duration // raft's unit of time; zero means 100 ms
	Logger      *zap.Logger   // nil: none

	// AsyncStorageWrites has raft go on while log and data are written (async.go).
	// Members with and without it get on with each other.
	AsyncStorageWrites bool

	// Routes has the URLs at which this member reaches others, by their peer
	// URLs: for those that are behind a proxy of its own.
	Routes map[string]string

	// A compaction keeps the newest KeepEntries entries, but not more than
	// KeepBytes of data, for followers that are a little behind. The log is
	// compacted again once it has CompactEntries more than KeepEntries, or
	// CompactBytes more than KeepBytes, whichever comes first. Zero means 20000,
	// 32 MiB, 2000, 16 MiB.
	CompactEntries uint64
	CompactBytes   int64
	KeepEntries    uint64
	KeepBytes      int64

	Storage storage.Options // zero: the usual
}

const (
	electionTicks  = 10 // a leader that was silent for 10 to 20 ticks is replaced
	heartbeatTicks = 1

	maxSizePerMsg   = 1 << 20  // of entries in one MsgApp
	maxAppliedBytes = 8 << 20  // of entries in one Ready, hence in one batch of the data
	maxInflight     = 256      // MsgApps on their way to a follower
	maxUncommitted  = 64 << 20 // proposals beyond that are refused

	requestTimeout = 5 * time.Second // from request to answer, for clients
	transferTime   = 2 * time.Second // to hand over leadership before a stop
)

// ErrRemoved is how a server ends that was removed from its cluster.
var ErrRemoved = errors.New("this member was removed from the cluster")

// Server is a running member.
type Server struct {
	cfg       Config
	log       *zap.Logger
	clusterID uint64

	storage   *storage.Storage
	snapshots *snapshots
	node      raft.Node
	transport *rafthttp.Transport
	metrics   *prometheus.Registry // of the transport, and of the process

	readySeconds *prometheus.HistogramVec // how long a step of the Ready loop takes

	waiters waiters
	reads   reads
	applied appliedIndex
	writing chan struct{} // one slot for each write in progress
	nextID  atomic.Uint64 // for proposals and reads; starts at random

	leader  atomic.Uint64 // 0: none known
	leading bool          // owned by the Ready loop
	async   asyncThreads  // with Config.AsyncStorageWrites

	snapshotSteps chan snapshotStep

	// state is held while entries are applied, a snapshot is installed, or the log
	// is compacted: they exclude each other. It guards what follows.
	state       sync.Mutex
	superfluous uint64            // up to which index raft does not read the log any more
	tidyFailed  time.Time         // when the last tidy did; zero: it did not
	peers       map[uint64]string // the peer URLs that the transport has been told
	removed     bool              // the member has applied its own removal

	peerServer, clientServer *http.Server
	clientAddr               net.Addr

	life   context.Context // ends when the server has to end; its cause says why
	end    context.CancelCauseFunc
	ready  sync.WaitGroup // runReady, and the threads of async
	loops  sync.WaitGroup // everything that needs node, transport and storage
	closed chan struct{}
	err    error // valid when closed is
}

// Start starts a member. It returns when the member serves its peers and
// clients, which may be before there is a leader; ctx ends an attempt to join, or to
// found: that waits for the other founders.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	if err := cfg.fill(); err != nil {
		return nil, err
	}
	s := newServer(cfg)
	if err := s.start(ctx); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// newServer returns a server of which nothing runs yet.
func newServer(cfg Config) *Server {
	s := &Server{
		cfg:          cfg,
		readySeconds: newReadySeconds(),
		log:          cfg.Logger.With(zap.Uint64("member", cfg.ID)),
		waiters:      newWaiters(),
		reads:        newReads(),
		writing:      make(chan struct{}, maxWrites),
		peers:        make(map[uint64]string),
		closed:       make(chan struct{}),

		snapshotSteps: make(chan snapshotStep),
	}
	s.life, s.end = context.WithCancelCause(context.Background())
	s.nextID.Store(randomUint64())
	return s
}

func (s *Server) start(ctx context.Context) error {
	var err error
	if s.snapshots, err = openSnapshots(s.cfg.DataDir); err != nil { // locks it
		return err
	}
	if s.storage, err = storage.Open(s.cfg.DataDir, s.cfg.Storage); err != nil {
		return err
	}
	identity, again, err := s.checkFolder()
	if err != nil {
		return err
	}
	// Take the ports first: a member that cannot listen must not join.
	peerListener, clientListener, err := s.listen()
	if err != nil {
		return err
	}
	if s.transport, err = s.newTransport(); err != nil {
		return errors.Join(err, peerListener.Close(), clientListener.Close())
	}
	s.servePeers(peerListener) // those that found a cluster ask each other first
	s.clusterID = identity.ClusterID
	known := s.storage.Data.Membership()
	var peers []raft.Peer
	if !again {
		if peers, known, err = s.enter(ctx, identity); err != nil {
			return errors.Join(err, clientListener.Close())
		}
	}
	s.startNode(peers)
	if err := s.startTransport(known); err != nil {
		return errors.Join(err, clientListener.Close())
	}
	s.serveClients(clientListener)
	s.startReady()
	s.loops.Go(s.runReads)
	s.loops.Go(s.runMembership)
	go s.closeAtEnd()
	return nil
}

// startReady starts the Ready loop, and with AsyncStorageWrites the threads.
func (s *Server) startReady() {
	handle := s.handleReady
	if s.cfg.AsyncStorageWrites {
		s.startAsync()
		handle = s.handleAsyncReady
	}
	s.ready.Go(func() { s.runReady(handle) })
}

// startNode starts raft: with peers when the cluster is founded, without when
// the storage, or the leader, knows what the members are.
func (s *Server) startNode(peers []raft.Peer) {
	applied := s.storage.Data.Position().Index
	s.applied.set(applied)
	s.superfluous = applied
	cfg := &raft.Config{
		ID:                        s.cfg.ID,
		ElectionTick:              electionTicks,
		HeartbeatTick:             heartbeatTicks,
		Storage:                   s.storage.Raft(),
		Applied:                   applied,
		MaxSizePerMsg:             maxSizePerMsg,
		MaxCommittedSizePerReady:  maxAppliedBytes,
		MaxInflightMsgs:           maxInflight,
		MaxUncommittedEntriesSize: maxUncommitted,
		CheckQuorum:               true, // a leader that lost its majority steps down
		PreVote:                   true, // a member that was away does not force an election
		ReadOnlyOption:            raft.ReadOnlySafe,
		StepDownOnRemoval:         true,
		AsyncStorageWrites:        s.cfg.AsyncStorageWrites,
		Logger:                    raftLogger{s.log.Named("raft").Sugar()},
	}
	new(rafthttp.Transport).LimitInflight(cfg) // the transport has the default queues
	if len(peers) > 0 {
		s.node = raft.StartNode(cfg, peers)
		return
	}
	s.node = raft.RestartNode(cfg)
}

func (s *Server) listen() (peer, client net.Listener, err error) {
	u, err := url.Parse(s.cfg.PeerURL)
	if err != nil {
		return nil, nil, err
	}
	if peer, err = rafthttp.NewListener(*u, &s.cfg.PeerTLS); err != nil {
		return nil, nil, fmt.Errorf("listen for peers on %s: %w", s.cfg.PeerURL, err)
	}
	if u, err = url.Parse(s.cfg.ClientURL); err == nil {
		client, err = net.Listen("tcp", u.Host)
	}
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("listen for clients on %s: %w", s.cfg.ClientURL, err), peer.Close())
	}
	s.clientAddr = client.Addr()
	return peer, client, nil
}

// servePeers serves the other members. Until the transport is started, that
// answers that it is not. NewServer has it log and count clients whose TLS handshake
// fails, since the mux has its handler for RaftPrefix.
func (s *Server) servePeers(l net.Listener) {
	mux, handler := http.NewServeMux(), s.transport.Handler()
	mux.Handle(rafthttp.RaftPrefix, handler)
	mux.Handle(rafthttp.RaftPrefix+"/", handler)
	mux.HandleFunc("GET "+membershipPath, s.serveMembership)
	s.peerServer = rafthttp.NewServer(mux)
	s.loops.Go(func() { s.endIf(s.peerServer.Serve(l)) })
}

func (s *Server) serveClients(l net.Listener) {
	s.clientServer = &http.Server{
		Handler:           s.Handler(),
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       time.Minute,
		IdleTimeout:       2 * time.Minute,
		ErrorLog:          zap.NewStdLog(s.log.Named("client")),
	}
	s.loops.Go(func() { s.endIf(s.clientServer.Serve(l)) })
}

// endIf ends the server because a part of it cannot go on.
func (s *Server) endIf(err error) {
	if err != nil && !errors.Is(err, http.ErrServerClosed) {
		s.end(err)
	}
}

// Done is closed when the server has ended, for whatever reason.
func (s *Server) Done() <-chan struct{} { return s.closed }

// Err is why the server ended: nil after Stop, ErrRemoved, or what failed. It
// is valid once Done is closed.
func (s *Server) Err() error { return s.err }

// Stop ends the server in good order: it takes no new requests, finishes those
// in progress until ctx ends, and hands over leadership. It returns when
// everything is closed.
func (s *Server) Stop(ctx context.Context) {
	if err := s.clientServer.Shutdown(ctx); err != nil {
		s.log.Warn("stopped with client requests in progress", zap.Error(err))
	}
	s.handOver(ctx)
	s.Kill()
}

// Kill ends the server without ceremony, as a crash would.
func (s *Server) Kill() {
	s.end(nil)
	<-s.closed
}

func (s *Server) closeAtEnd() {
	<-s.life.Done()
	if err := context.Cause(s.life); !errors.Is(err, context.Canceled) {
		s.err = err
	}
	s.close()
	close(s.closed)
}

// close ends what was started, in the order in which nothing is missed: those
// who ask first, then who changes the peers, which must not be after the
// transport, then the transport, which delivers into the node, and the storage,
// which all of them use, last.
func (s *Server) close() {
	s.end(nil)
	if s.clientServer != nil {
		_ = s.clientServer.Close()
	}
	if s.peerServer != nil {
		_ = s.peerServer.Close()
	}
	s.ready.Wait()
	if s.transport != nil {
		s.transport.Stop()
	}
	if s.node != nil {
		s.node.Stop()
	}
	s.loops.Wait()
	if s.snapshots != nil {
		if err := s.snapshots.store.Close(); err != nil {
			s.log.Error("close snapshots", zap.Error(err))
		}
	}
	if s.storage != nil {
		if err := s.storage.Close(); err != nil {
			s.log.Error("close storage", zap.Error(err))
		}
	}
}

func randomUint64() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return binary.BigEndian.Uint64(b[:])
}
