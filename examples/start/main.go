// Command start is a replicated key-value server in three files, to begin with:
// docs/getting-started.md leads through it. It has mutual TLS between its
// members, metrics, a status page, and a log that survives a crash; what it
// leaves out is in examples/kv.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3"
	"go.uber.org/zap"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/metrics"
	"github.com/seed-4d73690b/rafthttp/peerid"
	"github.com/seed-4d73690b/rafthttp/statuspage"
)

// clusterID keeps members of different clusters apart. Choose your own.
const clusterID = 0x5741

type config struct {
	id      uint64
	cluster map[uint64]string // peer URL of each member
	client  string            // address for clients and operators
	data    string            // folder of the log
	found   bool              // at the first start
	certs   string            // folder with ca.crt, and <id>.crt and <id>.key
}

func main() {
	var cfg config
	flag.Uint64Var(&cfg.id, "id", 0, "`id` of this member")
	flag.Func("cluster", "all `members`: 1=https://host:port,2=https://host:port,…", func(s string) (err error) {
		cfg.cluster, err = parseCluster(s)
		return err
	})
	flag.StringVar(&cfg.client, "client", "127.0.0.1:8001", "`address` for clients and operators")
	flag.StringVar(&cfg.data, "data", "data", "`folder` of the log")
	flag.BoolVar(&cfg.found, "new", false, "found the cluster: at the first start of each member, and never again")
	flag.StringVar(&cfg.certs, "certs", "certs", "`folder` with ca.crt, and <id>.crt and <id>.key")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := serve(ctx, cfg); err != nil {
		log.Fatal(err)
	}
}

func parseCluster(s string) (map[uint64]string, error) {
	cluster := map[uint64]string{}
	for _, one := range strings.Split(s, ",") {
		id, u, ok := strings.Cut(one, "=")
		n, err := strconv.ParseUint(id, 10, 64)
		if !ok || err != nil || n == 0 || u == "" {
			return nil, fmt.Errorf("%q is not id=URL", one)
		}
		if cluster[n] != "" {
			return nil, fmt.Errorf("member %d is listed twice", n)
		}
		cluster[n] = u
	}
	return cluster, nil
}

// serve runs a member until ctx ends or something fails.
func serve(ctx context.Context, cfg config) error {
	if cfg.cluster[cfg.id] == "" {
		return fmt.Errorf("-cluster does not list member %d (-id)", cfg.id)
	}
	// The port comes first: a member that cannot serve makes no log.
	clientListener, err := net.Listen("tcp", cfg.client)
	if err != nil {
		return err
	}
	defer clientListener.Close()
	log, err := openLog(cfg.data, owner{cfg.id, clusterID}, cfg.found)
	if err != nil {
		return err
	}
	defer log.file.Close()
	m, err := startMember(slices.Sorted(maps.Keys(cfg.cluster)), log, quiet())
	if err != nil {
		return err
	}
	t, err := newTransport(cfg, m)
	if err != nil {
		return err
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(metrics.New(t, nil), m.seconds) // before Start
	if err := t.Start(); err != nil {
		return err
	}
	defer t.Stop()
	for id, u := range cfg.cluster {
		t.AddPeer(types.ID(id), []string{u}) // does nothing for this member itself
	}

	peerURL, err := url.Parse(cfg.cluster[cfg.id])
	if err != nil {
		return err
	}
	listener, err := rafthttp.NewListener(*peerURL, &t.TLSInfo)
	if err != nil {
		return err
	}
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	peers := rafthttp.NewServer(t.Handler()) // has t log and count clients whose TLS handshake fails
	defer peers.Close()
	go func() { end(peers.Serve(listener)) }()

	clients := &http.Server{Handler: m.handler(t, registry), ReadHeaderTimeout: 10 * time.Second}
	defer clients.Close()
	go func() { end(clients.Serve(clientListener)) }()

	if err := m.run(ctx, t); err != nil {
		return err
	}
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// newTransport makes what carries messages to and from the other members.
func newTransport(cfg config, m *member) (*rafthttp.Transport, error) {
	logger, err := zap.NewProduction()
	if err != nil {
		return nil, err
	}
	// A certificate is good for the one member that its URI names.
	verify, err := peerid.SPIFFE("start.example")
	if err != nil {
		return nil, err
	}
	own := strconv.FormatUint(cfg.id, 10)
	return &rafthttp.Transport{
		ID:        types.ID(cfg.id),
		ClusterID: clusterID,
		Raft:      m,
		ErrorC:    make(chan error, 1),
		Logger:    logger,
		TLSInfo: transport.TLSInfo{
			TrustedCAFile:  filepath.Join(cfg.certs, "ca.crt"),
			CertFile:       filepath.Join(cfg.certs, own+".crt"),
			KeyFile:        filepath.Join(cfg.certs, own+".key"),
			ClientCertAuth: true,
		},
		VerifyPeer: verify,
	}, nil
}

// handler serves clients and operators. It has no TLS and no passwords: keep it
// on an address that only they can reach.
func (m *member) handler(t *rafthttp.Transport, registry *prometheus.Registry) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("PUT /kv/{key}", func(w http.ResponseWriter, r *http.Request) {
		value, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), 5*time.Second)
		defer cancel()
		if err := m.put(ctx, r.PathValue("key"), string(value)); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
		}
	})
	mux.HandleFunc("GET /kv/{key}", func(w http.ResponseWriter, r *http.Request) {
		value, ok := m.get(r.PathValue("key"))
		if !ok {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/octet-stream") // else a browser would run what others have put
		fmt.Fprint(w, value)
	})
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) {
		health := t.Health()
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		if health.Severity >= rafthttp.SeverityCritical { // no majority is active
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		fmt.Fprintln(w, health.Severity)
		for _, p := range health.Problems {
			fmt.Fprintln(w, p.Severity, p.Kind, p.Peer, p.Cause)
		}
	})
	mux.Handle("/metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	mux.Handle("/debug/rafthttp", statuspage.Handler(t, nil))
	return mux
}

// quiet is a logger for raft that says what goes wrong and nothing else.
func quiet() raft.Logger {
	l := &raft.DefaultLogger{Logger: log.New(os.Stderr, "raft ", log.LstdFlags)}
	return errorsOnly{l}
}

type errorsOnly struct{ raft.Logger }

func (errorsOnly) Debug(...any)          {}
func (errorsOnly) Debugf(string, ...any) {}
func (errorsOnly) Info(...any)           {}
func (errorsOnly) Infof(string, ...any)  {}
