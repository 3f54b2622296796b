package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/seed-4d73690b/rafthttp/examples/kv/internal/server"
)

// stopTime is how long a member may take to stop in good order.
const stopTime = 10 * time.Second

func serveCommand(flags *flag.FlagSet) func(context.Context, []string) error {
	var cfg server.Config
	var cluster, cert, key, ca string
	logLevel := zapcore.InfoLevel
	flags.Uint64Var(&cfg.ID, "id", 0, "`id` of this member: 1 or more, never used before (required)")
	flags.StringVar(&cfg.DataDir, "data-dir", "", "`folder` for everything the member must not forget (required)")
	flags.StringVar(&cfg.PeerURL, "peer-url", "", "`URL` to listen on for other members, and where they reach this one (required)")
	flags.StringVar(&cfg.ClientURL, "client-url", "", "`URL` to listen on for clients, and where they reach this member (required)")
	flags.StringVar(&cluster, "cluster", "", "found a cluster of these `members`: id=peer-url,id=peer-url,… with this one among them; the first start waits until all of them run, later ones ignore it")
	flags.StringVar(&cfg.Join, "join", "", "join the cluster that has a member with this client `URL`; later starts ignore it")
	flags.StringVar(&cert, "peer-cert", "", "certificate `file` (PEM) for mutual TLS between members; goes with --peer-key and --peer-ca")
	flags.StringVar(&key, "peer-key", "", "key `file` (PEM) of --peer-cert")
	flags.StringVar(&ca, "peer-ca", "", "`file` (PEM) with the authority that the other members' certificates must be from")
	flags.StringVar(&cfg.TrustDomain, "peer-trust-domain", "kv.example", "`domain`: with --peer-cert, a certificate is good for the member that its URI names, spiffe://domain/member/<id in hexadecimal>; empty: for any")
	flags.DurationVar(&cfg.TLSRecheck, "tls-recheck", 10*time.Second, "how often connections are checked against changed files of --peer-cert, --peer-key and --peer-ca")
	flags.Func("peer-route", "`URL=URL`: reach the member with the first peer URL at the second one; may be given many times", func(s string) error {
		from, to, ok := strings.Cut(s, "=")
		if !ok {
			return errors.New("not URL=URL")
		}
		if cfg.Routes == nil {
			cfg.Routes = make(map[string]string)
		}
		cfg.Routes[from] = to
		return nil
	})
	flags.DurationVar(&cfg.Tick, "tick", 100*time.Millisecond, "raft's unit of time: a leader that is silent for 10 to 20 ticks is replaced; the same at all members")
	flags.BoolVar(&cfg.AsyncStorageWrites, "async-storage-writes", false, "let raft go on while log and data are written, each by a thread of its own")
	flags.Uint64Var(&cfg.CompactEntries, "compact-entries", 20_000, "compact the log when it has grown by this `number` of entries, or by 32 MiB")
	flags.Uint64Var(&cfg.KeepEntries, "keep-entries", 2_000, "`number` of entries that a compaction keeps, 16 MiB at most, for followers that are a little behind")
	flags.TextVar(&logLevel, "log-level", zapcore.InfoLevel, "log what is at least of this `level`: debug, info, warn, error")
	return func(ctx context.Context, args []string) error {
		var err error
		if err = noArguments(args); err != nil {
			return err
		}
		if cfg.Bootstrap, err = parseCluster(cluster); err != nil {
			return err
		}
		if cfg.PeerTLS, err = peerTLS(cfg.PeerURL, cert, key, ca); err != nil {
			return err
		}
		if cfg.Logger, err = newLogger(logLevel); err != nil {
			return err
		}
		return serve(ctx, cfg)
	}
}

// serve runs a member until ctx ends, the member is removed, or it cannot go on.
func serve(ctx context.Context, cfg server.Config) error {
	s, err := server.Start(ctx, cfg)
	switch {
	case errors.Is(err, server.ErrRemoved):
		fmt.Fprintf(os.Stderr, "kv: there is nothing to serve: %v\n", err)
		return nil
	case err != nil:
		return err
	}
	fmt.Fprintf(os.Stderr, "kv: member %d serves clients on %s\n", cfg.ID, cfg.ClientURL)
	select {
	case <-ctx.Done():
		fmt.Fprintln(os.Stderr, "kv: stopping")
		stopCtx, cancel := context.WithTimeout(context.Background(), stopTime)
		defer cancel()
		s.Stop(stopCtx)
	case <-s.Done():
	}
	if err := s.Err(); !errors.Is(err, server.ErrRemoved) {
		return err
	}
	fmt.Fprintf(os.Stderr, "kv: stopped: %v\n", s.Err())
	return nil
}

func parseCluster(s string) (map[uint64]string, error) {
	if s == "" {
		return nil, nil
	}
	members := make(map[uint64]string)
	for _, part := range strings.Split(s, ",") {
		id, peerURL, ok := strings.Cut(strings.TrimSpace(part), "=")
		n, err := strconv.ParseUint(id, 10, 64)
		if !ok || err != nil {
			return nil, fmt.Errorf("--cluster: %q is not id=peer-url", part)
		}
		if _, twice := members[n]; twice {
			return nil, fmt.Errorf("--cluster: member %d is listed twice", n)
		}
		members[n] = peerURL
	}
	return members, nil
}

// peerTLS is what both ends of a connection between members need: each shows
// its certificate, and accepts one from the same authority only.
func peerTLS(peerURL, cert, key, ca string) (transport.TLSInfo, error) {
	u, err := url.Parse(peerURL)
	if err != nil {
		return transport.TLSInfo{}, fmt.Errorf("--peer-url: %w", err)
	}
	given := 0
	for _, f := range []struct{ flag, file string }{{"--peer-cert", cert}, {"--peer-key", key}, {"--peer-ca", ca}} {
		if f.file == "" {
			continue
		}
		given++
		if _, err := os.Stat(f.file); err != nil {
			return transport.TLSInfo{}, fmt.Errorf("%s: %w", f.flag, err)
		}
	}
	switch {
	case given == 0 && u.Scheme == "https":
		return transport.TLSInfo{}, errors.New("--peer-url: https needs --peer-cert, --peer-key and --peer-ca")
	case given == 0:
		return transport.TLSInfo{}, nil
	case given < 3:
		return transport.TLSInfo{}, errors.New("--peer-cert, --peer-key and --peer-ca go together: all three, or none")
	case u.Scheme != "https":
		return transport.TLSInfo{}, fmt.Errorf("--peer-url: %s does not start with https, but --peer-cert is given", peerURL)
	}
	return transport.TLSInfo{CertFile: cert, KeyFile: key, TrustedCAFile: ca, ClientCertAuth: true}, nil
}

func newLogger(level zapcore.Level) (*zap.Logger, error) {
	cfg := zap.NewDevelopmentConfig()
	cfg.Level = zap.NewAtomicLevelAt(level)
	cfg.Development = false
	cfg.DisableCaller = true
	cfg.DisableStacktrace = true
	return cfg.Build()
}
