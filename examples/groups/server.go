package main

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3"
	"go.uber.org/zap"

	"github.com/seed-4d73690b/rafthttp"
)

const (
	shards = 100
	// clusterID keeps nodes of different clusters apart. Choose your own.
	clusterID = 0x5748
)

// server is a node: it has a member of each shard, and one Transport for all of them.
type server struct {
	transport *rafthttp.Transport
	peers     *http.Server
	shards    []*shard // of the group with the id i+1

	ctx    context.Context
	end    context.CancelCauseFunc // with what failed
	joined sync.WaitGroup
}

// startServer starts a node with an empty log for each shard, or what an earlier one has left there. urls are those of all nodes.
func startServer(id uint64, ln net.Listener, urls map[uint64]string, logs []*raft.MemoryStorage, logger *zap.Logger) (*server, error) {
	s := &server{transport: &rafthttp.Transport{
		ID: types.ID(id), ClusterID: clusterID, Logger: logger,
		Raft: rafthttp.NoRaft{}, // there are groups only
	}}
	if err := s.transport.Start(); err != nil {
		return nil, err
	}
	s.ctx, s.end = context.WithCancelCause(context.Background())
	s.peers = rafthttp.NewServer(s.transport.Handler())
	s.joined.Go(func() {
		if err := s.peers.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			s.end(err)
		}
	})
	for i, log := range logs {
		if err := s.join(uint64(i+1), log, urls); err != nil {
			s.stop()
			return nil, err
		}
	}
	s.joined.Go(s.tick)
	return s, nil
}

// join starts the member of a shard.
func (s *server) join(group uint64, log *raft.MemoryStorage, urls map[uint64]string) (err error) {
	id := uint64(s.transport.ID)
	sh := startShard(id, log, quiet)
	if sh.group, err = s.transport.Group(group, rafthttp.GroupConfig{Raft: sh, ErrorC: sh.removed}); err != nil {
		sh.Stop()
		return err
	}
	for node, u := range urls {
		if node != id {
			sh.group.AddPeer(types.ID(node), []string{u}) // the connections to a node are those of all shards
		}
	}
	s.shards = append(s.shards, sh)
	s.joined.Go(func() {
		if err := sh.run(s.ctx); err != nil {
			s.end(fmt.Errorf("shard %d: %w", group, err))
		}
	})
	if last, err := log.LastIndex(); err == nil && last == 1 && group%uint64(len(urls))+1 == id {
		return sh.Campaign(s.ctx) // at the first start the leaders are spread over the nodes
	}
	return nil
}

// tick is the clock of all shards. Those that tick at once also send their heartbeats at once, which saves most of their cost.
func (s *server) tick() {
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			for _, sh := range s.shards {
				sh.Tick()
			}
		case <-s.ctx.Done():
			return
		}
	}
}

// stop ends the node. What its shards must not forget is in their logs.
func (s *server) stop() {
	s.transport.Stop() // no message comes or goes after that
	s.peers.Close()
	s.end(nil)
	s.joined.Wait()
}

// failed returns what has ended the node, if it was not stop.
func (s *server) failed() error {
	if err := context.Cause(s.ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// shardOf returns the shard of a key.
func shardOf(key string) int {
	h := fnv.New32a()
	_, _ = io.WriteString(h, key) // does not fail
	return int(h.Sum32() % shards)
}

func (s *server) put(ctx context.Context, key, value string) error {
	return s.shards[shardOf(key)].put(ctx, key, value)
}

func (s *server) get(ctx context.Context, key string) (value string, ok bool, err error) {
	return s.shards[shardOf(key)].get(ctx, key)
}

// handler serves clients. It has no TLS and no passwords: keep it on an address that only they can reach.
func (s *server) handler() http.Handler {
	const limit = 5 * time.Second
	mux := http.NewServeMux()
	mux.HandleFunc("PUT /kv/{key}", func(w http.ResponseWriter, r *http.Request) {
		value, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), limit)
		defer cancel()
		if err := s.put(ctx, r.PathValue("key"), string(value)); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
		}
	})
	mux.HandleFunc("GET /kv/{key}", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), limit)
		defer cancel()
		switch value, ok, err := s.get(ctx, r.PathValue("key")); {
		case err != nil:
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
		case !ok:
			http.NotFound(w, r)
		default:
			w.Header().Set("Content-Type", "application/octet-stream") // else a browser would run what others have put
			_, _ = io.WriteString(w, value)
		}
	})
	return mux
}
