package demo

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-4d73690b/rafthttp/examples/kv/internal/client"
)

// record is a key and its value, which follows from the key.
type record struct {
	key  string
	size int
}

func (r record) value() []byte {
	var seed [32]byte
	copy(seed[:], r.key)
	binary.LittleEndian.PutUint64(seed[24:], uint64(r.size))
	source := rand.NewChaCha8(seed)
	v := make([]byte, r.size)
	_, _ = source.Read(v) // never fails
	return v
}

// ledger is what was acknowledged, and when it was last.
type ledger struct {
	mu      sync.Mutex
	records []record
	last    time.Time
	gap     time.Duration // longest time between two acknowledgements since watch
}

func (l *ledger) add(r record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	l.gap = max(l.gap, now.Sub(l.last))
	l.last = now
	l.records = append(l.records, r)
}

// watch starts to look for the longest gap.
func (l *ledger) watch() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.gap, l.last = 0, time.Now()
}

func (l *ledger) longestGap() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.gap
}

func (l *ledger) len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.records)
}

// all returns what was acknowledged so far; it only ever grows.
func (l *ledger) all() []record {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.records[:len(l.records):len(l.records)]
}

// parallel has many clients do something for 0, 1, …, total-1. Each starts with
// the next of the members; the first error ends all.
func parallel(ctx context.Context, clients, total int, members []*node, do func(context.Context, *client.Client, int) error) error {
	shared, err := client.New(urls(members)...)
	if err != nil {
		return err
	}
	defer shared.Close()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var workers sync.WaitGroup
	for w := range clients {
		mine := shared.StartingAt(w)
		workers.Go(func() {
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= total {
					return
				}
				if err := do(ctx, mine, i); err != nil {
					cancel(err)
				}
			}
		})
	}
	workers.Wait()
	return context.Cause(ctx)
}

// writeAll writes records, and enters those that are acknowledged.
func (d *demo) writeAll(ctx context.Context, clients int, records []record, done func(record)) error {
	return parallel(ctx, clients, len(records), d.nodes.running(), func(ctx context.Context, c *client.Client, i int) error {
		if _, err := c.Put(ctx, records[i].key, records[i].value()); err != nil {
			return fmt.Errorf("write %s: %w", records[i].key, err)
		}
		d.acked.add(records[i])
		done(records[i])
		return nil
	})
}

// readAll reads records back through all members, and fails if one is not what
// was written.
func (d *demo) readAll(ctx context.Context, records []record, b *bar) error {
	var read atomic.Int64
	return parallel(ctx, d.opts.Clients, len(records), d.nodes.running(), func(ctx context.Context, c *client.Client, i int) error {
		v, err := c.Get(ctx, records[i].key, false)
		if err != nil {
			return fmt.Errorf("the write of %s was acknowledged, but: %w", records[i].key, err)
		}
		if !bytes.Equal(v, records[i].value()) {
			return fmt.Errorf("%s has another value than was written", records[i].key)
		}
		b.set(read.Add(1), int64(len(records)))
		return nil
	})
}
