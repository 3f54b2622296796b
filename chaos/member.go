package main

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"
)

// member is one place in the cluster: an address, a folder, and one process after the other. Its methods may be called
// concurrently.
type member struct {
	c      *cluster
	slot   int
	host   string
	peer   string // URL
	client string // URL

	mu       sync.Mutex
	id       uint64   // changes when the member was removed and comes back
	first    []string // flags of the first start with this id
	cmd      *exec.Cmd
	exited   chan struct{} // closed when cmd has ended and that is noted
	wanted   bool
	killed   bool          // the process was ended by us
	full     bool          // its disk is full: it may end by itself
	wasFull  time.Time     // until when it was
	removed  bool          // it has ended because it was removed from the cluster
	held     string        // by which fault
	offset   time.Duration // of its clock
	started  time.Time
	restarts int
}

func (m *member) name() string    { return fmt.Sprintf("%d", m.slot+1) }
func (m *member) dir() string     { return filepath.Join(m.c.dir, "member-"+m.name()) }
func (m *member) dataDir() string { return filepath.Join(m.dir(), "data") }
func (m *member) logFile() string { return filepath.Join(m.c.dir, "member-"+m.name()+".log") }

// hold takes the member for a fault, if no other has it.
func (m *member) hold(fault string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.held != "" || m.cmd == nil {
		return false
	}
	m.held = fault
	return true
}

func (m *member) release() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.held = ""
}

// running returns the id of the process; 0: there is none.
func (m *member) running() (pid int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.cmd == nil {
		return 0
	}
	return m.cmd.Process.Pid
}

// identity returns the member's id in the cluster.
func (m *member) identity() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.id
}

// start starts the process, if none runs.
func (m *member) start() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.cmd != nil {
		return nil
	}
	log, err := os.OpenFile(m.logFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close() // the process has its own
	from, err := log.Seek(0, 2)
	if err != nil {
		return err
	}
	args := []string{"serve", "-id", fmt.Sprint(m.id), "-data-dir", m.dataDir(), "-peer-url", m.peer, "-client-url", m.client}
	life := m.draw()
	cmd := exec.Command(m.c.kv, slices.Concat(args, life.flags, m.c.certs.flags(m.slot), m.c.network.flags(m.slot), m.c.flags, m.first)...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = append(os.Environ(), life.env...)
	cmd.SysProcAttr = procAttr()
	fmt.Fprintf(log, "--- %v: start as member %d, %v\n", time.Now().Format(time.StampMilli), m.id, life)
	m.c.network.do(m.slot, func() { err = cmd.Start() })
	if err != nil {
		return err
	}
	m.cmd, m.exited, m.killed, m.started = cmd, make(chan struct{}), false, time.Now()
	m.restarts++
	if m.offset != 0 {
		_ = m.c.clock.Set(cmd.Process.Pid, m.offset) // it may have ended already
	}
	go m.wait(cmd, m.exited, from)
	return nil
}

// asyncFlag has kv run with raft's AsyncStorageWrites, and plainFlag without.
const (
	asyncFlag = "-async-storage-writes=true"
	plainFlag = "-async-storage-writes=false"
)

// lastWords is how long a process may take to end over something that was so.
const lastWords = 5 * time.Second

// life is what a process has from its start to its end.
type life struct{ flags, env []string }

// draw draws the life that comes next.
func (m *member) draw() life {
	r := rand.New(rand.NewPCG(m.c.seed, uint64(m.slot)<<32|uint64(m.restarts)))
	l := life{flags: []string{[]string{asyncFlag, plainFlag}[r.IntN(2)]}}
	entries := []any{50, 300, 1000}
	if m.c.sharded {
		l.flags, entries = nil, []any{5, 30, 100} // each group has a log
	}
	for _, f := range []struct {
		name   string
		values []any
	}{
		{"compact-entries", entries}, // how much log there is, and how often a snapshot is needed
		{"keep-entries", []any{1, 30, 200}},
		{"tls-recheck", []any{tlsRecheck / 4, tlsRecheck / 2, tlsRecheck}}, // a rotation waits for the longest
		{"log-level", []any{"info", "debug"}},
	} {
		l.flags = append(l.flags, fmt.Sprintf("-%s=%v", f.name, f.values[r.IntN(len(f.values))]))
	}
	if r.IntN(4) == 0 {
		l.env = append(l.env, "GOMAXPROCS=1")
	}
	return l
}

// wait notes the end of a process.
func (m *member) wait(cmd *exec.Cmd, exited chan struct{}, from int64) {
	err := cmd.Wait()
	said := m.said(from)
	m.mu.Lock()
	defer m.mu.Unlock()
	defer close(exited)
	m.cmd = nil
	if m.killed {
		return
	}
	m.c.note("member %s (id %d) has ended: %v", m.name(), m.id, errOr(err, "exit code 0"))
	for _, bad := range []string{"panic: ", "fatal error: ", "WARNING: DATA RACE"} {
		if bytes.Contains(said, []byte(bad)) {
			m.c.violated(fmt.Errorf("member %s (id %d): %s: see %s", m.name(), m.id, bad, m.logFile()))
			return
		}
	}
	switch {
	case err == nil && bytes.Contains(said, []byte("was removed from the cluster")):
		m.removed = true
	case m.full, bytes.Contains(said, []byte("kv: --join: ")):
	case time.Since(m.wasFull) < lastWords && bytes.Contains(said, []byte(syscall.ENOSPC.Error())): // it takes a while to end
	case m.c.certs.wroteSince(m.started.Add(-time.Second)) && refusesCertificates(said): // it came while they were written
	default:
		m.c.violated(fmt.Errorf("member %s (id %d) has ended by itself: %w: see %s", m.name(), m.id, errOr(err, "exit code 0"), m.logFile()))
	}
}

// refusesCertificates says whether a process has said that it cannot start with the files of its certificates.
func refusesCertificates(said []byte) bool {
	return bytes.Contains(said, []byte(": listen for peers on https:")) || bytes.Contains(said, []byte("Transport.TLSInfo is "))
}

func errOr(err error, other string) error {
	if err == nil {
		return errors.New(other)
	}
	return err
}

// count returns how often the member's log has a message.
func (m *member) count(message string) int { return bytes.Count(m.said(0), []byte(message)) }

// said returns what the process wrote to the log from a position on.
func (m *member) said(from int64) []byte {
	text, err := os.ReadFile(m.logFile())
	if err != nil || int64(len(text)) < from {
		return nil
	}
	return text[from:]
}

// kill ends the process as a crash would, and returns when it has ended.
func (m *member) kill() {
	m.mu.Lock()
	cmd, exited := m.cmd, m.exited
	if cmd != nil {
		m.killed = true
		_ = cmd.Process.Signal(syscall.SIGKILL)
	}
	m.mu.Unlock()
	if cmd != nil {
		<-exited
	}
}

// retire ends the process, for good.
func (m *member) retire() {
	m.mu.Lock()
	m.wanted = false
	m.mu.Unlock()
	m.kill()
}

// signal sends a signal to the process, if there is one.
func (m *member) signal(s syscall.Signal) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.cmd != nil {
		_ = m.cmd.Process.Signal(s)
	}
}

// setClock makes the member's clock wrong, also that of processes to come, or right again.
func (m *member) setClock(offset time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.offset = offset
	if m.cmd != nil {
		_ = m.c.clock.Set(m.cmd.Process.Pid, offset) // it may have ended already
	}
}

// setFull says whether the member may end by itself because its disk is full.
func (m *member) setFull(full bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.full && !full {
		m.wasFull = time.Now()
	}
	m.full = full
}

// setRemoved says that the member's id was removed from the cluster for certain.
func (m *member) setRemoved() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.removed = true
}

// rejoin makes the member a new one: without data, with an id that nobody had, to join through another member. The old id
// must have been removed from the cluster, and the member must not run.
func (m *member) rejoin(through *member) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	entries, err := os.ReadDir(m.dataDir())
	if err != nil {
		return err
	}
	for _, e := range entries {
		err = errors.Join(err, os.RemoveAll(filepath.Join(m.dataDir(), e.Name())))
	}
	m.id = m.c.nextID()
	m.removed = false
	m.first = []string{"-join", through.client}
	return err
}
