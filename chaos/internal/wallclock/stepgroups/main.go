// Command stepgroups is two nodes with raft groups, whose clock a test sets. For each line of input it sends messages in all groups for longer
// than ReadTimeout, and a snapshot, waits for another line in the middle, and prints what became of them.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/snap"
)

const (
	readTimeout = time.Second
	rounds      = 50 // of messages, before the middle and after it
	between     = readTimeout / 40
	groups      = 3
	blocked     = groups // its Process blocks for proposals
	snapshot    = 1 << 20
)

// Result is what one line of output says, of both nodes together.
type Result struct {
	Sent, Processed  int64 // messages
	Unreachable      int64 // reports
	Connects         uint64
	Finished, Failed int64 // snapshots
	Blocked          time.Duration
	Oldest           time.Duration // of messages that wait
}

type counts struct{ processed, unreachable, finished, failed atomic.Int64 }

type member struct {
	*counts
	open chan struct{}
}

func (m member) Process(ctx context.Context, msg *raftpb.Message) error {
	if msg.GetType() == raftpb.MsgProp {
		select {
		case <-m.open:
		case <-ctx.Done():
		}
		return ctx.Err()
	}
	m.processed.Add(1)
	return nil
}

func (member) IsIDRemoved(uint64) bool { return false }

func (m member) ReportUnreachable(uint64) { m.unreachable.Add(1) }

func (m member) ReportSnapshot(_ uint64, status raft.SnapshotStatus) {
	if status == raft.SnapshotFinish {
		m.finished.Add(1)
	} else {
		m.failed.Add(1)
	}
}

// discards is the Snapshotter of all groups.
type discards struct{}

func (discards) SaveDBFrom(r io.Reader, _ uint64) (int64, error) { return io.Copy(io.Discard, r) }

// slow is a reader that takes as long as the messages.
type slow struct{ io.Reader }

func (s slow) Read(p []byte) (int, error) {
	time.Sleep(between)
	return s.Reader.Read(p[:min(len(p), snapshot/(2*rounds))])
}

type zeroes struct{}

func (zeroes) Read(p []byte) (int, error) { return len(p), nil }

// nodes are both, with what they count.
type nodes struct {
	counts
	open       chan struct{}
	transports [2]*rafthttp.Transport
	groups     [2][]*rafthttp.Group
}

func main() {
	n := start()
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		result := n.run(func() {
			fmt.Println("middle")
			in.Scan()
		})
		if err := json.NewEncoder(os.Stdout).Encode(result); err != nil {
			log.Fatal(err)
		}
	}
	close(n.open)
	for _, t := range n.transports {
		t.Stop()
	}
}

func start() *nodes {
	n := &nodes{open: make(chan struct{})}
	var urls [2][]string
	for i := range n.transports {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			log.Fatal(err)
		}
		urls[i] = []string{"http://" + ln.Addr().String()}
		t := &rafthttp.Transport{
			ID: types.ID(i + 1), ClusterID: 7, URLs: types.MustNewURLs(urls[i]), Raft: rafthttp.NoRaft{}, ReadTimeout: readTimeout, WriteTimeout: time.Hour,
		}
		if err := t.Start(); err != nil {
			log.Fatal(err)
		}
		n.transports[i] = t
		go func() { _ = http.Serve(ln, t.Handler()) }()
		for id := range uint64(groups) {
			g, err := t.Group(id+1, rafthttp.GroupConfig{Raft: member{&n.counts, n.open}, Snapshotter: discards{}})
			if err != nil {
				log.Fatal(err)
			}
			n.groups[i] = append(n.groups[i], g)
		}
	}
	for i := range n.groups {
		for _, g := range n.groups[i] {
			g.AddPeer(types.ID(2-i), urls[1-i])
		}
	}
	for !n.up() {
		time.Sleep(between)
	}
	n.groups[0][blocked-1].Send([]*raftpb.Message{n.message(0, raftpb.MsgProp), n.message(0, raftpb.MsgProp)})
	return n
}

// up reports whether all streams are up.
func (n *nodes) up() bool {
	up := 0
	for _, t := range n.transports {
		for _, node := range t.Status().Groups.Nodes {
			for _, s := range node.Streams {
				if s.Up {
					up++
				}
			}
		}
	}
	return up == 8
}

func (n *nodes) message(from int, typ raftpb.MessageType) *raftpb.Message {
	return &raftpb.Message{Type: typ.Enum(), From: new(uint64(from) + 1), To: new(uint64(2 - from)), Term: new(uint64(1)), Index: new(uint64(1))}
}

// run sends messages and a snapshot, and returns what became of them.
func (n *nodes) run(middle func()) (r Result) {
	before := [4]int64{n.processed.Load(), n.unreachable.Load(), n.finished.Load(), n.failed.Load()}
	m := n.message(0, raftpb.MsgSnap)
	m.Snapshot = &raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{Index: new(uint64(5)), Term: new(uint64(1))}}
	sent := snap.NewMessage(m, io.NopCloser(slow{io.LimitReader(zeroes{}, snapshot)}), snapshot)
	n.groups[0][0].SendSnapshot(sent)
	for i := range 2 * rounds {
		if i == rounds {
			middle()
		}
		for from := range n.groups {
			for _, g := range n.groups[from] {
				g.Send([]*raftpb.Message{n.message(from, raftpb.MsgHeartbeat), n.message(from, raftpb.MsgApp)})
				r.Sent += 2
			}
		}
		time.Sleep(between)
	}
	<-sent.CloseNotify()
	r.Sent++
	for range 10 * rounds { // until all is there, or lost
		if n.processed.Load()-before[0] >= r.Sent && n.finished.Load()+n.failed.Load() > before[2]+before[3] {
			break
		}
		time.Sleep(between)
	}
	r.Processed, r.Unreachable = n.processed.Load()-before[0], n.unreachable.Load()-before[1]
	r.Finished, r.Failed = n.finished.Load()-before[2], n.failed.Load()-before[3]
	for _, t := range n.transports {
		st := t.Status().Groups
		for _, p := range st.Processing {
			r.Blocked = max(r.Blocked, p.BlockedFor)
		}
		for _, node := range st.Nodes {
			for _, s := range node.Streams {
				r.Connects = max(r.Connects, s.Connects)
			}
			for _, l := range node.Lanes {
				r.Oldest = max(r.Oldest, l.OldestAge)
			}
		}
	}
	return r
}
