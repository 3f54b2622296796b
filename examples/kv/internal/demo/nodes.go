package demo

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/seed-4d73690b/rafthttp/examples/kv/internal/api"
	"github.com/seed-4d73690b/rafthttp/examples/kv/internal/certs"
	"github.com/seed-4d73690b/rafthttp/examples/kv/internal/client"
)

const (
	logName   = "log.txt"
	founders  = 3
	allNodes  = 4
	pollEvery = 20 * time.Millisecond

	// keepEntries is how much of the log a compaction keeps: so little that even
	// a small load leaves the fourth member nothing but a snapshot.
	keepEntries = "100"
)

var errExitedWell = errors.New("exit code 0")

// node is one member: a process of its own.
type node struct {
	id                 uint64
	dir                string
	peerURL, clientURL string
	tls                []string // flags
	client             *client.Client

	cmd    *exec.Cmd     // nil: not running
	exited chan struct{} // closed when the process has ended
	err    error         // of its end; valid when exited is closed
}

// nodes is all members, running or not.
type nodes struct {
	all []*node

	mu sync.Mutex // guards the nodes' cmd
}

func newNodes(dir string) (*nodes, error) {
	ca, err := certs.NewAuthority(dir)
	if err != nil {
		return nil, err
	}
	ports, err := freePorts(2 * allNodes)
	if err != nil {
		return nil, err
	}
	ns := &nodes{}
	for i := range allNodes {
		n := &node{
			id:        uint64(i + 1),
			dir:       filepath.Join(dir, fmt.Sprintf("member-%d", i+1)),
			clientURL: fmt.Sprintf("http://127.0.0.1:%d", ports[2*i]),
			peerURL:   fmt.Sprintf("https://127.0.0.1:%d", ports[2*i+1]),
		}
		cert, key, err := ca.Issue(n.id)
		if err != nil {
			return nil, err
		}
		n.tls = []string{"-peer-cert", cert, "-peer-key", key, "-peer-ca", ca.File(),
			"-peer-trust-domain", certs.TrustDomain}
		if n.client, err = client.New(n.clientURL); err != nil {
			return nil, err
		}
		if err := os.Mkdir(n.dir, 0o700); err != nil {
			return nil, err
		}
		ns.all = append(ns.all, n)
	}
	return ns, nil
}

// freePorts returns ports of the loopback interface that nobody listens on,
// from below the range that systems take ports for outgoing connections from:
// one of those could take a port while its member is down.
func freePorts(n int) ([]int, error) {
	var ports []int
	for range 1000 {
		port := 10_000 + rand.IntN(22_000)
		if slices.Contains(ports, port) {
			continue
		}
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue
		}
		_ = l.Close()
		if ports = append(ports, port); len(ports) == n {
			return ports, nil
		}
	}
	return nil, errors.New("no free ports on the loopback interface")
}

// pageURL is where the member shows its connections.
func (n *node) pageURL() string { return n.clientURL + "/debug/rafthttp" }

// start runs a member. It must be called on the goroutine of Run, whose thread
// the process is tied to.
func (ns *nodes) start(n *node, flags ...string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	logFile, err := os.OpenFile(filepath.Join(n.dir, logName), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer logFile.Close() // the process has its own
	args := []string{"serve", "-id", fmt.Sprint(n.id), "-data-dir", filepath.Join(n.dir, "data"),
		"-peer-url", n.peerURL, "-client-url", n.clientURL, "-keep-entries", keepEntries}
	cmd := exec.Command(self, slices.Concat(args, n.tls, flags)...)
	cmd.Stdout, cmd.Stderr = logFile, logFile
	cmd.SysProcAttr = procAttr()
	if err := cmd.Start(); err != nil {
		return err
	}
	exited := make(chan struct{})
	ns.mu.Lock()
	n.cmd, n.exited = cmd, exited
	ns.mu.Unlock()
	go func() {
		err := cmd.Wait()
		ns.mu.Lock()
		defer ns.mu.Unlock()
		n.cmd, n.err = nil, err
		close(exited)
	}()
	return nil
}

// kill ends a member's process, as a power cut would.
func (ns *nodes) kill(n *node) {
	ns.mu.Lock()
	cmd := n.cmd
	ns.mu.Unlock()
	if cmd == nil {
		return
	}
	_ = cmd.Process.Signal(syscall.SIGKILL)
	<-n.exited
}

func (ns *nodes) killAll() {
	for _, n := range ns.all {
		ns.kill(n)
	}
}

func (ns *nodes) running() []*node {
	ns.mu.Lock()
	defer ns.mu.Unlock()
	var up []*node
	for _, n := range ns.all {
		if n.cmd != nil {
			up = append(up, n)
		}
	}
	return up
}

func (ns *nodes) endpoints() string { return strings.Join(urls(ns.running()), ",") }

func urls(of []*node) []string {
	var urls []string
	for _, n := range of {
		urls = append(urls, n.clientURL)
	}
	return urls
}

// statuses asks all running members how they are; ok says whether all answered.
func (ns *nodes) statuses(ctx context.Context) (all []api.Status, ok bool) {
	for _, n := range ns.running() {
		s, err := n.status(ctx)
		if err != nil {
			return nil, false
		}
		all = append(all, s)
	}
	return all, true
}

// status asks a member how it is, and does not wait for one that is not up.
func (n *node) status(ctx context.Context) (api.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	return n.client.Status(ctx)
}

// leader waits until all running members agree on one of them as the leader.
func (ns *nodes) leader(ctx context.Context) (leader *node, err error) {
	err = ns.await(ctx, "a leader that all members agree on", func() bool {
		all, ok := ns.statuses(ctx)
		if !ok {
			return false
		}
		for _, s := range all {
			if s.Leader == 0 || s.Leader != all[0].Leader || s.Term != all[0].Term {
				return false
			}
		}
		leader = ns.all[all[0].Leader-1]
		return slices.Contains(ns.running(), leader)
	})
	return leader, err
}

// await waits until ok says so, unless ctx ends, or a member does that should
// not.
func (ns *nodes) await(ctx context.Context, what string, ok func() bool) error {
	up := ns.running()
	ticker := time.NewTicker(pollEvery)
	defer ticker.Stop()
	for !ok() {
		for _, n := range up {
			select {
			case <-n.exited:
				return fmt.Errorf("waiting for %s: member %d has ended: %w", what, n.id, cmp.Or(n.err, errExitedWell))
			default:
			}
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w", what, ctx.Err())
		}
	}
	return nil
}

// printLogs prints the last lines of each member's log.
func (ns *nodes) printLogs(w io.Writer) {
	const lines = 12
	for _, n := range ns.all {
		text, err := os.ReadFile(filepath.Join(n.dir, logName))
		if err != nil {
			continue
		}
		all := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
		fmt.Fprintf(w, "\n--- the end of member %d's log\n%s\n", n.id, bytes.Join(all[max(0, len(all)-lines):], []byte("\n")))
	}
}
