//go:build linux

// Package faults_test causes the faults that operators meet, and tests what they are told of each: by the log, Status and Health,
// on the status page, in the metrics, and by the documents.
package faults_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/metrics"
)

// fault is something that goes wrong in production, and the words by which whoever runs the cluster finds it in the documents.
type fault struct {
	name string
	// words are said by a member, in its log or as the last error of a peer, and explained by operating.md or faq.md. "…" stands
	// for anything.
	words []string
	cause func(s *scene)
}

// faults are all that are tried: over real sockets, with real TLS, and with real processes where a process is at fault.
func faults() []fault {
	return slices.Concat(addressFaults, linkFaults, proxyFaults, tlsFaults, memberFaults, processFaults)
}

// TestFaultsAreFoundByTheirWords causes each fault, and looks up what the members say of it.
func TestFaultsAreFoundByTheirWords(t *testing.T) {
	t.Parallel()
	entries := explanations(t)
	for _, f := range faults() {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			s := &scene{T: t}
			f.cause(s)
			for _, w := range f.words {
				s.waitFor(w)
				require.Contains(t, entries, w, "neither operating.md nor faq.md has cause and remedy of it. The members say:\n%s", s.said())
			}
			s.requireSigns(signs[f.name])
			for _, e := range s.errors() {
				explains := func(words string) bool { return strings.Contains(words, " ") && pattern(words).MatchString(e) }
				require.True(t, slices.ContainsFunc(entries, explains), "neither operating.md nor faq.md explains: %s", e)
			}
		})
	}
}

// read returns a document of docs.
func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../../docs", name))
	require.NoError(t, err)
	return string(text)
}

var (
	quoted = regexp.MustCompile("`([^`]+)`")
	cited  = regexp.MustCompile(`"([^"]+)"`)
)

// explanations returns the words that the documents give cause and remedy of: in operating.md those of tables with such columns, in
// faq.md those of sections that state both.
func explanations(t *testing.T) (words []string) {
	t.Helper()
	for _, section := range sections(read(t, "operating.md")) {
		for line := range strings.Lines(section) {
			cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
			empty := func(c string) bool { return strings.TrimSpace(c) == "" }
			if !strings.HasPrefix(line, "| `") || len(cells) < 3 || slices.ContainsFunc(cells, empty) {
				continue
			}
			for _, m := range quoted.FindAllStringSubmatch(cells[0], -1) {
				words = append(words, m[1])
			}
		}
	}
	for heading, section := range sections(read(t, "faq.md")) {
		if !strings.Contains(section, "*Cause") || !strings.Contains(section, "*Do:*") {
			continue
		}
		for _, m := range slices.Concat(cited.FindAllStringSubmatch(heading, -1), quoted.FindAllStringSubmatch(section, -1)) {
			words = append(words, m[1])
		}
	}
	return words
}

// sections returns the text below each heading of a document.
func sections(document string) map[string]string {
	all, heading := map[string]string{}, ""
	for line := range strings.Lines(document) {
		if strings.HasPrefix(line, "#") {
			heading = strings.TrimSpace(line)
		}
		all[heading] += line
	}
	return all
}

// pattern matches texts with these words in them.
func pattern(words string) *regexp.Regexp {
	return regexp.MustCompile(strings.ReplaceAll(regexp.QuoteMeta(words), "…", ".+"))
}

// scene is where a fault is caused.
type scene struct {
	*testing.T
	all    []*player
	mu     sync.Mutex
	output strings.Builder // of processes
}

// player is a member of a scene.
type player struct {
	*rafthttp.Transport
	url     string
	logs    *observer.ObservedLogs
	metrics *metrics.Collector
}

// deaf is a Raft that does nothing.
type deaf struct{}

func (deaf) Process(context.Context, *raftpb.Message) error { return nil }
func (deaf) IsIDRemoved(uint64) bool                        { return false }
func (deaf) ReportUnreachable(uint64)                       {}
func (deaf) ReportSnapshot(uint64, raft.SnapshotStatus)     {}

const (
	stageCluster = types.ID(0xc1)
	patience     = time.Minute
)

// transport returns a member that is not started.
func (s *scene) transport(id types.ID) *player {
	core, logs := observer.New(zapcore.InfoLevel)
	tr := &rafthttp.Transport{
		ID: id, ClusterID: stageCluster, Raft: deaf{}, Logger: zap.New(core),
		ReadTimeout: time.Second, WriteTimeout: time.Second, DialTimeout: time.Second,
	}
	return &player{Transport: tr, logs: logs, metrics: metrics.New(tr, nil)}
}

// member runs a member, whose fields tune may change. It serves TLS if it has a certificate.
func (s *scene) member(id types.ID, tune func(*rafthttp.Transport)) *player {
	s.Helper()
	return s.behind(id, tune, func(h http.Handler) http.Handler { return h })
}

// behind is member with a middleware.
func (s *scene) behind(id types.ID, tune func(*rafthttp.Transport), wrap func(http.Handler) http.Handler) *player {
	s.Helper()
	m := s.transport(id)
	if tune != nil {
		tune(m.Transport)
	}
	require.NoError(s, m.Start())
	s.Cleanup(m.Stop)
	scheme := "http"
	if m.TLSInfo.CertFile != "" {
		scheme = "https"
	}
	ln, err := rafthttp.NewListener(url.URL{Scheme: scheme, Host: "127.0.0.1:0"}, &m.TLSInfo)
	require.NoError(s, err)
	srv := rafthttp.NewServer(wrap(m.Handler()))
	s.Cleanup(func() { srv.Close() })
	go func() { _ = srv.Serve(ln) }()
	m.url = scheme + "://" + ln.Addr().String()
	s.all = append(s.all, m)
	return m
}

// connected runs members 1 and 2, which are connected.
func (s *scene) connected(tune func(*rafthttp.Transport)) (one, two *player) {
	s.Helper()
	one, two = s.member(1, tune), s.member(2, tune)
	one.AddPeer(2, []string{two.url})
	two.AddPeer(1, []string{one.url})
	s.waitActive(one, 2)
	s.waitActive(two, 1)
	return one, two
}

// waitActive waits until a peer is active and all of its streams are up.
func (s *scene) waitActive(m *player, peer types.ID) {
	s.Helper()
	down := func(st rafthttp.StreamStatus) bool { return !st.Up }
	s.eventually(func() bool {
		p := statusOf(m.Transport, peer)
		return p.Active && !slices.ContainsFunc(p.Streams, down)
	})
}

// statusOf returns the state of a peer.
func statusOf(t *rafthttp.Transport, id types.ID) rafthttp.PeerStatus {
	for _, p := range t.Status().Peers {
		if p.ID == id {
			return p
		}
	}
	return rafthttp.PeerStatus{}
}

func (s *scene) eventually(cond func() bool) {
	s.Helper()
	require.Eventually(s, cond, patience, 5*time.Millisecond)
}

// waitFor waits until a member says words.
func (s *scene) waitFor(words string) {
	s.Helper()
	ok := func() bool { return pattern(words).MatchString(s.said()) }
	if end := time.Now().Add(patience); !ok() {
		for tick := time.NewTicker(5 * time.Millisecond); !ok(); <-tick.C {
			require.True(s, time.Now().Before(end), "nobody says %q:\n%s", words, s.said())
		}
	}
}

// said returns what the members have said so far.
func (s *scene) said() string {
	var b strings.Builder
	for _, m := range s.all {
		for _, e := range m.logs.All() {
			fmt.Fprintf(&b, "%s %s %v\n", e.Level, e.Message, e.ContextMap())
		}
		for _, p := range m.Status().Peers {
			fmt.Fprintf(&b, "last error of %s: %s\n", p.ID, p.LastError)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return b.String() + s.output.String()
}

// Write takes what a process says.
func (s *scene) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.output.Write(p)
}

// errors returns the errors of all warnings of the members.
func (s *scene) errors() (all []string) {
	for _, m := range s.all {
		for _, e := range m.logs.All() {
			if err, ok := e.ContextMap()["error"].(string); ok && e.Level >= zapcore.WarnLevel {
				all = append(all, err)
			}
		}
	}
	return all
}

// keepSending has a member send an append of so many bytes to another, again and again, until the test ends.
func (s *scene) keepSending(from *player, to types.ID, size int) {
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for i := uint64(1); ; i++ {
			from.Send([]*raftpb.Message{appendOf(from.ID, to, i, size)})
			select {
			case <-tick.C:
			case <-stop:
				return
			}
		}
	}()
	s.Cleanup(func() {
		close(stop)
		<-stopped
	})
}

// appendOf is an append with one entry of so many bytes.
func appendOf(from, to types.ID, index uint64, size int) *raftpb.Message {
	return &raftpb.Message{
		Type: raftpb.MsgApp.Enum(), To: new(uint64(to)), From: new(uint64(from)), Term: new(uint64(1)), LogTerm: new(uint64(1)),
		Index: new(index), Commit: new(uint64(0)),
		Entries: []*raftpb.Entry{{Term: new(uint64(1)), Index: new(index + 1), Data: make([]byte, size)}},
	}
}

// listen serves connections by f, each on a goroutine of its own, until the test ends.
func (s *scene) listen(f func(net.Conn)) (address string) {
	s.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(s, err)
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	s.Cleanup(func() {
		ln.Close()
		cancel()
		wg.Wait()
	})
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer context.AfterFunc(ctx, func() { c.Close() })()
				defer c.Close()
				f(c)
			})
		}
	})
	return ln.Addr().String()
}

// serve runs an HTTP server that is no member.
func (s *scene) serve(h http.Handler) (address string) {
	s.Helper()
	return s.serveAt("127.0.0.1:0", h)
}

func (s *scene) serveAt(at string, h http.Handler) (address string) {
	s.Helper()
	ln, err := net.Listen("tcp", at)
	require.NoError(s, err)
	srv := &http.Server{Handler: h, ReadHeaderTimeout: patience}
	s.Cleanup(func() { srv.Close() })
	go func() { _ = srv.Serve(ln) }()
	return ln.Addr().String()
}
