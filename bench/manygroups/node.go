package manygroups

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"runtime"
	"runtime/pprof"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
)

// nodeConfig is what a node reads from its input first. Its listener is the file 3.
type nodeConfig struct {
	ID      int // from 1 on
	Way     Way
	URLs    []string      // of all nodes
	Groups  int           // of each of which each node has a member
	Measure time.Duration // after all are active, and have settled
	Parts   int           // of an interval, in which groups have their heartbeats
	Heap    int           // bytes that the node holds besides what is measured, as a server does
	Times   bool          // of heartbeats and their answers are taken
	Flood   bool          // the first group floods appends
	Profile string        // file for a CPU profile; empty: none
}

// usage is what a node prints in the end.
type usage struct {
	CPU                               time.Duration
	Took                              time.Duration
	Sent                              uint64 // bytes
	Beats                             uint64 // heartbeats and answers that were sent
	Processed                         uint64 // that were received
	Goroutines, Descriptors           int
	Heap                              uint64
	EmptyGoroutines, EmptyDescriptors int // of the node before it had groups
	EmptyHeap                         uint64
	P50, P99                          time.Duration // from a heartbeat to its answer, except of the first group
}

// loss is what a node prints after another one was lost.
type loss struct {
	Told int           // groups
	Took time.Duration // from the first report to the last group's first one
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
	n, other := newNode(cfg), make([]byte, cfg.Heap)
	defer runtime.KeepAlive(other)
	var u usage
	u.EmptyGoroutines, u.EmptyDescriptors, u.EmptyHeap = held()
	if n.carrier, err = newCarrier(n, ln); err != nil {
		return err
	}
	defer n.carrier.stop()
	if err := n.waitUp(2 * time.Minute); err != nil {
		return err
	}
	if _, err := fmt.Fprintln(out, "active"); err != nil {
		return err
	}
	if _, err := lines.ReadString('\n'); err != nil { // all nodes are
		return err
	}
	if err := n.measure(&u); err != nil {
		return err
	}
	u.Goroutines, u.Descriptors, u.Heap = held()
	if err := json.NewEncoder(out).Encode(u); err != nil {
		return err
	}
	if _, err = lines.ReadString('\n'); errors.Is(err, io.EOF) { // all have measured
		return nil
	}
	if err != nil {
		return err
	}
	if err := json.NewEncoder(out).Encode(n.awaitLoss()); err != nil {
		return err
	}
	_, _ = lines.ReadString('\n') // until the others have done so
	return nil
}

// awaitLoss waits until groups were told that a node was lost, and no more are.
func (n *node) awaitLoss() loss {
	for range 3 { // which is longer than a node that ends is not noticed
		time.Sleep(time.Second)
	}
	var told []int64
	for i := range n.rafts {
		if at := n.rafts[i].told.Load(); at != 0 {
			told = append(told, at)
		}
	}
	if len(told) == 0 {
		return loss{}
	}
	return loss{len(told), time.Duration(slices.Max(told) - slices.Min(told))}
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
	cfg       nodeConfig
	rafts     []fakeRaft // of a group each
	carrier   carrier
	beats     atomic.Uint64 // that were sent, answers too
	processed atomic.Uint64
	born      time.Time

	mu    sync.Mutex
	trips []time.Duration // from a heartbeat to its answer
}

func newNode(cfg nodeConfig) *node {
	n := &node{cfg: cfg, rafts: make([]fakeRaft, cfg.Groups), born: time.Now()}
	for i := range n.rafts {
		n.rafts[i].node, n.rafts[i].group = n, i
	}
	return n
}

func (n *node) waitUp(limit time.Duration) error {
	for end := time.Now().Add(limit); !n.carrier.up(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			return fmt.Errorf("node %d: not all groups are active after %v", n.cfg.ID, limit)
		}
	}
	return nil
}

// measure sends heartbeats for a while.
func (n *node) measure(u *usage) error {
	stop := make(chan struct{})
	var ended sync.WaitGroup
	ended.Go(func() { n.beat(stop) })
	if n.cfg.Flood && n.cfg.ID == 1 {
		ended.Go(func() { n.flood(stop) })
	}
	defer func() {
		close(stop)
		ended.Wait()
	}()
	time.Sleep(min(3*time.Second, 2*n.cfg.Measure)) // until buffers have their size
	if n.cfg.Profile != "" {
		f, err := os.Create(n.cfg.Profile)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	n.takeTrips()
	sent, beats, processed, cpu, start := sentBytes(), n.beats.Load(), n.processed.Load(), cpuTime(), time.Now()
	time.Sleep(n.cfg.Measure)
	u.CPU, u.Took, u.Beats, u.Processed = cpuTime()-cpu, time.Since(start), n.beats.Load()-beats, n.processed.Load()-processed
	u.Sent = sentBytes() - sent
	if trips := n.takeTrips(); len(trips) > 0 {
		u.P50, u.P99 = trips[len(trips)/2], trips[len(trips)*99/100]
	}
	return nil
}

const perSecond = 10 // heartbeats of a group

// beat sends the heartbeats of the groups that this node leads, ten times a second, until stop is closed: at once, as one ticker
// for all groups makes them, or spread over the interval, as timers of rafts are that were started one after another.
func (n *node) beat(stop <-chan struct{}) {
	parts := max(1, n.cfg.Parts)
	ticks := time.NewTicker(time.Second / perSecond / time.Duration(parts))
	defer ticks.Stop()
	for part := 0; ; part = (part + 1) % parts {
		select {
		case <-stop:
			return
		case <-ticks.C:
		}
		for g := part; g < len(n.rafts); g += parts {
			if leader := g%len(n.cfg.URLs) + 1; leader == n.cfg.ID {
				n.rafts[g].lead()
			} else if n.cfg.Way == Calls {
				n.rafts[g].follow(leader)
			}
		}
	}
}

func message(typ raftpb.MessageType, from int, to uint64) *raftpb.Message {
	m := &raftpb.Message{Type: typ.Enum(), From: new(uint64(from)), To: new(to), Term: new(uint64(5))}
	if typ == raftpb.MsgHeartbeat {
		m.Commit = new(uint64(100000))
	}
	return m
}

// fakeRaft is the raft of one group: it answers heartbeats.
type fakeRaft struct {
	node  *node
	group int
	sent  atomic.Int64 // when the last heartbeat was, in ns since node.born
	told  atomic.Int64 // when it was told first that another one is unreachable; 0: never
}

// now is the time since the node was made, in ns.
func (n *node) now() int64 { return int64(time.Since(n.born)) }

// lead sends a heartbeat to each follower. If nothing is carried it gets the answers.
func (r *fakeRaft) lead() {
	n := r.node
	ms := make([]*raftpb.Message, 0, nodes-1)
	for to := range n.cfg.URLs {
		if to+1 != n.cfg.ID {
			ms = append(ms, message(raftpb.MsgHeartbeat, n.cfg.ID, uint64(to+1)))
		}
	}
	r.sent.Store(n.now())
	n.carrier.send(r.group, ms)
	n.beats.Add(uint64(len(ms)))
	if n.cfg.Way == Calls {
		for range ms {
			_ = r.Process(context.Background(), anAnswer)
		}
	}
}

// follow gets the heartbeat of a leader, where nothing is carried.
func (r *fakeRaft) follow(leader int) {
	_ = r.Process(context.Background(), heartbeats[leader-1])
}

var (
	anAnswer   = message(raftpb.MsgHeartbeatResp, 2, 1)
	heartbeats = [nodes]*raftpb.Message{message(raftpb.MsgHeartbeat, 1, 0), message(raftpb.MsgHeartbeat, 2, 0), message(raftpb.MsgHeartbeat, 3, 0)}
)

// Process implements rafthttp.Raft.
func (r *fakeRaft) Process(_ context.Context, m *raftpb.Message) error {
	n := r.node
	switch m.GetType() {
	case raftpb.MsgApp:
		return nil
	case raftpb.MsgHeartbeatResp:
		if n.cfg.Times && r.group > 0 {
			n.trip(time.Duration(n.now() - r.sent.Load()))
		}
	}
	n.processed.Add(1)
	if m.GetType() == raftpb.MsgHeartbeat {
		n.carrier.send(r.group, []*raftpb.Message{message(raftpb.MsgHeartbeatResp, n.cfg.ID, m.GetFrom())})
		n.beats.Add(1)
	}
	return nil
}

// IsIDRemoved implements rafthttp.Raft.
func (r *fakeRaft) IsIDRemoved(uint64) bool { return false }

// ReportUnreachable implements rafthttp.Raft.
func (r *fakeRaft) ReportUnreachable(uint64) { r.told.CompareAndSwap(0, r.node.now()) }

// ReportSnapshot implements rafthttp.Raft.
func (r *fakeRaft) ReportSnapshot(uint64, raft.SnapshotStatus) {}

func (n *node) trip(took time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.trips = append(n.trips, took)
}

// takeTrips returns the times since the last call, sorted.
func (n *node) takeTrips() []time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	all := n.trips
	n.trips = nil
	slices.Sort(all)
	return all
}

// flood sends appends of the first group to the other nodes until stop is closed: 64 MB a second to each.
func (n *node) flood(stop <-chan struct{}) {
	ticks := time.NewTicker(time.Millisecond)
	defer ticks.Stop()
	data := make([]byte, 4<<10)
	for index := uint64(0); ; {
		select {
		case <-stop:
			return
		case <-ticks.C:
		}
		for range 16 {
			for to := uint64(2); to <= nodes; to++ {
				m := message(raftpb.MsgApp, n.cfg.ID, to)
				m.LogTerm, m.Index, m.Commit = m.Term, new(index), new(index)
				m.Entries = []*raftpb.Entry{{Term: m.Term, Index: new(index + 1), Data: data}}
				n.carrier.send(0, []*raftpb.Message{m})
			}
			index++
		}
	}
}

// urlOf returns the peer URL of a listener.
func urlOf(ln net.Listener) string {
	return (&url.URL{Scheme: "http", Host: ln.Addr().String()}).String()
}
