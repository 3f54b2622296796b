package scenario

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/bench/raftnode"
	"github.com/seed-4d73690b/rafthttp/bench/system"
	"github.com/seed-4d73690b/rafthttp/memnet/faultproxy"
)

// Members of a group: the first leads, the third is the slow one where one is.
const (
	leaderID   = 1
	followerID = 3
)

var voters = []uint64{leaderID, 2, followerID}

const (
	// groupTimeout bounds what a group does before anything is measured.
	groupTimeout = 30 * time.Second
	// campaignEvery is how often the first member tries to become leader, and poll how often a state is looked at.
	campaignEvery = 300 * time.Millisecond
	poll          = 2 * time.Millisecond
	// lineBuffer is that of the sockets of a line.
	lineBuffer = 512 << 10
)

// line is the network between the third member and the others; zero is loopback.
type line struct {
	bandwidth int // bytes a second, each way
	roundTrip time.Duration
}

// groupMember is a raft node and its transport.
type groupMember struct {
	id       uint64
	node     atomic.Pointer[raftnode.Node] // nil while the member is down
	outgoing atomic.Pointer[system.Member] // its transport
	pace     *pace
	received atomic.Int64 // bytes of data of appends
	drops    int64        // of transports that are closed
}

// Process implements system.Raft.
func (m *groupMember) Process(ctx context.Context, msg *raftpb.Message) error {
	n := m.node.Load()
	if n == nil {
		return errors.New("the member is down")
	}
	if msg.GetType() == raftpb.MsgApp {
		var bytes int64
		for _, e := range msg.Entries {
			bytes += int64(len(e.Data))
		}
		m.received.Add(bytes)
		if err := m.pace.wait(ctx, bytes); err != nil {
			return err
		}
	}
	return n.Process(ctx, msg)
}

// ReportUnreachable implements system.Raft.
func (m *groupMember) ReportUnreachable(id uint64) {
	if n := m.node.Load(); n != nil {
		n.ReportUnreachable(id)
	}
}

func (m *groupMember) send(msgs []*raftpb.Message) {
	if t := m.outgoing.Load(); t != nil {
		(*t).Send(msgs)
	}
}

// dropped counts the messages that the member's transports have dropped.
func (m *groupMember) dropped() int64 {
	if t := m.outgoing.Load(); t != nil {
		return m.drops + (*t).Drops()
	}
	return m.drops
}

// group is a running raft group of three members.
type group struct {
	sys       system.System
	line      line
	members   map[uint64]*groupMember
	addresses map[uint64]string
	proxies   map[[2]uint64]*faultproxy.Proxy // by who dials and who is dialled

	committedMu sync.Mutex
	committed   func(index uint64) // told of what the leader has applied; nil: nobody
}

// startGroup starts three members, of which the first leads.
func startGroup(sys system.System, l line, p *pace) (*group, error) {
	g := &group{sys: sys, line: l, members: map[uint64]*groupMember{}, addresses: map[uint64]string{}, proxies: map[[2]uint64]*faultproxy.Proxy{}}
	for _, id := range voters {
		g.members[id] = &groupMember{id: id}
	}
	g.members[followerID].pace = p
	if err := g.start(); err != nil {
		return nil, errors.Join(err, g.close())
	}
	return g, nil
}

func (g *group) start() error {
	for _, id := range voters {
		if err := g.up(id, nil); err != nil {
			return err
		}
	}
	if err := g.connect(); err != nil {
		return err
	}
	if err := g.elect(); err != nil {
		return err
	}
	return g.await("that all members agree", func() bool { return g.level(followerID) && g.level(2) })
}

// up starts a member, with the log that it had before.
func (g *group) up(id uint64, before *raftnode.Node) error {
	m := g.members[id]
	cfg := raftnode.Config{ID: id, Voters: voters, MaxInflightBytes: g.sys.MaxInflightBytes, Send: m.send}
	if before != nil {
		cfg.Log = before.Log()
	}
	if id == leaderID {
		cfg.Committed = g.tell
	}
	n, err := raftnode.Start(cfg)
	if err != nil {
		return err
	}
	m.node.Store(n)
	t, err := g.sys.StartMember(system.MemberConfig{ID: id, Address: g.addresses[id], Raft: m})
	if err != nil {
		return err
	}
	m.outgoing.Store(&t)
	g.addresses[id] = t.Address()
	return nil
}

// connect makes all members known to each other.
func (g *group) connect() error {
	for _, from := range voters {
		for _, to := range voters {
			if from != to {
				if err := g.introduce(from, to); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// introduce tells one member where it reaches another: through the line, if one of them is behind it.
func (g *group) introduce(from, to uint64) error {
	address := g.addresses[to]
	if g.line != (line{}) && (from == followerID || to == followerID) {
		p, err := g.lineTo(from, to)
		if err != nil {
			return err
		}
		address = p.Addr()
	}
	return (*g.members[from].outgoing.Load()).AddPeer(to, address)
}

func (g *group) lineTo(from, to uint64) (*faultproxy.Proxy, error) {
	if p := g.proxies[[2]uint64{from, to}]; p != nil {
		return p, nil
	}
	oneWay := g.line.roundTrip / 2
	underWay := float64(g.line.bandwidth) * oneWay.Seconds()
	p, err := faultproxy.Listen("127.0.0.1:0", g.addresses[to], faultproxy.WithSocketBuffers(lineBuffer), faultproxy.WithInFlight(int(1.5*underWay)))
	if err != nil {
		return nil, err
	}
	for _, d := range []*faultproxy.Direction{p.ToTarget(), p.ToClient()} {
		d.SetDelay(oneWay)
		d.SetBandwidth(g.line.bandwidth)
	}
	g.proxies[[2]uint64{from, to}] = p
	return p, nil
}

// elect has the first member lead.
func (g *group) elect() error {
	ctx, cancel := context.WithTimeout(context.Background(), groupTimeout)
	defer cancel()
	for leader := g.leader(); !leader.Leads(); {
		if err := leader.Campaign(ctx); err != nil {
			return fmt.Errorf("elect a leader: %w", err)
		}
		for began := time.Now(); time.Since(began) < campaignEvery && !leader.Leads(); {
			time.Sleep(poll)
		}
	}
	return nil
}

func (g *group) leader() *raftnode.Node   { return g.members[leaderID].node.Load() }
func (g *group) follower() *raftnode.Node { return g.members[followerID].node.Load() }

// level reports whether a member has all that the leader has, and the leader knows it.
func (g *group) level(id uint64) bool { return g.leader().Match(id) == g.leader().Last() }

// await waits for a state of the group.
func (g *group) await(what string, is func() bool) error {
	for deadline := time.Now().Add(groupTimeout); !is(); time.Sleep(poll) {
		if time.Now().After(deadline) {
			return fmt.Errorf("%s has not come to be within %v", what, groupTimeout)
		}
		if err := g.err(); err != nil {
			return err
		}
	}
	return nil
}

// err says why the group is of no use, if it is not: a node has failed, or another one leads.
func (g *group) err() error {
	for _, id := range voters {
		if n := g.members[id].node.Load(); n != nil && n.Err() != nil {
			return n.Err()
		}
	}
	if leader := g.leader(); leader.Leaders() > 1 {
		return errors.New("the leader has changed")
	}
	return nil
}

// rejoin starts the third member again, where it was before.
func (g *group) rejoin(before *raftnode.Node) error {
	if err := g.up(followerID, before); err != nil {
		return err
	}
	for _, to := range voters {
		if to == followerID {
			continue
		}
		if err := g.introduce(followerID, to); err != nil {
			return err
		}
	}
	return nil
}

// down ends a member as its death would, and returns its node, for up.
func (g *group) down(id uint64) (*raftnode.Node, error) {
	m := g.members[id]
	n := m.node.Swap(nil)
	if t := m.outgoing.Load(); t != nil {
		(*t).Close()
		m.drops += (*t).Drops()
		m.outgoing.Store(nil)
	}
	if n == nil {
		return nil, nil
	}
	return n, n.Stop()
}

// dropped counts what all transports have dropped. etcd's counts for the whole process.
func (g *group) dropped() int64 {
	if g.sys.Name == system.Upstream {
		return g.members[leaderID].dropped()
	}
	var sum int64
	for _, m := range g.members {
		sum += m.dropped()
	}
	return sum
}

// onCommit has f told of what the leader has applied.
func (g *group) onCommit(f func(index uint64)) {
	g.committedMu.Lock()
	defer g.committedMu.Unlock()
	g.committed = f
}

func (g *group) tell(index uint64) {
	g.committedMu.Lock()
	defer g.committedMu.Unlock()
	if g.committed != nil {
		g.committed(index)
	}
}

func (g *group) close() error {
	var all error
	for _, id := range voters {
		_, err := g.down(id)
		all = errors.Join(all, err)
	}
	for _, p := range g.proxies {
		all = errors.Join(all, p.Close())
	}
	return all
}
