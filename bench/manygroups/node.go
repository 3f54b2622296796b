package manygroups

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
)

// nodeConfig is what a node reads from its input first. Its listener is the file 3.
type nodeConfig struct {
	ID      int           // from 1 on
	URLs    []string      // of all nodes
	Groups  int           // of each of which each node has a member
	Measure time.Duration // after all are active, and have settled
}

// usage is what a node prints in the end.
type usage struct {
	CPU                               time.Duration
	Took                              time.Duration
	Sent                              uint64 // bytes
	Beats                             uint64 // heartbeats and answers that were sent
	Goroutines, Descriptors           int
	Heap                              uint64
	EmptyGoroutines, EmptyDescriptors int // of the node before it had groups
	EmptyHeap                         uint64
}

// Node is one process of a measurement.
func Node(in io.Reader, out io.Writer) error {
	lines := bufio.NewReader(in)
	var cfg nodeConfig
	if err := readLine(lines, &cfg); err != nil {
		return err
	}
	ln, err := net.FileListener(os.NewFile(3, "listener"))
	if err != nil {
		return err
	}
	var u usage
	u.EmptyGoroutines, u.EmptyDescriptors, u.EmptyHeap = held()
	n, err := startNode(cfg, ln)
	if err != nil {
		return err
	}
	defer n.stop()
	if err := n.waitActive(2 * time.Minute); err != nil {
		return err
	}
	if _, err := fmt.Fprintln(out, "active"); err != nil {
		return err
	}
	if _, err := lines.ReadString('\n'); err != nil { // all nodes are
		return err
	}
	beating := make(chan struct{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		n.beat(beating)
	}()
	time.Sleep(3 * time.Second) // until buffers have their size
	sent, beats, cpu, start := n.sentBytes(), n.beats.Load(), cpuTime(), time.Now()
	time.Sleep(cfg.Measure)
	u.CPU, u.Took, u.Beats = cpuTime()-cpu, time.Since(start), n.beats.Load()-beats
	u.Sent = n.sentBytes() - sent
	close(beating)
	<-ended
	u.Goroutines, u.Descriptors, u.Heap = held()
	if err := json.NewEncoder(out).Encode(u); err != nil {
		return err
	}
	if _, err = lines.ReadString('\n'); errors.Is(err, io.EOF) { // all have measured
		return nil
	}
	return err
}

func readLine(r *bufio.Reader, v any) error {
	line, err := r.ReadBytes('\n')
	if err != nil {
		return err
	}
	return json.Unmarshal(line, v)
}

// node has a member of each group.
type node struct {
	cfg    nodeConfig
	groups []*rafthttp.Transport
	server *http.Server
	beats  atomic.Uint64
}

func startNode(cfg nodeConfig, ln net.Listener) (*node, error) {
	n := &node{cfg: cfg}
	mux := new(rafthttp.Mux)
	n.server = rafthttp.NewServer(mux)
	go func() { _ = n.server.Serve(ln) }()
	for g := range cfg.Groups {
		t := &rafthttp.Transport{ID: types.ID(cfg.ID), ClusterID: types.ID(1000 + g), Raft: &group{node: n}, MaxQueuedBytes: 64 << 20}
		t.Raft.(*group).t = t
		if err := t.Start(); err != nil {
			return nil, err
		}
		if err := mux.Add(t); err != nil {
			return nil, err
		}
		for i, u := range cfg.URLs {
			t.AddPeer(types.ID(i+1), []string{u})
		}
		n.groups = append(n.groups, t)
	}
	return n, nil
}

func (n *node) stop() {
	for _, t := range n.groups {
		t.Stop()
	}
	n.server.Close()
}

// waitActive waits until all streams of all groups are up.
func (n *node) waitActive(limit time.Duration) error {
	end := time.Now().Add(limit)
	for _, t := range n.groups {
		for !up(t, len(n.cfg.URLs)-1) {
			if time.Now().After(end) {
				return fmt.Errorf("node %d: not all groups are active after %v", n.cfg.ID, limit)
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	return nil
}

func up(t *rafthttp.Transport, peers int) bool {
	streams := 0
	for _, p := range t.Status().Peers {
		for _, s := range p.Streams {
			if s.Up {
				streams++
			}
		}
	}
	return streams == 4*peers
}

// sentBytes is what all groups have sent.
func (n *node) sentBytes() (sum uint64) {
	for _, t := range n.groups {
		for _, p := range t.Status().Peers {
			sum += p.SentBytes
		}
	}
	return sum
}

// beat sends the heartbeats of the groups that this node leads, ten times a second, until stop is closed. They are spread over
// the interval, as timers of rafts are that were started one after another.
func (n *node) beat(stop <-chan struct{}) {
	const perSecond, parts = 10, 10
	ticks := time.NewTicker(time.Second / perSecond / parts)
	defer ticks.Stop()
	for part := 0; ; part = (part + 1) % parts {
		select {
		case <-stop:
			return
		case <-ticks.C:
		}
		for g := part; g < len(n.groups); g += parts {
			if g%len(n.cfg.URLs) != n.cfg.ID-1 {
				continue // led by another node
			}
			var ms []*raftpb.Message
			for to := range n.cfg.URLs {
				if to+1 != n.cfg.ID {
					ms = append(ms, message(raftpb.MsgHeartbeat, n.cfg.ID, uint64(to+1)))
				}
			}
			n.groups[g].Send(ms)
			n.beats.Add(uint64(len(ms)))
		}
	}
}

func message(typ raftpb.MessageType, from int, to uint64) *raftpb.Message {
	return &raftpb.Message{Type: typ.Enum(), From: new(uint64(from)), To: new(to), Term: new(uint64(5)), Commit: new(uint64(100000))}
}

// group is the raft of one group: it answers heartbeats.
type group struct {
	node *node
	t    *rafthttp.Transport
}

// Process implements rafthttp.Raft.
func (g *group) Process(_ context.Context, m *raftpb.Message) error {
	if m.GetType() == raftpb.MsgHeartbeat {
		g.t.Send([]*raftpb.Message{message(raftpb.MsgHeartbeatResp, g.node.cfg.ID, m.GetFrom())})
		g.node.beats.Add(1)
	}
	return nil
}

// IsIDRemoved implements rafthttp.Raft.
func (g *group) IsIDRemoved(uint64) bool { return false }

// ReportUnreachable implements rafthttp.Raft.
func (g *group) ReportUnreachable(uint64) {}

// ReportSnapshot implements rafthttp.Raft.
func (g *group) ReportSnapshot(uint64, raft.SnapshotStatus) {}

// held returns what the process has.
func held() (goroutines, descriptors int, heap uint64) {
	runtime.GC()
	runtime.GC() // what pools hold survives the first
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	if open, err := os.ReadDir("/proc/self/fd"); err == nil {
		descriptors = len(open)
	}
	return runtime.NumGoroutine(), descriptors, m.HeapAlloc
}

func cpuTime() time.Duration {
	var r syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &r)
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// urlOf returns the peer URL of a listener.
func urlOf(ln net.Listener) string {
	return (&url.URL{Scheme: "http", Host: ln.Addr().String()}).String()
}
