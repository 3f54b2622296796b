package system

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
)

// byName are systems that only Select by name returns: they are for scenarios A to D.
var byName = []System{sharing(1), sharing(48), sharing(1000)}

// sharing is ours with the load spread over groups that share the Transport of each member.
func sharing(groups int) System {
	return System{
		Name: fmt.Sprintf("ours-%d-groups", groups), Title: fmt.Sprintf("ours, %d groups", groups), Module: ours.Module,
		Start: func(cfg Config) (Cluster, error) { return startSharing(cfg, groups) },
	}
}

// sharingKind has room for the load in the half of a queue that a single group may fill.
var sharingKind = func() make_ {
	kind := ourKind
	kind.newFor = func(h *host) (transporter, error) {
		t, err := ourKind.newFor(h)
		if err == nil {
			t.(*rafthttp.Transport).SendQueueMessages = 8 * maxInFlight
		}
		return t, err
	}
	return kind
}()

// sharers is a cluster whose members have groups.
type sharers struct {
	members
	groups [][]*rafthttp.Group // of each member
	msgs   []*raftpb.Message   // of the load, with the indexes of their groups
	batch  []*raftpb.Message
}

func startSharing(cfg Config, groups int) (Cluster, error) {
	c := &sharers{members: members{kind: ourKind, load: cfg.Load}, msgs: cfg.Load.spread(groups)}
	for id := uint64(senderID); id < peerID(cfg.Peers); id++ {
		m, err := startMember(sharingKind, &cfg, id)
		if err != nil {
			c.Close()
			return nil, err
		}
		c.all = append(c.all, m)
		c.pings = append(c.pings, heartbeat(id))
		joined, err := join(m, groups)
		if err != nil {
			c.Close()
			return nil, err
		}
		c.groups = append(c.groups, joined)
	}
	for g := range groups {
		for i, peer := range c.all[1:] {
			c.groups[0][g].AddPeer(types.ID(peer.id), []string{peer.url.String()})
			c.groups[i+1][g].AddPeer(senderID, []string{c.all[0].url.String()})
		}
	}
	for deadline := time.Now().Add(connectTimeout); !c.ready(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			c.Close()
			return nil, fmt.Errorf("not all streams are up after %v", connectTimeout)
		}
	}
	return c, nil
}

// join joins groups. Their Raft is the member, which answers heartbeats by the first.
func join(m *member, groups int) (joined []*rafthttp.Group, err error) {
	raft := &groupRaft{member: m}
	for g := range groups {
		one, err := m.transporter.(*rafthttp.Transport).Group(uint64(g+1), rafthttp.GroupConfig{Raft: raft})
		if err != nil {
			return nil, err
		}
		joined = append(joined, one)
	}
	raft.first.Store(joined[0])
	return joined, nil
}

// groupRaft is the Raft of all groups of a member.
type groupRaft struct {
	*member
	first atomic.Pointer[rafthttp.Group]
}

// Process implements Raft.
func (r *groupRaft) Process(ctx context.Context, m *raftpb.Message) error {
	if m.GetType() == raftpb.MsgHeartbeat {
		r.first.Load().Send(r.pong)
		return nil
	}
	return r.member.Process(ctx, m)
}

// ready reports whether the streams of all members are up.
func (c *sharers) ready() bool {
	for i, m := range c.all {
		up, want := 0, 4
		if i == 0 {
			want *= len(c.all) - 1
		}
		for _, n := range m.transporter.(*rafthttp.Transport).Status().Groups.Nodes {
			for _, s := range n.Streams {
				if s.Up {
					up++
				}
			}
		}
		if up < want {
			return false
		}
	}
	return true
}

// Send implements Cluster: each group has its messages in a call of its own, as from its Ready.
func (c *sharers) Send(from, n int) {
	groups, peers := len(c.groups[0]), c.load.Peers
	for first := from; first < from+min(n, groups); first++ {
		c.batch = c.batch[:0]
		for i := first; i < from+n; i += groups {
			c.batch = append(c.batch, c.msgs[i*peers:(i+1)*peers]...)
		}
		c.groups[0][first%groups].Send(c.batch)
	}
}

// Ping implements Cluster.
func (c *sharers) Ping(peer int) { c.groups[0][0].Send(c.pings[peer+1]) }

// spread returns the messages of the load with the indexes that they have in groups of which each has every n-th. Those of a group follow
// each other in a few pieces of memory, as all do in NewLoad: neither the collector nor the caches make groups dearer than one log.
func (l *Load) spread(n int) []*raftpb.Message {
	all := make([]*raftpb.Message, len(l.msgs))
	msgs, log := make([]raftpb.Message, len(l.msgs)), make([]raftpb.Entry, len(l.msgs)*l.Entries)
	index, slots := make([]uint64, len(l.msgs)*(l.Entries+1)), make([]*raftpb.Entry, len(log))
	for i := range log {
		slots[i] = &log[i]
	}
	for group := range n {
		for at := group; at < l.Len; at += n {
			for peer := range l.Peers {
				from, m := l.to(peer, at), &msgs[0]
				for k := range l.Entries + 1 {
					index[k] = uint64(at/n*l.Entries + k)
				}
				m.Type, m.From, m.To, m.Term, m.LogTerm, m.Index, m.Commit = from.Type, from.From, from.To, from.Term, from.LogTerm, &index[0], &index[0]
				m.Entries = slots[:l.Entries:l.Entries]
				for k, e := range m.Entries {
					e.Term, e.Index, e.Data = from.Entries[k].Term, &index[k+1], from.Entries[k].Data
				}
				all[at*l.Peers+peer] = m
				msgs, index, slots = msgs[1:], index[l.Entries+1:], slots[l.Entries:]
			}
		}
	}
	return all
}
