//go:build linux

package faults_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/seed-4d73690b/rafthttp"
)

// processFaults are those for which member 2 is a process of its own.
var processFaults = []fault{
	{"a process that is stopped", []string{"no progress within the read timeout"}, func(s *scene) {
		one := s.member(1, nil)
		p := s.process(one, "")
		s.waitActive(one, 2)
		require.NoError(s, p.Signal(syscall.SIGSTOP))
		s.Cleanup(func() { _ = p.Signal(syscall.SIGCONT) })
	}},
	{"a process that is killed", []string{"connection refused"}, func(s *scene) {
		one := s.member(1, nil)
		p := s.process(one, "")
		s.waitActive(one, 2)
		require.NoError(s, p.Kill())
	}},
	{"a member that has lost its log", []string{"tocommit(…) is out of range [lastIndex(…)]", "a callback panicked, which ends the process"}, func(s *scene) {
		one := s.member(1, nil)
		s.process(one, childEmptyLog)
		s.waitActive(one, 2)
		one.Send([]*raftpb.Message{{
			Type: raftpb.MsgHeartbeat.Enum(), To: new(uint64(2)), From: new(uint64(1)), Term: new(uint64(1)), Commit: new(uint64(10)),
		}})
	}},
	{"a process that may open no more files", []string{"too many open files"}, func(s *scene) {
		s.process(s.member(1, nil), childFewFiles)
		s.waitFor("failed to dial … socket: too many open files")
		s.waitFor("cannot accept connections… accept4: too many open files")
	}},
	{"a process with TLS that may open no more files", []string{"accept4: too many open files"}, func(s *scene) {
		ca := newAuthority(s)
		ca.issue(2, nil)
		s.process(s.member(1, ca.member(1, nil)), childFewFiles, "FAULT_TLS="+ca.dir)
	}},
}

// What a child does beside being a member.
const (
	childEmptyLog = "empty log"
	childFewFiles = "few files"
)

// process runs member 2 in a process of its own, connected to one, until the test ends. What it says is the scene's.
func (s *scene) process(one *player, role string, env ...string) *os.Process {
	s.Helper()
	c := exec.Command(os.Args[0], "-test.run=^TestFaultChild$")
	c.Env = append(append(os.Environ(), "FAULT_PEER="+one.url, "FAULT_ROLE="+role), env...)
	stdin, err := c.StdinPipe()
	require.NoError(s, err)
	out, err := c.StdoutPipe()
	require.NoError(s, err)
	c.Stderr = c.Stdout
	require.NoError(s, c.Start())
	lines := bufio.NewReader(out)
	var address string
	for is := false; !is; {
		line, err := lines.ReadString('\n')
		require.NoError(s, err, line)
		fmt.Fprint(s, line)
		address, is = strings.CutPrefix(strings.TrimSpace(line), "member 2 at ")
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		_, _ = io.Copy(s, lines)
	}()
	s.Cleanup(func() {
		stdin.Close()
		_ = c.Process.Kill()
		<-read
		_ = c.Wait()
	})
	one.AddPeer(2, []string{address})
	return c.Process
}

// TestFaultChild is not a test, but member 2 in a process of its own.
func TestFaultChild(t *testing.T) {
	peer, is := os.LookupEnv("FAULT_PEER")
	if !is {
		return
	}
	role := os.Getenv("FAULT_ROLE")
	s := &scene{T: t}
	m := s.transport(2)
	m.Logger = zap.New(zapcore.NewCore(zapcore.NewConsoleEncoder(zap.NewDevelopmentEncoderConfig()), zapcore.Lock(os.Stdout), zap.InfoLevel))
	scheme := "http"
	if dir, is := os.LookupEnv("FAULT_TLS"); is {
		scheme = "https"
		a := &authority{s: s, dir: dir}
		a.use(2, m.Transport)
	}
	if role == childEmptyLog {
		node, err := raft.NewRawNode(&raft.Config{
			ID: 2, ElectionTick: 10, HeartbeatTick: 1, Storage: raft.NewMemoryStorage(), MaxSizePerMsg: 1 << 20, MaxInflightMsgs: 16,
		})
		require.NoError(t, err)
		m.Raft = &emptyLog{node: node}
	}
	require.NoError(t, m.Start())
	defer m.Stop()
	ln, err := rafthttp.NewListener(url.URL{Scheme: scheme, Host: "127.0.0.1:0"}, &m.TLSInfo)
	require.NoError(t, err)
	srv := rafthttp.NewServer(m.Handler())
	defer srv.Close()
	go func() { _ = srv.Serve(ln) }()
	if role == childFewFiles {
		useUpFiles(t)
	}
	m.AddPeer(1, []string{peer})
	fmt.Printf("member 2 at %s://%s\n", scheme, ln.Addr())
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// useUpFiles leaves the process no file to open.
func useUpFiles(t *testing.T) {
	const few = 64
	require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: few, Max: few}))
	for {
		if _, err := syscall.Open(os.DevNull, syscall.O_RDONLY, 0); err != nil {
			require.ErrorIs(t, err, syscall.EMFILE)
			return
		}
	}
}

// emptyLog is a Raft around a real one that has no log.
type emptyLog struct {
	deaf
	mu   sync.Mutex
	node *raft.RawNode
}

func (e *emptyLog) Process(_ context.Context, m *raftpb.Message) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.node.Step(m)
}
