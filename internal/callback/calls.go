package callback

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
)

// Calls are the callbacks that have not returned and that Stop may have to wait for, except
// those that are called for each message or batch, which their lanes track. The zero value is
// ready. It is safe for concurrent use.
type Calls struct {
	mu      sync.Mutex
	last    uint64
	running map[uint64]Call // by number
}

// Running is a call started by Begin.
type Running struct {
	call   Call
	number uint64
}

// Begin tracks a call. Its result must be passed to a deferred End, which replaces
// Recover.
func (g Guard) Begin(in Call) Running {
	if in.Group = cmp.Or(in.Group, g.Group); g.Calls == nil {
		return Running{call: in}
	}
	g.Calls.mu.Lock()
	defer g.Calls.mu.Unlock()
	if g.Calls.running == nil {
		g.Calls.running = map[uint64]Call{}
	}
	g.Calls.last++
	g.Calls.running[g.Calls.last] = in
	return Running{in, g.Calls.last}
}

// End ends a call started by Begin, or the process if the call panicked. It must be deferred.
func (g Guard) End(of Running) {
	if v := recover(); v != nil {
		g.crash(of.call, v)
	}
	if g.Calls != nil {
		g.Calls.mu.Lock()
		defer g.Calls.mu.Unlock()
		delete(g.Calls.running, of.number)
	}
}

// List returns the calls that have not returned, in any order.
func (c *Calls) List() []Call {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Collect(maps.Values(c.running))
}

// String returns the name of the call, with its group, its lane and its member.
func (c Call) String() string {
	s := c.Name
	if c.Group != 0 {
		s += fmt.Sprintf(", group %d,", c.Group)
	}
	if c.Lane != "" {
		s = strings.TrimSuffix(s, ",") + ", " + c.Lane + ","
	}
	if c.Peer != 0 {
		s += fmt.Sprintf(" of %s", c.Peer)
	}
	return s
}
