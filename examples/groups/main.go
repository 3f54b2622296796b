// Command groups is a key-value server with a hundred shards, each a raft group, on three nodes. The groups share one
// Transport of each node: see docs/several-groups.md. What a real server does otherwise is in README.md.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"time"

	"go.etcd.io/raft/v3"
	"go.uber.org/zap"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	run := serve
	switch {
	case len(os.Args) == 2 && os.Args[1] == "demo":
		run = func(ctx context.Context, w io.Writer) error { return demo(ctx, w, 5*time.Second) }
	case len(os.Args) > 1:
		fmt.Fprintln(os.Stderr, "usage: groups [demo]")
		os.Exit(2)
	}
	if err := run(ctx, os.Stdout); err != nil {
		log.Fatal(err)
	}
}

// cluster is three nodes in this process, and what they would have on their disks.
type cluster struct {
	urls  map[uint64]string
	addrs map[uint64]string // of listeners for peers
	logs  map[uint64][]*raft.MemoryStorage
	nodes map[uint64]*server
	zap   *zap.Logger
}

const nodes = 3

// startCluster starts the nodes. logger is the one of their transports.
func startCluster(logger *zap.Logger) (*cluster, error) {
	c := &cluster{urls: map[uint64]string{}, addrs: map[uint64]string{}, logs: map[uint64][]*raft.MemoryStorage{}, nodes: map[uint64]*server{}, zap: logger}
	listeners := map[uint64]net.Listener{}
	var members []uint64
	for id := uint64(1); id <= nodes; id++ { // all first: each node has to know all addresses
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		listeners[id], members = ln, append(members, id)
		c.addrs[id], c.urls[id] = ln.Addr().String(), "http://"+ln.Addr().String()
	}
	for _, id := range members {
		for range shards {
			storage, err := newStorage(members)
			if err != nil {
				return nil, err
			}
			c.logs[id] = append(c.logs[id], storage)
		}
	}
	for _, id := range members {
		s, err := startServer(id, listeners[id], c.urls, c.logs[id], c.zap)
		if err != nil {
			c.stop()
			return nil, err
		}
		c.nodes[id] = s
	}
	return c, nil
}

// restart starts a node that was stopped, with the logs that it has left.
func (c *cluster) restart(id uint64) error {
	ln, err := net.Listen("tcp", c.addrs[id])
	if err != nil {
		return err
	}
	s, err := startServer(id, ln, c.urls, c.logs[id], c.zap)
	if err != nil {
		return errors.Join(err, ln.Close())
	}
	c.nodes[id] = s
	return nil
}

func (c *cluster) stopNode(id uint64) {
	c.nodes[id].stop()
	delete(c.nodes, id)
}

func (c *cluster) stop() {
	for id := range c.nodes {
		c.stopNode(id)
	}
}

// serve runs the nodes, each with an address for clients, until ctx ends or one of them fails.
func serve(ctx context.Context, w io.Writer) error {
	logger, err := zap.NewProduction()
	if err != nil {
		return err
	}
	c, err := startCluster(logger)
	if err != nil {
		return err
	}
	defer c.stop()
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	for id, s := range c.nodes {
		ln, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 8000+id))
		if err != nil {
			return err
		}
		clients := &http.Server{Handler: s.handler(), ReadHeaderTimeout: 10 * time.Second}
		defer clients.Close()
		go func() { end(clients.Serve(ln)) }()
		context.AfterFunc(s.ctx, func() { end(s.failed()) })
		fmt.Fprintf(w, "node %d: http://%s/kv/KEY\n", id, ln.Addr())
	}
	<-ctx.Done()
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// quiet is a logger for raft that says what goes wrong and nothing else.
var quiet raft.Logger = errorsOnly{&raft.DefaultLogger{Logger: log.New(os.Stderr, "raft ", log.LstdFlags)}}

type errorsOnly struct{ raft.Logger }

func (errorsOnly) Debug(...any)            {}
func (errorsOnly) Debugf(string, ...any)   {}
func (errorsOnly) Info(...any)             {}
func (errorsOnly) Infof(string, ...any)    {}
func (errorsOnly) Warning(...any)          {}
func (errorsOnly) Warningf(string, ...any) {}
