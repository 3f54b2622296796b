package groups_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/memnet/faultproxy"
)

// proxiedGroups are groups of two nodes over real sockets, which dial each other through proxies. The replicas of a group
// number their messages, which name the group.
type proxiedGroups struct {
	proxies [2]*faultproxy.Proxy // to each node
	groups  [3][2]joined
	sent    uint64
}

func newProxiedGroups(t *testing.T) *proxiedGroups {
	t.Helper()
	p := new(proxiedGroups)
	var nodes [2]*testmember.Member
	for i := range nodes {
		nodes[i] = testmember.Start(t, types.ID(i+1), func(tr *rafthttp.Transport) {
			tr.Raft, tr.ReadTimeout, tr.WriteTimeout = rafthttp.NoRaft{}, 500*time.Millisecond, 500*time.Millisecond
		})
		var err error
		p.proxies[i], err = faultproxy.Listen("127.0.0.1:0", strings.TrimPrefix(nodes[i].URL, "http://"))
		require.NoError(t, err)
		t.Cleanup(func() { p.proxies[i].Close() })
	}
	for g := range p.groups {
		for i := range nodes {
			p.groups[g][i] = join(t, nodes[i], uint64(g+1), nil)
			p.groups[g][i].AddPeer(types.ID(2-i), []string{"http://" + p.proxies[1-i].Addr()})
		}
	}
	return p
}

// send sends a heartbeat and an append in each group, in both directions.
func (p *proxiedGroups) send() {
	p.sent++
	for g := range p.groups {
		for i, from := range p.groups[g] {
			to, id := types.ID(2-i), types.ID(i+1)
			beat, app := testmember.Heartbeat(to, id, p.sent), testmember.MsgApp(to, id, p.sent, make([]byte, 500))
			beat.Term, app.Term = new(uint64(g+1)), new(uint64(g+1))
			from.Send([]*raftpb.Message{beat, app})
		}
	}
}

// requireEnd waits until messages of all groups arrive in both directions that are sent from now on.
func (p *proxiedGroups) requireEnd(t *testing.T) {
	t.Helper()
	since := p.sent
	testmember.Eventually(t, func() bool {
		p.send()
		for _, both := range p.groups {
			for _, g := range both {
				beats, apps := false, false
				for _, m := range g.raft.Received() {
					beats = beats || m.GetType() == raftpb.MsgHeartbeat && m.GetCommit() > since
					apps = apps || m.GetType() == raftpb.MsgApp && m.GetIndex() > since
				}
				if !beats || !apps {
					return false
				}
			}
		}
		return true
	})
}

// unreachables returns how often the groups of a node were told of losses.
func (p *proxiedGroups) unreachables(node int) (n int) {
	for _, g := range p.groups {
		n += g[node].raft.Unreachables(uint64(2 - node))
	}
	return n
}

// TestGroupsBehindFaultProxies: whatever a network does to real connections, each message arrives once at most, and at its own group, losses
// are reported, and all goes on after it.
func TestGroupsBehindFaultProxies(t *testing.T) {
	for name, tc := range map[string]struct {
		begin, end func(p *faultproxy.Proxy) // the fault of both proxies
		harmless   bool                      // it loses nothing for sure
	}{
		"cut after some bytes": {func(p *faultproxy.Proxy) { p.ToClient().CutAfter(8 << 10) }, func(p *faultproxy.Proxy) { p.ToClient().CutAfter(0) }, false},
		"reset":                {(*faultproxy.Proxy).Reset, func(*faultproxy.Proxy) {}, false},
		"black hole":           {func(p *faultproxy.Proxy) { p.ToClient().Pause(); p.ToTarget().Pause() }, func(p *faultproxy.Proxy) { p.ToClient().Resume(); p.ToTarget().Resume() }, false},
		"one way":              {func(p *faultproxy.Proxy) { p.ToClient().Pause() }, func(p *faultproxy.Proxy) { p.ToClient().Resume() }, false},
		"discarded":            {func(p *faultproxy.Proxy) { p.ToClient().Cut() }, func(p *faultproxy.Proxy) { p.ToClient().Mend() }, false},
		"half open":            {func(p *faultproxy.Proxy) { p.ToClient().HalfOpen() }, func(*faultproxy.Proxy) {}, false},
		"slow":                 {func(p *faultproxy.Proxy) { p.ToClient().SetBandwidth(64 << 10) }, func(p *faultproxy.Proxy) { p.ToClient().SetBandwidth(0) }, true},
	} {
		t.Run(name, func(t *testing.T) {
			p := newProxiedGroups(t)
			p.requireEnd(t)
			before := [2]int{p.unreachables(0), p.unreachables(1)}
			for _, proxy := range p.proxies {
				tc.begin(proxy)
			}
			if tc.harmless {
				p.requireEnd(t)
			} else {
				testmember.Eventually(t, func() bool {
					p.send()
					return p.unreachables(0) > before[0] && p.unreachables(1) > before[1]
				})
			}
			for _, proxy := range p.proxies {
				tc.end(proxy)
			}
			p.requireEnd(t)
			for g, both := range p.groups {
				for i, one := range both {
					type key struct {
						raftpb.MessageType
						n uint64
					}
					seen := map[key]bool{}
					for _, m := range one.raft.Received() {
						k := key{m.GetType(), max(m.GetCommit(), m.GetIndex())}
						require.False(t, seen[k], "twice: %v", k)
						seen[k] = true
						require.EqualValues(t, g+1, m.GetTerm(), "of another group")
						require.EqualValues(t, 2-i, m.GetFrom())
					}
				}
			}
		})
	}
}
