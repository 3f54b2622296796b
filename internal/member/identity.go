package member

import (
	"sync"
	"time"

	"github.com/seed-4d73690b/rafthttp/internal/queue"
)

// IdentityCounts are numbers of refusals because the sender is not the stated member, or is none of the cluster.
type IdentityCounts struct {
	Dials, Requests, Messages, OtherCluster uint64
}

func (c *IdentityCounts) add(n IdentityCounts) {
	c.Dials += n.Dials
	c.Requests += n.Requests
	c.Messages += n.Messages
	c.OtherCluster += n.OtherCluster
}

// IdentityCounters count refusals: all, and those that go on without a pause of queue.DropPause. They are safe for concurrent use;
// the zero value is ready.
type IdentityCounters struct {
	mu         sync.Mutex
	total, run IdentityCounts
	since      time.Time // of run
	last       time.Time
}

// Add counts refusals.
func (c *IdentityCounters) Add(n IdentityCounts) {
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if now.Sub(c.last) >= queue.DropPause {
		c.run, c.since = IdentityCounts{}, now
	}
	c.last = now
	c.total.add(n)
	c.run.add(n)
}

// Get returns all refusals, and those that go on, with the time of the first of them: the zero values if there are none.
func (c *IdentityCounters) Get() (total, run IdentityCounts, since time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.last) >= queue.DropPause {
		return c.total, IdentityCounts{}, time.Time{}
	}
	return c.total, c.run, c.since
}

// Refuse counts a refusal with the member as the stated one.
func (m *Member) Refuse(n IdentityCounts) {
	m.Cfg.AllRefused.Add(n)
	m.Refused.Add(n)
}

// RefuseOther counts a refusal of a request that states no peer.
func (c *Config) RefuseOther(n IdentityCounts) {
	c.AllRefused.Add(n)
	c.OthersRefused.Add(n)
}
