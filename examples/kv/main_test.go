package main

import (
	"bytes"
	"context"
	"flag"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/examples/kv/internal/api"
	"github.com/seed-4d73690b/rafthttp/examples/kv/internal/demo"
)

// TestMain lets the demo run members: it starts its own executable with "serve",
// and that is this test.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "serve" {
		main()
		return
	}
	os.Exit(m.Run())
}

func TestDemo(t *testing.T) {
	if testing.Short() {
		t.Skip("runs a cluster of processes")
	}
	var out output
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- demo.Run(ctx, &out, demo.Options{Keys: 1000, Clients: 16, LoadMiB: 8, Serve: true}) }()
	serving := regexp.MustCompile(`(?s)keeps running.*\n          page (\S+)  metrics (\S+)\n.*page.*page [^\n]*\n`)
	for serving.FindString(out.String()) == "" {
		select {
		case err := <-ended:
			require.FailNow(t, "the demo has ended", "%v\n%s", err, out.String())
		case <-time.After(50 * time.Millisecond):
		}
	}
	require.Equal(t, 10, strings.Count(out.String(), "\nok  "), out.String())
	require.Contains(t, out.String(), "it votes")
	require.NotContains(t, out.String(), "FAIL")
	require.NotContains(t, out.String(), "\r") // not a terminal
	require.Regexp(t, `^Watch it, while it runs, at http://127.0.0.1:\d+/debug/rafthttp\n`, out.String())
	urls := serving.FindStringSubmatch(out.String())
	// What the steps before have left, such as drops or the handshake of a killed member, is a warning for a while.
	require.Regexp(t, `All 2 peers are (healthy|active)\.`, fetch(t, urls[1]))
	require.Regexp(t, `etcd_network_active_peers\{Local="\w+",Remote="\w+"\} 1\n`, fetch(t, urls[2]))
	require.Regexp(t, `\ngo_goroutines \d+\n`, fetch(t, urls[2]))
	cancel()
	require.NoError(t, <-ended)
}

// output is a buffer that is read while it is written to.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

func fetch(t *testing.T, url string) string {
	t.Helper()
	resp, err := http.Get(url)
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, resp.StatusCode)
	return string(body)
}

func TestDemoInterrupted(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	t.Setenv("TMPDIR", t.TempDir())
	err := demo.Run(ctx, &bytes.Buffer{}, demo.Options{Keys: 1_000_000, Clients: 1, LoadMiB: 1})
	require.ErrorContains(t, err, "interrupted")
	left, err := filepath.Glob(filepath.Join(os.TempDir(), "kv-demo-*"))
	require.NoError(t, err)
	require.Empty(t, left)
}

func TestStatusShowsSnapshots(t *testing.T) {
	start := time.Now()
	var s api.Status
	s.Transport = rafthttp.Status{
		Peers: []rafthttp.PeerStatus{{
			ID:           2,
			Snapshots:    []rafthttp.SnapshotStatus{{Peer: 2, Index: 7, Bytes: 48 << 20, Total: 64 << 20, Rate: 8 << 20, ETA: 2 * time.Second}},
			LastSnapshot: &rafthttp.SnapshotStatus{Peer: 2, Index: 5, Bytes: 1 << 20, Total: 2 << 20, Started: start, Ended: start.Add(time.Second), Error: "disk full"},
		}},
		Receiving:    []rafthttp.SnapshotStatus{{Peer: 3, Index: 8, Bytes: 1 << 20, Total: -1, Incoming: true}},
		LastReceived: &rafthttp.SnapshotStatus{Peer: 3, Index: 6, Bytes: 2 << 20, Total: 2 << 20, Incoming: true, Started: start, Ended: start.Add(time.Second)},
	}
	var out bytes.Buffer
	printStatus(&out, s)
	for _, want := range []string{
		"snapshot 7 to 2          ███████████████░░░░░  75% of 64.0 MiB, 8.0 MiB/s, 2s left\n",
		"last snapshot sent to 2: index 5, 1.0 MiB in 1s, failed: disk full\n",
		"snapshot 8 from 3        1.0 MiB\n",
		"last snapshot received from 3: index 6, 2.0 MiB in 1s, done\n",
	} {
		require.Contains(t, out.String(), want)
	}
}

func TestHelp(t *testing.T) {
	for _, c := range commands() {
		for _, args := range [][]string{{c.name, "-h"}, {"help", c.name}} {
			var out bytes.Buffer
			require.ErrorIs(t, run(t.Context(), args, &out), flag.ErrHelp)
			require.Contains(t, out.String(), "Usage: kv "+c.name)
			require.Contains(t, out.String(), c.summary)
		}
	}
	var out bytes.Buffer
	require.ErrorIs(t, run(t.Context(), []string{"help"}, &out), flag.ErrHelp)
	for _, c := range commands() {
		require.Contains(t, out.String(), c.name)
	}
}

func TestBadCommandLine(t *testing.T) {
	serve := func(more ...string) []string {
		return append([]string{"serve", "-id", "1", "-data-dir", t.TempDir(),
			"-peer-url", "http://127.0.0.1:1", "-client-url", "http://127.0.0.1:2"}, more...)
	}
	for _, tc := range []struct {
		name string
		args []string
		want string // in what is printed, or in the error
	}{
		{"nothing", nil, "Commands:"},
		{"no such command", []string{"sreve"}, `no command "sreve"`},
		{"no such flag", []string{"get", "-fast"}, "-fast"},
		{"no key", []string{"get"}, "want a key"},
		{"no value", []string{"put", "k"}, "want a key and a value"},
		{"two keys", []string{"del", "k", "l"}, "want a key"},
		{"members what", []string{"members", "drop", "1"}, "remove ID"},
		{"members remove whom", []string{"members", "remove", "x"}, "remove ID"},
		{"endpoint", []string{"get", "-endpoints", "localhost:1", "k"}, "--endpoints"},
		{"status of what", []string{"status", "x"}, `"x"`},
		{"bench without clients", []string{"bench", "-clients", "0"}, "--clients"},
		{"demo without keys", []string{"demo", "-keys", "0"}, "--keys"},
		{"serve without id", []string{"serve"}, "--id"},
		{"serve with an argument", serve("x"), `"x"`},
		{"cluster that is no list", serve("-cluster", "http://127.0.0.1:1"), "--cluster"},
		{"cluster with a member twice", serve("-cluster", "1=http://127.0.0.1:1,1=http://127.0.0.1:1"), "--cluster"},
		{"cluster with a member 0", serve("-cluster", "0=http://127.0.0.1:2,1=http://127.0.0.1:1"), "--cluster: 0 is not an id"},
		{"half of TLS", serve("-peer-cert", "main.go"), "--peer-key"},
		{"no such file", serve("-peer-ca", "none.pem"), "--peer-ca"},
		{"TLS for http", serve("-peer-cert", "main.go", "-peer-key", "main.go", "-peer-ca", "main.go"), "--peer-url"},
		{"https without TLS", serve("-peer-url", "https://127.0.0.1:1"), "--peer-cert"},
		{"log level", serve("-log-level", "loud"), "log-level"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var out bytes.Buffer
			err := run(t.Context(), tc.args, &out)
			require.Error(t, err)
			require.NotErrorIs(t, err, flag.ErrHelp)
			require.Contains(t, out.String()+err.Error(), tc.want)
		})
	}
}

func TestParseCluster(t *testing.T) {
	got, err := parseCluster("1=http://a:1, 2=http://b:2")
	require.NoError(t, err)
	require.Equal(t, map[uint64]string{1: "http://a:1", 2: "http://b:2"}, got)
}
