package sim

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/anishathalye/porcupine"
	"go.etcd.io/raft/v3"
)

const (
	clients   = 4
	lists     = 4               // in an era
	thinkTime = 3 * time.Second // at most, between operations of a client
	patience  = 5 * time.Second // of a client with one operation
	endOfTime = math.MaxInt64
)

// order numbers the beginnings and ends of operations: virtual time stands still while things happen.
var order atomic.Int64

// client appends and reads, one operation after another, each at any member. All of it is its goroutine's while it runs,
// and the simulation's after that.
type client struct {
	s    *simulation
	id   int
	rand *rand.Rand
	seq  int

	history         []porcupine.Operation // of the era
	acknowledged    []command             // of the era
	unknown, denied int
}

func (c *client) run(ctx context.Context, era int) {
	for {
		timer := time.NewTimer(time.Duration(c.rand.Int64N(int64(thinkTime))))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
		running := c.s.running()
		who, what, which := c.rand.IntN(1<<20), c.rand.IntN(2), c.rand.IntN(lists)
		if len(running) == 0 {
			continue
		}
		m, list := running[who%len(running)], fmt.Sprintf("%d/%d", era, which)
		c.seq++
		if what == 0 {
			c.append(m, list)
		} else {
			c.read(m, list)
		}
	}
}

func (c *client) append(m *member, list string) {
	cmd := command{Client: c.id, Seq: c.seq, List: list}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	op := porcupine.Operation{ClientId: c.id, Input: cmd, Call: order.Add(1)}
	err := m.appendTo(ctx, cmd)
	op.Return = order.Add(1)
	switch {
	case errors.Is(err, raft.ErrProposalDropped):
		c.denied++ // it will never be done
		return
	case err != nil:
		c.unknown++
		op.Return = endOfTime
	default:
		c.acknowledged = append(c.acknowledged, cmd)
	}
	c.history = append(c.history, op)
}

func (c *client) read(m *member, list string) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	op := porcupine.Operation{ClientId: c.id, Input: command{List: list}, Call: order.Add(1)}
	value, err := m.read(ctx, fmt.Sprintf("%d.%d", c.id, c.seq), list)
	if err != nil {
		return // a read that does not end says nothing
	}
	op.Return, op.Output = order.Add(1), value
	c.history = append(c.history, op)
}
