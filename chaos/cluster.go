package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/chaos/internal/network"
	"github.com/seed-4d73690b/rafthttp/chaos/internal/wallclock"
)

const (
	size       = 5               // members
	tlsRecheck = 2 * time.Second // of the members
	tendEvery  = 100 * time.Millisecond
)

// fabric is what connects the members, and what their disks are.
type fabric interface {
	// do runs what starts a process, where the member is.
	do(slot int, f func())
	// urls returns where the member is reached by others and by clients.
	urls(slot int) (host, peer, client string)
	// flags returns what the member has to know of the network.
	flags(slot int) []string
	link(from, to int) *network.Link
	// counts says what became of the packets.
	counts() string
	// packets says whether packets can be lost, rather than connections reset.
	packets() bool
	// disk prepares the folder for a member's data; it can be filled up if limited is true.
	disk(dir string) (limited bool, err error)
	close() error
}

// cluster is all members, and what is known of them.
type cluster struct {
	dir     string
	kv      string // the program
	certs   *certs
	network fabric
	flags   []string         // of all members, beside those they need
	clock   *wallclock.Clock // nil: clocks cannot be set
	seed    uint64           // what the members' loops are drawn from
	limited bool             // disks can be filled up
	sharded bool             // the program is shards, and not kv
	members []*member
	client  *client

	lastID atomic.Uint64
	moved  atomic.Int64 // replicas of shards
	events *os.File

	mu        sync.Mutex
	violation error                // the first
	untold    map[uint64]time.Time // of shards: since when replicas are there that were removed
	broken    chan struct{}

	tending sync.WaitGroup
	stop    chan struct{}
}

// newCluster founds a cluster of a program's processes: of shards if sharded is set, and else of kv.
func newCluster(dir, kv string, sharded bool, net fabric, clock *wallclock.Clock, seed uint64, flags ...string) (*cluster, error) {
	c := &cluster{
		dir: dir, kv: kv, sharded: sharded, network: net, clock: clock, seed: seed, flags: flags, client: newClient(),
		untold: map[uint64]time.Time{}, broken: make(chan struct{}), stop: make(chan struct{}),
	}
	var err error
	if c.events, err = os.Create(dir + "/events.log"); err != nil {
		return nil, err
	}
	var hosts, list []string
	for slot := range size {
		m := &member{c: c, slot: slot, id: c.nextID(), wanted: true}
		m.host, m.peer, m.client = net.urls(slot)
		c.members = append(c.members, m)
		hosts, list = append(hosts, m.host), append(list, fmt.Sprintf("%d=%s", m.id, m.peer))
		if err := os.MkdirAll(m.dataDir(), 0o700); err != nil {
			return nil, err
		}
		if c.limited, err = net.disk(m.dataDir()); err != nil {
			return nil, err
		}
	}
	if c.certs, err = newCerts(dir, hosts); err != nil {
		return nil, err
	}
	if sharded {
		c.flags = append(c.flags, c.clientFlags()...)
	}
	for _, m := range c.members {
		m.first = []string{"-cluster", strings.Join(list, ",")}
		if err := m.start(); err != nil {
			return nil, err
		}
	}
	c.tending.Go(c.tend)
	return c, nil
}

func (c *cluster) nextID() uint64 { return c.lastID.Add(1) }

// note writes a line to the log of events.
func (c *cluster) note(format string, args ...any) {
	fmt.Fprintf(c.events, "%s %s\n", time.Now().Format(time.StampMilli), fmt.Sprintf(format, args...))
}

// violated takes note of what must never be.
func (c *cluster) violated(err error) {
	c.note("VIOLATION: %v", err)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.violation == nil {
		c.violation = err
		close(c.broken)
	}
}

func (c *cluster) err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.violation
}

// tend starts what should run and does not, unless a fault has it in its hands.
func (c *cluster) tend() {
	ticker := time.NewTicker(tendEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-c.stop:
			return
		}
		for _, m := range c.members {
			if err := c.tendTo(m); err != nil {
				c.violated(fmt.Errorf("cannot start member %s: %w", m.name(), err))
			}
		}
	}
}

func (c *cluster) tendTo(m *member) error {
	m.mu.Lock()
	idle := m.wanted && m.held == "" && m.cmd == nil && time.Since(m.started) > time.Second
	removed := m.removed
	m.mu.Unlock()
	if !idle {
		return nil
	}
	if removed {
		through := c.another(m)
		if through == nil || !c.isRemoved(m, through) {
			return nil
		}
		if err := m.rejoin(through); err != nil {
			return err
		}
		c.note("member %s comes back as %d, through member %s", m.name(), m.identity(), through.name())
	}
	return m.start()
}

// isRemoved asks another member whether a member that ended because it was removed was in fact. It says no if there is no
// answer, or one that must not be.
func (c *cluster) isRemoved(m, other *member) bool {
	var now struct{ Members []statusMember }
	if err := c.client.ask(context.Background(), other.client+"/members", &now); err != nil {
		return false
	}
	id := m.identity()
	if slices.ContainsFunc(now.Members, func(s statusMember) bool { return s.ID == id }) {
		c.violated(fmt.Errorf("member %s (id %d) has ended because it was removed, and it was not: see %s", m.name(), id, m.logFile()))
		return false
	}
	return true
}

// another returns a member that runs and is not m.
func (c *cluster) another(m *member) *member {
	for i := range c.members {
		o := c.members[(m.slot+1+i)%len(c.members)]
		if o != m && o.running() != 0 {
			return o
		}
	}
	return nil
}

// statuses asks all members; err says which does not answer.
func (c *cluster) statuses(ctx context.Context) (all []status, err error) {
	for _, m := range c.members {
		var s status
		if err := c.client.ask(ctx, m.client+"/status", &s); err != nil {
			return nil, fmt.Errorf("member %s: %w", m.name(), err)
		}
		all = append(all, s)
	}
	return all, nil
}

// settle waits until all members are well and the same.
func (c *cluster) settle(ctx context.Context, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for last := error(nil); ; {
		why := c.unsettled(ctx)
		if why == nil {
			return nil
		}
		if last == nil || ctx.Err() == nil { // and was not cut short
			last = why
		}
		select {
		case <-time.After(tendEvery):
		case <-c.broken:
			return c.err()
		case <-ctx.Done():
			return fmt.Errorf("%v after all faults have ended: %w", limit, last)
		}
	}
}

var errDiffer = errors.New("members have applied the same with other contents")

// unsettled says what is wrong with the cluster, if something is.
func (c *cluster) unsettled(ctx context.Context) error {
	if c.sharded {
		return c.unsettledGroups(ctx)
	}
	all, err := c.statuses(ctx)
	if err != nil {
		return err
	}
	var ids []uint64
	for _, m := range c.members {
		ids = append(ids, m.identity())
	}
	slices.Sort(ids)
	for i, s := range all {
		if err := unwell(&s, &all[0], ids); err != nil {
			return fmt.Errorf("member %s: %w", c.members[i].name(), err)
		}
	}
	return c.compare(ctx)
}

// unwell says what is wrong with a member, in a cluster that should have these ids.
func unwell(s, first *status, ids []uint64) error {
	var members []uint64
	for _, m := range s.Members {
		if m.Learner {
			return fmt.Errorf("%d is a learner", m.ID)
		}
		members = append(members, m.ID)
	}
	switch {
	case !slices.Equal(members, ids):
		return fmt.Errorf("it knows members %v, not %v", members, ids)
	case s.Leader == 0 || s.Leader != first.Leader:
		return fmt.Errorf("its leader is %d, another's is %d", s.Leader, first.Leader)
	case s.Applied != first.Applied:
		return fmt.Errorf("it has applied %d, another %d", s.Applied, first.Applied)
	}
	return linked(s.Transport.Peers, len(ids)-1)
}

// queuedTime is how long a message may wait in a lane that is well, on a busy machine.
const queuedTime = 200 * time.Millisecond

// linked says what is wrong with the connections of a member, which should have n peers.
func linked(peers []rafthttp.PeerStatus, n int) error {
	if len(peers) != n {
		return fmt.Errorf("it has %d peers", len(peers))
	}
	for _, p := range peers {
		if !p.Active {
			return fmt.Errorf("it finds %d inactive: %s", p.ID, p.LastError)
		}
		for _, l := range p.Lanes {
			if !l.Up || l.OldestAge > queuedTime {
				return fmt.Errorf("lane %s to %d: up %v, %d queued, for %v", l.Name, p.ID, l.Up, l.Queued, l.OldestAge)
			}
		}
	}
	return nil
}

// compare compares what the members have.
func (c *cluster) compare(ctx context.Context) error {
	if c.sharded {
		return c.settle(ctx, foundTime) // which compares each group
	}
	var first digest
	for i, m := range c.members {
		var d digest
		err := c.client.ask(ctx, m.client+"/hash", &d)
		switch {
		case err != nil:
			return fmt.Errorf("member %s: %w", m.name(), err)
		case i == 0:
			first = d
		case d.Applied != first.Applied:
			return fmt.Errorf("member %s has applied %d, the first %d", m.name(), d.Applied, first.Applied)
		case d.Hash != first.Hash:
			c.violated(fmt.Errorf("%w: index %d, member 1 %s, member %s %s", errDiffer, d.Applied, first.Hash, m.name(), d.Hash))
			return c.err()
		}
	}
	return nil
}

// close ends all processes.
func (c *cluster) close() error {
	close(c.stop)
	c.tending.Wait()
	for _, m := range c.members {
		m.retire()
	}
	c.client.http.CloseIdleConnections()
	return errors.Join(c.network.close(), c.events.Close())
}
