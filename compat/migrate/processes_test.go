package migrate_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp/compat/member"
	"github.com/seed-4d73690b/rafthttp/compat/v36/drive"
)

// build builds the program in a folder that is a module of its own.
func build(t *testing.T, folder string, flags ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), folder)
	out, err := goIn(t, folder, append([]string{"build", "-o", path}, append(flags, ".")...)...)
	require.NoError(t, err, out)
	return path
}

// goIn runs the go command in a folder.
func goIn(t *testing.T, folder string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Dir = folder
	cmd.Env = append(os.Environ(), "GOFLAGS=", "GOWORK=off")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// to36 is what changes between a program on raft 3.5 and the same on raft 3.6.
var to36 = strings.NewReplacer(
	"go.etcd.io/etcd/raft/v3", "go.etcd.io/raft/v3",
	"go.etcd.io/etcd/server/v3/wal", "go.etcd.io/etcd/server/v3/storage/wal",
	"n.store.fetch(ctx, m.Snapshot)", "n.store.fetch(ctx, *m.Snapshot)",
	"messages[i].Snapshot.Metadata.ConfState = n.confState",
	"if messages[i].Snapshot != nil { messages[i].Snapshot.Metadata.ConfState = n.confState }",
)

// build36 builds the program of raft35 on raft 3.6.
func build36(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	overlay := struct{ Replace map[string]string }{map[string]string{}}
	for _, name := range []string{"main.go", "node.go", "state.go"} {
		path, err := filepath.Abs(filepath.Join("raft35", name))
		require.NoError(t, err)
		source, err := os.ReadFile(path)
		require.NoError(t, err)
		overlay.Replace[path] = filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(overlay.Replace[path], []byte(to36.Replace(string(source))), 0o600))
	}
	text, err := json.Marshal(overlay)
	require.NoError(t, err)
	path := filepath.Join(dir, "overlay.json")
	require.NoError(t, os.WriteFile(path, text, 0o600))
	return build(t, "raft35", "-modfile=raft36.mod", "-overlay="+path)
}

// processes is a cluster of processes, each of which runs one of the programs.
type processes struct {
	t     *testing.T
	tls   *drive.TLS
	dir   string
	urls  map[int]string
	alive map[int]*process

	mu       sync.Mutex
	list     map[int]string // the lines of the list, by number, which all have to agree on
	numbers  map[string]int
	conflict error
	changed  chan struct{} // closed, and replaced, at each change
}

type process struct {
	cmd     *exec.Cmd
	in      io.WriteCloser
	stderr  bytes.Buffer
	ended   chan struct{} // once its output has ended
	have    int           // how many lines
	renewed int           // how often it began anew, from a snapshot
	leader  string
	members string // that it has added
}

func newProcesses(t *testing.T) *processes {
	t.Helper()
	dir := t.TempDir()
	files, err := member.NewCertificate(dir)
	require.NoError(t, err)
	c := &processes{
		t: t, tls: files, dir: dir, urls: map[int]string{}, alive: map[int]*process{},
		list: map[int]string{}, numbers: map[string]int{}, changed: make(chan struct{}),
	}
	for id := 1; id <= 4; id++ {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		c.urls[id] = "https://" + ln.Addr().String()
		require.NoError(t, ln.Close())
	}
	t.Cleanup(func() {
		for id, p := range c.alive {
			c.kill(id)
			if t.Failed() {
				t.Logf("member %d:\n%s", id, p.stderr.String())
			}
		}
	})
	return c
}

// start starts member id on the data that its predecessor has left.
func (c *processes) start(id int, program string, flags ...string) {
	c.t.Helper()
	for other := 1; other <= 3; other++ {
		flags = append(flags, "-member", fmt.Sprintf("%d=%s", other, c.urls[other]))
	}
	cmd := exec.Command(program, append(flags, "-id", strconv.Itoa(id), "-dir", filepath.Join(c.dir, strconv.Itoa(id)),
		"-ca", c.tls.CA, "-cert", c.tls.Cert, "-key", c.tls.Key)...)
	p := &process{cmd: cmd, ended: make(chan struct{})}
	cmd.Stderr = &p.stderr
	out, err := cmd.StdoutPipe()
	require.NoError(c.t, err)
	p.in, err = cmd.StdinPipe()
	require.NoError(c.t, err)
	require.NoError(c.t, cmd.Start())
	c.alive[id] = p
	go func() {
		defer close(p.ended)
		for s := bufio.NewScanner(out); s.Scan(); {
			c.note(id, p, s.Text())
		}
	}()
}

// note notes a line of output of a member.
func (c *processes) note(id int, p *process, line string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	word, rest, _ := strings.Cut(line, " ")
	switch word {
	case "leader":
		p.leader = rest
	case "member":
		p.members += rest
	default:
		n, err := strconv.Atoi(word)
		if known, ok := c.list[n]; err != nil || ok && known != rest {
			c.conflict = fmt.Errorf("member %d says %q, another %q", id, line, known)
		}
		c.list[n], p.have = rest, n
		if _, ok := c.numbers[rest]; !ok {
			c.numbers[rest] = n
		}
		if n == 1 {
			p.renewed++
		}
	}
	close(c.changed)
	c.changed = make(chan struct{})
}

// kill ends a member as a crash does.
func (c *processes) kill(id int) {
	p := c.alive[id]
	delete(c.alive, id)
	_ = p.cmd.Process.Kill()
	<-p.ended
	_ = p.cmd.Wait()
}

// say gives a member a line to read.
func (c *processes) say(id int, line string) {
	c.t.Helper()
	_, err := io.WriteString(c.alive[id].in, line+"\n")
	require.NoError(c.t, err, "member %d:\n%s", id, &c.alive[id].stderr)
}

// await waits until done. Now and then it tries again.
func (c *processes) await(done func() bool, again func()) {
	c.t.Helper()
	again()
	retry := time.NewTicker(3 * time.Second)
	defer retry.Stop()
	for {
		c.mu.Lock()
		ok, changed, conflict := done(), c.changed, c.conflict
		c.mu.Unlock()
		require.NoError(c.t, conflict)
		if ok {
			return
		}
		select {
		case <-changed:
		case <-retry.C:
			again()
		case <-c.t.Context().Done():
			c.t.FailNow()
		}
		for id, p := range c.alive {
			select {
			case <-p.ended:
				require.Fail(c.t, "a member ended", "%d:\n%s", id, &p.stderr)
			default:
			}
		}
	}
}

// write proposes lines at a member, and waits until all have them.
func (c *processes) write(via, count int, what string) {
	c.t.Helper()
	texts := make([]string, count)
	for i := range texts {
		texts[i] = fmt.Sprintf("%s, line %d of %d by member %d", what, i+1, count, via)
	}
	c.await(func() bool {
		for _, text := range texts {
			n, ok := c.numbers[text]
			if !ok {
				return false
			}
			for _, p := range c.alive {
				if p.have < n {
					return false
				}
			}
		}
		return true
	}, func() { c.proposeMissing(via, texts) })
}

func (c *processes) proposeMissing(via int, texts []string) {
	c.t.Helper()
	for _, text := range texts {
		c.mu.Lock()
		_, ok := c.numbers[text]
		c.mu.Unlock()
		if !ok {
			c.say(via, text)
		}
	}
}

// lead makes a member the leader.
func (c *processes) lead(id int) {
	c.t.Helper()
	c.await(func() bool {
		for _, p := range c.alive {
			if p.leader != strconv.Itoa(id) {
				return false
			}
		}
		return true
	}, func() { c.say(id, "/campaign") })
}
