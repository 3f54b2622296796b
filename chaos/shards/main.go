//go:build unix

// Command shards is a server for `chaos -groups`: 50 raft groups of three replicas over the Transports of five nodes,
// by Transport.Group. Each group has a part of the keys. A node answers for all keys: it passes requests for groups that it
// does not have on to a node that has. Replicas move between nodes.
//
// It takes the flags of examples/kv that chaos uses, and answers clients alike.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/seed-4d73690b/rafthttp"
)

// config is what the flags say.
type config struct {
	id              uint64
	dir             string
	peerURL         string
	clientURL       string
	peers, clients  map[uint64]string // URLs of all nodes
	tls             transport.TLSInfo
	tlsRecheck      time.Duration
	compact, keep   uint64 // entries
	log             *zap.Logger
	routes          map[string]string // of peer URLs
	cluster, others string            // of peers and clients, as they were given
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	cfg, err := parse(os.Args[1:])
	if err == nil {
		err = serve(ctx, cfg)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "shards: %v\n", err)
		os.Exit(1)
	}
}

func parse(args []string) (cfg config, err error) {
	if len(args) == 0 || args[0] != "serve" {
		return cfg, errors.New("usage: shards serve, with flags")
	}
	flags := flag.NewFlagSet("serve", flag.ContinueOnError)
	level := zapcore.InfoLevel
	cfg.tls.ClientCertAuth, cfg.routes = true, map[string]string{}
	flags.Uint64Var(&cfg.id, "id", 0, "`id` of the node")
	flags.StringVar(&cfg.dir, "data-dir", "", "`folder` of what the node must not forget")
	flags.StringVar(&cfg.peerURL, "peer-url", "", "`URL` for other nodes")
	flags.StringVar(&cfg.clientURL, "client-url", "", "`URL` for clients")
	flags.StringVar(&cfg.cluster, "cluster", "", "`nodes`: id=peer-url,…")
	flags.StringVar(&cfg.others, "clients", "", "`nodes`: id=client-url,…")
	flags.StringVar(&cfg.tls.CertFile, "peer-cert", "", "certificate `file`")
	flags.StringVar(&cfg.tls.KeyFile, "peer-key", "", "key `file`")
	flags.StringVar(&cfg.tls.TrustedCAFile, "peer-ca", "", "`file` with the authority")
	flags.String("peer-trust-domain", "", "not used: no certificate names a node")
	flags.DurationVar(&cfg.tlsRecheck, "tls-recheck", 10*time.Second, "how often certificates are checked")
	flags.Uint64Var(&cfg.compact, "compact-entries", 100, "compact a log of this `number` of entries")
	flags.Uint64Var(&cfg.keep, "keep-entries", 10, "`number` of entries that a compaction keeps")
	flags.TextVar(&level, "log-level", zapcore.InfoLevel, "`level` of the log")
	flags.Func("peer-route", "`URL=URL`: reach the node with the first peer URL at the second one", func(s string) error {
		from, to, ok := strings.Cut(s, "=")
		if cfg.routes[from] = to; !ok {
			return errors.New("not URL=URL")
		}
		return nil
	})
	if err = flags.Parse(args[1:]); err != nil {
		return cfg, err
	}
	if cfg.peers, err = nodesOf(cfg.cluster); err != nil {
		return cfg, err
	}
	if cfg.clients, err = nodesOf(cfg.others); err != nil {
		return cfg, err
	}
	logs := zap.NewDevelopmentConfig()
	logs.Level, logs.Development, logs.DisableCaller, logs.DisableStacktrace = zap.NewAtomicLevelAt(level), false, true, true
	cfg.log, err = logs.Build()
	return cfg, err
}

// nodesOf parses id=URL,….
func nodesOf(s string) (map[uint64]string, error) {
	all := map[uint64]string{}
	for part := range strings.SplitSeq(s, ",") {
		id, u, _ := strings.Cut(part, "=")
		n, err := strconv.ParseUint(id, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("%q is not id=URL: %w", part, err)
		}
		all[n] = u
	}
	return all, nil
}

// serve runs a node until ctx ends or it cannot go on.
func serve(ctx context.Context, cfg config) error {
	u, err := url.Parse(cfg.peerURL)
	if err != nil {
		return err
	}
	peers, err := rafthttp.NewListener(*u, &cfg.tls)
	if err != nil {
		return fmt.Errorf("listen for peers on %s: %w", cfg.peerURL, err)
	}
	client, err := url.Parse(cfg.clientURL)
	if err != nil {
		return err
	}
	clients, err := net.Listen("tcp", client.Host)
	if err != nil {
		return err
	}
	n, err := startNode(cfg)
	if err != nil {
		return err
	}
	inside := rafthttp.NewServer(n.transport.Handler())
	outside := &http.Server{Handler: n.handler(), ReadHeaderTimeout: requestTime}
	for _, s := range []struct {
		server *http.Server
		ln     net.Listener
	}{{inside, peers}, {outside, clients}} {
		go func() {
			if err := s.server.Serve(s.ln); !errors.Is(err, http.ErrServerClosed) {
				n.fail(err)
			}
		}()
	}
	fmt.Fprintf(os.Stderr, "shards: node %d serves clients on %s\n", cfg.id, cfg.clientURL)
	select {
	case <-ctx.Done():
		n.stop()
		return errors.Join(inside.Close(), outside.Close())
	case err = <-n.failed: // as a crash
		return err
	}
}
