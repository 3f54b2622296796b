package delivery_test

import (
	"bufio"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
)

// The members of TestBadLinksInNamespaces are processes of this test binary, each
// in a network namespace of its own: one cable between two machines.

const memberVariable = "RAFTHTTP_TEST_MEMBER" // the id of the member that the process is to be

func cableAddress(id uint64) string { return "10.213.77." + strconv.FormatUint(id, 10) }

func cableURL(id uint64) string { return "http://" + cableAddress(id) + ":2380" }

// TestMemberProcess is one member: it sends to the other all the time, and prints
// whether all is well and how many connections it had, whenever that changes.
func TestMemberProcess(t *testing.T) {
	id, err := strconv.ParseUint(os.Getenv(memberVariable), 10, 64)
	if err != nil {
		t.Skip("only for TestBadLinksInNamespaces")
	}
	u, err := url.Parse(cableURL(id))
	require.NoError(t, err)
	ln, err := rafthttp.NewListener(*u, nil)
	require.NoError(t, err)
	m := testmember.StartAt(t, ln, u.String(), types.ID(id), socketTimeouts)
	m.Recorder.OnProcess = discard
	other := &testmember.Member{Transport: &rafthttp.Transport{ID: types.ID(3 - id)}}
	m.AddPeer(other.ID, []string{cableURL(3 - id)})
	last, tick := "", time.NewTicker(2*time.Millisecond)
	for i := uint64(1); ; i++ {
		<-tick.C
		if i%10 == 0 {
			m.Send(trafficTo(other.ID, m.ID, i))
		}
		is, connects := streams(m, other)
		if line := fmt.Sprintln("state", is, connects); line != last {
			fmt.Print(line)
			last = line
		}
	}
}

// process is a member that runs, and what it said last.
type process struct {
	cmd *exec.Cmd

	mu       sync.Mutex
	whole    bool
	connects uint64
}

func (p *process) state() (whole bool, connects uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.whole, p.connects
}

func (p *process) disturbed(before uint64) bool {
	whole, connects := p.state()
	return !whole || connects > before
}

// cable is two namespaces with a cable between them.
type cable struct{ t *testing.T }

func (c cable) namespace(id uint64) string { return fmt.Sprintf("rafthttp-%d-%d", os.Getpid(), id) }

func (c cable) ip(args ...string) error {
	out, err := exec.Command("ip", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}

// lay makes the namespaces, or skips the test where that cannot be done.
func lay(t *testing.T) cable {
	t.Helper()
	c := cable{t}
	if _, err := exec.LookPath("ip"); err != nil || os.Geteuid() != 0 {
		t.Skip("needs root, and ip of iproute2")
	}
	t.Cleanup(func() {
		for id := range uint64(2) {
			_ = c.ip("netns", "del", c.namespace(id+1))
		}
	})
	for _, args := range [][]string{
		{"netns", "add", c.namespace(1)},
		{"netns", "add", c.namespace(2)},
		{"link", "add", "cable1", "netns", c.namespace(1), "type", "veth", "peer", "name", "cable2", "netns", c.namespace(2)},
		{"-n", c.namespace(1), "addr", "add", cableAddress(1) + "/24", "dev", "cable1"},
		{"-n", c.namespace(2), "addr", "add", cableAddress(2) + "/24", "dev", "cable2"},
		{"-n", c.namespace(1), "link", "set", "cable1", "up"},
		{"-n", c.namespace(2), "link", "set", "cable2", "up"},
	} {
		if err := c.ip(args...); err != nil {
			t.Skip("network namespaces cannot be made:", err)
		}
	}
	return c
}

// cut has what a member sends go to a machine that is not there; mend undoes it.
func (c cable) cut(from uint64) {
	c.t.Helper()
	require.NoError(c.t, c.ip("-n", c.namespace(from), "neigh", "replace", cableAddress(3-from),
		"lladdr", "02:00:00:00:00:99", "dev", fmt.Sprint("cable", from), "nud", "permanent"))
}

func (c cable) mend(from uint64) {
	c.t.Helper()
	require.NoError(c.t, c.ip("-n", c.namespace(from), "neigh", "del", cableAddress(3-from), "dev", fmt.Sprint("cable", from)))
}

// run runs a member on its end of the cable.
func (c cable) run(id uint64) *process {
	c.t.Helper()
	p := &process{cmd: exec.Command("ip", "netns", "exec", c.namespace(id), os.Args[0],
		"-test.run", "^TestMemberProcess$", "-test.timeout", "10m", "-socketreadtimeout", socketReadTimeout.String())}
	p.cmd.Env = append(os.Environ(), memberVariable+"="+strconv.FormatUint(id, 10))
	out, err := p.cmd.StdoutPipe()
	require.NoError(c.t, err)
	require.NoError(c.t, p.cmd.Start())
	read := make(chan struct{})
	go func() {
		defer close(read)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			p.mu.Lock()
			_, _ = fmt.Sscanf(lines.Text(), "state %t %d", &p.whole, &p.connects)
			p.mu.Unlock()
		}
	}()
	c.t.Cleanup(func() {
		_ = p.cmd.Process.Kill() // ip has become the member: there is nobody in between
		<-read
		_ = p.cmd.Wait()
	})
	return p
}

// TestBadLinksInNamespaces cuts the cable between two machines. What is measured
// is logged, not required.
func TestBadLinksInNamespaces(t *testing.T) {
	for _, bad := range []struct {
		name string
		cuts []uint64
		lost bool // 2 loses power meanwhile
		long time.Duration
	}{
		{"one-way cut", []uint64{1}, false, 0},
		{"one-way cut, the other way", []uint64{2}, false, 0},
		{"one-way cut, for long", []uint64{1}, false, 3700 * time.Millisecond},
		{"black hole", []uint64{1, 2}, false, 0},
		{"black hole, for long", []uint64{1, 2}, false, 3700 * time.Millisecond},
		{"loss of power", []uint64{1, 2}, true, 0},
	} {
		t.Run(bad.name, func(t *testing.T) {
			c := lay(t)
			a, b := c.run(1), c.run(2)
			whole := func() bool {
				one, _ := a.state()
				two, _ := b.state()
				return one && two
			}
			await(t, time.Now(), whole)
			_, beforeA := a.state()
			_, beforeB := b.state()
			start := time.Now()
			for _, from := range bad.cuts {
				c.cut(from)
			}
			if bad.lost {
				require.NoError(t, b.cmd.Process.Kill())
			}
			noticedA := await(t, start, func() bool { return a.disturbed(beforeA) })
			noticedB := noticedA
			if bad.lost {
				b = c.run(2)
			} else {
				noticedB = await(t, start, func() bool { return b.disturbed(beforeB) })
			}
			timer := time.NewTimer(bad.long)
			defer timer.Stop()
			<-timer.C
			start = time.Now()
			for _, from := range bad.cuts {
				c.mend(from)
			}
			took := await(t, start, whole)
			t.Logf("%s: noticed after %v by 1 and %v by 2, whole again %v after its end",
				bad.name, noticedA.Round(time.Millisecond), noticedB.Round(time.Millisecond), took.Round(time.Millisecond))
		})
	}
}
