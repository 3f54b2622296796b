package groups_test

import (
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/internal/testtls"
	"github.com/seed-4d73690b/rafthttp/memnet/faultproxy"
	"github.com/seed-4d73690b/rafthttp/snap"
)

// proxiedGroups are groups of two nodes over real sockets, which dial each other through proxies. The replicas of a group
// number their messages, which name the group.
type proxiedGroups struct {
	proxies   [2]*faultproxy.Proxy // to each node
	groups    [3][2]joined
	sent      uint64
	snapshots [2][]*snap.Message // of the groups together, by node that sends them
	posted    [2]int             // MsgSnap without a database
}

// behindProxy starts a node behind a proxy, and returns the URL by which others dial it.
type behindProxy func(t *testing.T, id types.ID, tune func(*rafthttp.Transport)) (m *testmember.Member, proxy *faultproxy.Proxy, dial string)

// proxyTo returns a proxy in front of the server at a URL.
func proxyTo(t *testing.T, target string) *faultproxy.Proxy {
	t.Helper()
	_, address, _ := strings.Cut(target, "://")
	proxy, err := faultproxy.Listen("127.0.0.1:0", address)
	require.NoError(t, err)
	t.Cleanup(func() { proxy.Close() })
	return proxy
}

// overTCP has nodes speak plain HTTP.
func overTCP(t *testing.T, id types.ID, tune func(*rafthttp.Transport)) (*testmember.Member, *faultproxy.Proxy, string) {
	t.Helper()
	m := testmember.Start(t, id, tune)
	proxy := proxyTo(t, m.URL)
	return m, proxy, "http://" + proxy.Addr()
}

// overTLS has nodes speak TLS.
func overTLS(t *testing.T) behindProxy {
	t.Helper()
	ca := testtls.NewAuthority(t)
	return func(t *testing.T, id types.ID, tune func(*rafthttp.Transport)) (*testmember.Member, *faultproxy.Proxy, string) {
		t.Helper()
		m := testtls.Start(t, "https", id, ca.Member(t, id), tune)
		proxy := proxyTo(t, m.URL)
		return m, proxy, "https://" + proxy.Addr()
	}
}

// overHTTP2 has a front speak HTTP/2 to the handler of a node, behind a wrapper, all over one connection, in which the faults are.
func overHTTP2(t *testing.T, id types.ID, tune func(*rafthttp.Transport)) (*testmember.Member, *faultproxy.Proxy, string) {
	t.Helper()
	version := new(http.Protocols)
	version.SetUnencryptedHTTP2(true)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	by := func(h http.Handler) *http.Server {
		wrapped := func(w http.ResponseWriter, r *http.Request) { h.ServeHTTP(testmember.NewDeadlineWriter(w), r) }
		return &http.Server{Protocols: version, Handler: http.HandlerFunc(wrapped)}
	}
	m := testmember.StartBy(t, by, ln, "http://"+ln.Addr().String(), id, tune)
	proxy := proxyTo(t, m.URL)
	client := &http.Transport{Protocols: version}
	pass := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: proxy.Addr()})
	pass.Transport, pass.ErrorLog = client, log.New(io.Discard, "", 0)
	front := httptest.NewServer(pass)
	t.Cleanup(func() {
		front.CloseClientConnections()
		proxy.Close() // which ends requests that stand
		front.Close()
		client.CloseIdleConnections()
	})
	return m, proxy, front.URL
}

func newProxiedGroups(t *testing.T, start behindProxy) *proxiedGroups {
	t.Helper()
	p := new(proxiedGroups)
	var nodes [2]*testmember.Member
	var dial [2]string
	for i := range nodes {
		nodes[i], p.proxies[i], dial[i] = start(t, types.ID(i+1), func(tr *rafthttp.Transport) {
			tr.Raft, tr.ReadTimeout, tr.WriteTimeout = rafthttp.NoRaft{}, 500*time.Millisecond, 500*time.Millisecond
		})
	}
	for g := range p.groups {
		for i := range nodes {
			p.groups[g][i] = join(t, nodes[i], uint64(g+1), saves(testmember.SavesAll))
			p.groups[g][i].AddPeer(types.ID(2-i), []string{dial[1-i]})
		}
	}
	return p
}

// sendSnapshots sends a snapshot with a database, and a MsgSnap without one, which is posted, in each group in both directions.
func (p *proxiedGroups) sendSnapshots() {
	for g := range p.groups {
		for i, from := range p.groups[g] {
			p.sent++
			message := func() *raftpb.Message {
				m := testmember.MsgSnap(types.ID(2-i), types.ID(i+1), p.sent)
				m.Term = new(uint64(g + 1))
				return m
			}
			one := snap.NewMessage(message(), io.NopCloser(strings.NewReader(strings.Repeat("x", 20<<10))), 20<<10)
			p.snapshots[i] = append(p.snapshots[i], one)
			from.SendSnapshot(one)
			p.sent++
			from.Send([]*raftpb.Message{message()})
			p.posted[i]++
		}
	}
}

// requireSnapshots waits for the end of all snapshots, each of which has one report: of a success only if it was processed.
func (p *proxiedGroups) requireSnapshots(t *testing.T) {
	t.Helper()
	for i := range p.snapshots {
		finished, reports := 0, 0
		for _, m := range p.snapshots[i] {
			if <-m.CloseNotify() {
				finished++
			}
		}
		count := func() {
			finished, reports = 0, 0
			for _, both := range p.groups {
				for _, r := range both[i].raft.SnapshotReports() {
					reports++
					if r == raft.SnapshotFinish {
						finished++
					}
				}
			}
		}
		withDatabase := finished
		testmember.Eventually(t, func() bool { count(); return reports >= len(p.snapshots[i])+p.posted[i] })
		require.Equal(t, len(p.snapshots[i])+p.posted[i], reports)
		require.GreaterOrEqual(t, finished, withDatabase)
		testmember.Eventually(t, func() bool { return p.processedFrom(i) >= finished }) // the answer to a POST may come first
	}
}

// processedFrom returns how many snapshots of a node the other one has processed.
func (p *proxiedGroups) processedFrom(node int) int {
	processed := map[uint64]bool{}
	for _, both := range p.groups {
		for _, m := range both[1-node].raft.Received() {
			if m.GetType() == raftpb.MsgSnap {
				processed[m.GetSnapshot().GetMetadata().GetIndex()] = true
			}
		}
	}
	return len(processed)
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

// sendUntil sends every 10 ms, until cond holds.
func (p *proxiedGroups) sendUntil(t *testing.T, cond func() bool) {
	t.Helper()
	require.Eventually(t, func() bool {
		p.send()
		return cond()
	}, 20*time.Second, 10*time.Millisecond)
}

// requireEnd waits until messages of all groups arrive in both directions that are sent from now on.
func (p *proxiedGroups) requireEnd(t *testing.T) {
	t.Helper()
	since := p.sent
	p.sendUntil(t, func() bool {
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

// faults are those of both proxies.
var faults = map[string]struct {
	begin, end func(p *faultproxy.Proxy)
	harmless   bool // it loses nothing for sure
}{
	"cut after some bytes": {func(p *faultproxy.Proxy) { p.ToClient().CutAfter(8 << 10) }, func(p *faultproxy.Proxy) { p.ToClient().CutAfter(0) }, false},
	"reset":                {(*faultproxy.Proxy).Reset, func(*faultproxy.Proxy) {}, false},
	"black hole":           {func(p *faultproxy.Proxy) { p.ToClient().Pause(); p.ToTarget().Pause() }, func(p *faultproxy.Proxy) { p.ToClient().Resume(); p.ToTarget().Resume() }, false},
	"one way":              {func(p *faultproxy.Proxy) { p.ToClient().Pause() }, func(p *faultproxy.Proxy) { p.ToClient().Resume() }, false},
	"discarded":            {func(p *faultproxy.Proxy) { p.ToClient().Cut() }, func(p *faultproxy.Proxy) { p.ToClient().Mend() }, false},
	"half open":            {func(p *faultproxy.Proxy) { p.ToClient().HalfOpen() }, func(*faultproxy.Proxy) {}, false},
	"slow":                 {func(p *faultproxy.Proxy) { p.ToClient().SetBandwidth(64 << 10) }, func(p *faultproxy.Proxy) { p.ToClient().SetBandwidth(0) }, true},
}

// TestGroupsBehindFaultProxies: whatever a network does to real connections, each message arrives once at most, and at its own group, losses
// are reported, snapshots end once, and all goes on after it: over plain connections, TLS and HTTP/2.
func TestGroupsBehindFaultProxies(t *testing.T) {
	for over, start := range map[string]func(*testing.T) behindProxy{
		"TCP": func(*testing.T) behindProxy { return overTCP }, "TLS": overTLS, "HTTP/2": func(*testing.T) behindProxy { return overHTTP2 },
	} {
		for name, fault := range faults {
			t.Run(over+" "+name, func(t *testing.T) {
				p := newProxiedGroups(t, start(t))
				p.requireEnd(t)
				before := [2]int{p.unreachables(0), p.unreachables(1)}
				for _, proxy := range p.proxies {
					fault.begin(proxy)
				}
				p.sendSnapshots()
				if fault.harmless {
					p.requireEnd(t)
				} else {
					p.sendUntil(t, func() bool { return p.unreachables(0) > before[0] && p.unreachables(1) > before[1] })
				}
				for _, proxy := range p.proxies {
					fault.end(proxy)
				}
				p.requireEnd(t)
				p.sendSnapshots()
				p.requireSnapshots(t)
				p.requireOnce(t)
			})
		}
	}
}

// requireOnce requires that each message but those of snapshots was processed once at most, and all by the group that they are of.
func (p *proxiedGroups) requireOnce(t *testing.T) {
	t.Helper()
	type key struct {
		raftpb.MessageType
		n uint64
	}
	for g, both := range p.groups {
		for i, one := range both {
			seen := map[key]bool{}
			for _, m := range one.raft.Received() {
				k := key{m.GetType(), max(m.GetCommit(), m.GetIndex())}
				require.False(t, seen[k] && m.GetType() != raftpb.MsgSnap, "twice: %v", k)
				seen[k] = true
				require.EqualValues(t, g+1, m.GetTerm(), "of another group")
				require.EqualValues(t, 2-i, m.GetFrom())
			}
		}
	}
}
