package rafttest

import (
	"maps"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"testing"

	"go.etcd.io/etcd/client/pkg/v3/types"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/memnet"
)

// Config is the configuration of [New].
type Config struct {
	// Members is how many members know each other from the start: those with the ids from 1 to it. Others are added by
	// AddPeer of their transports, with [URL].
	Members int
	// Seed is that of the network and of the rules. Runs with the same seed draw the same values; scheduling of
	// goroutines is not controlled, and raft draws its election timeouts without a seed.
	Seed uint64
	// Tune may change the fields of each transport before it starts; nil changes none. ID, ClusterID (1), URLs, Raft and
	// DialContext are set, as is TLSInfo with TLS; Tune may set a Snapshotter, an ErrorC and a Logger.
	Tune func(id uint64, t *rafthttp.Transport)
	// TLS makes members use mutual TLS, with certificates of one authority, in a temporary folder of the test: they are
	// in the TLSInfo of the transports, each for the host of its member, and valid for a day before and after New.
	TLS bool
	// Server returns the server for the handler of a member, by HTTP or HTTPS; nil means [rafthttp.NewServer], which
	// members should use. It is called in Start.
	Server func(h http.Handler) *http.Server
	// Network are further options of the network.
	Network []memnet.Option
}

// Cluster is a set of members on a network in memory. [Faults.Apply] makes their messages unreliable. All methods may be
// called concurrently.
type Cluster struct {
	*Faults
	tb      testing.TB
	cfg     Config
	network *memnet.Network
	tls     *tlsFiles // nil: no TLS

	mu      sync.Mutex
	running map[*Member]struct{}
}

// New returns a cluster without running members. Members that run at the end of tb are stopped; then tb fails if
// goroutines are left, and if it failed, the events are logged. Call it in a bubble of testing/synctest for time to
// pass when all wait, or outside for real time.
func New(tb testing.TB, cfg Config) *Cluster {
	tb.Helper()
	options := append([]memnet.Option{memnet.WithSeed(cfg.Seed), memnet.WithTranscript(tb)}, cfg.Network...)
	n := memnet.New(options...)
	for id := range uint64(cfg.Members) {
		n.Host(Host(id + 1))
	}
	memnet.CheckGoroutines(tb)
	c := &Cluster{Faults: NewFaults(cfg.Seed, n), tb: tb, cfg: cfg, network: n, running: make(map[*Member]struct{})}
	if cfg.TLS {
		var err error
		if c.tls, err = newTLSFiles(tb.TempDir()); err != nil {
			tb.Fatalf("certificates: %v", err)
		}
	}
	tb.Cleanup(c.stop)
	return c
}

// stop stops all members.
func (c *Cluster) stop() {
	c.mu.Lock()
	running := slices.Collect(maps.Keys(c.running))
	c.mu.Unlock()
	for _, m := range running {
		m.Stop()
	}
}

// Network returns the network, for slow links and all other faults of [memnet].
func (c *Cluster) Network() *memnet.Network { return c.network }

// Host returns the name of the host of a member: "m1" for 1.
func Host(id uint64) string { return "m" + strconv.FormatUint(id, 10) }

// URL returns the peer URL of a member of a cluster without TLS.
func URL(id uint64) string { return "http://" + Host(id) + ":2380" }

// URL returns the peer URL of a member.
func (c *Cluster) URL(id uint64) string {
	if c.tls != nil {
		return "https://" + Host(id) + ":2380"
	}
	return URL(id)
}

// Member is a running member: it sends by Transport, and receives.
type Member struct {
	*rafthttp.Transport
	cluster *Cluster
	host    *memnet.Host
	raft    *Raft
	server  *http.Server
	served  chan struct{}
	once    sync.Once
}

// Start runs a member: a transport that delivers to r, with all members as peers, and its HTTP server. A member that was
// stopped or crashed can be started again. It fails the test, and does not return, if the member already runs.
func (c *Cluster) Start(id uint64, r rafthttp.Raft) *Member {
	c.tb.Helper()
	m := &Member{cluster: c, host: c.network.Host(Host(id)), raft: c.Wrap(id, r), served: make(chan struct{})}
	m.Transport = &rafthttp.Transport{
		ID: types.ID(id), ClusterID: 1, URLs: types.MustNewURLs([]string{c.URL(id)}), Raft: m.raft, DialContext: m.host.DialContext,
	}
	if c.tls != nil {
		var err error
		if m.TLSInfo, err = c.tls.info(id); err != nil {
			c.tb.Fatalf("certificate of member %d: %v", id, err)
		}
	}
	if c.cfg.Tune != nil {
		c.cfg.Tune(id, m.Transport)
	}
	ln, err := m.host.Listen("2380")
	if err != nil {
		c.tb.Fatalf("member %d runs already: %v", id, err)
	}
	if err := m.start(ln); err != nil {
		ln.Close()
		c.tb.Fatalf("start member %d: %v", id, err)
	}
	c.network.Note("member %d is started", id)
	c.mu.Lock()
	c.running[m] = struct{}{}
	c.mu.Unlock()
	return m
}

// start starts the transport, adds its peers, and serves them.
func (m *Member) start(ln net.Listener) (err error) {
	c := m.cluster
	if c.tls != nil {
		if ln, err = withTLS(ln, m.TLSInfo); err != nil {
			return err
		}
	}
	if err := m.Transport.Start(); err != nil {
		return err
	}
	for peer := range uint64(c.cfg.Members) {
		m.AddPeer(types.ID(peer+1), []string{c.URL(peer + 1)})
	}
	serve := c.cfg.Server
	if serve == nil {
		serve = rafthttp.NewServer
	}
	m.server = serve(m.Handler())
	go func() {
		defer close(m.served)
		_ = m.server.Serve(ln)
	}()
	return nil
}

// Stop stops the member: its transport, then its server. It does not stop the application behind the Raft. Stopping
// again does nothing.
func (m *Member) Stop() {
	m.once.Do(func() {
		m.Transport.Stop()
		m.raft.Close()
		_ = m.server.Close()
		m.cluster.mu.Lock()
		delete(m.cluster.running, m)
		m.cluster.mu.Unlock()
	})
	<-m.served
}

// Crash ends the member like kill -9: bytes in transit from it are lost, its peers find their connections reset. It
// returns when none of its goroutines runs.
func (m *Member) Crash() {
	m.host.Crash()
	m.Stop()
}

// PowerLoss ends the member like Crash, but its peers are not told.
func (m *Member) PowerLoss() {
	m.host.PowerLoss()
	m.Stop()
}

// Partition cuts the links, in both directions, between members of different groups, until [Cluster.Heal]. Those in no
// group keep theirs.
func (c *Cluster) Partition(groups ...[]uint64) {
	var hosts [][]string
	for _, g := range groups {
		var names []string
		for _, id := range g {
			names = append(names, Host(id))
		}
		hosts = append(hosts, names)
	}
	c.network.Partition(hosts...)
}

// Heal mends all links that are cut.
func (c *Cluster) Heal() { c.network.Heal() }

// Link returns the link from one member to another.
func (c *Cluster) Link(from, to uint64) *memnet.Link { return c.network.Link(Host(from), Host(to)) }
