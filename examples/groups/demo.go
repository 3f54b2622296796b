package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/raft/v3"
	"go.uber.org/zap"
)

// demo shows what the server does: it measures latencies for this long each time.
func demo(ctx context.Context, w io.Writer, measure time.Duration) error {
	c, err := startCluster(zap.NewNop())
	if err != nil {
		return err
	}
	defer c.stop()
	err = c.demo(ctx, w, measure)
	for _, s := range c.nodes {
		err = cmp.Or(s.failed(), err)
	}
	return err
}

func (c *cluster) demo(ctx context.Context, w io.Writer, measure time.Duration) error {
	say := func(format string, args ...any) { fmt.Fprintf(w, format+"\n", args...) }

	if err := c.writeAll(ctx, "before"); err != nil {
		return err
	}
	say("wrote a key of each of %d shards through node 1", shards)
	for id := range c.nodes {
		if err := c.readAll(ctx, id, "before"); err != nil {
			return err
		}
	}
	say("read them on all nodes")

	c.stopNode(3)
	if err := c.writeAll(ctx, "without node 3"); err != nil {
		return err
	}
	say("stopped node 3, and wrote the keys again: the shards that it led have other leaders")
	if err := c.restart(3); err != nil {
		return err
	}
	if err := c.readAll(ctx, 3, "without node 3"); err != nil {
		return err
	}
	say("started node 3 again, and read on it what was written meanwhile")

	alone, err := c.latencies(ctx, measure)
	if err != nil {
		return err
	}
	var written atomic.Int64
	flooded, stop := context.WithCancel(ctx)
	defer stop()
	var flood sync.WaitGroup
	for range 4 {
		flood.Go(func() { c.flood(flooded, &written) })
	}
	beside, err := c.latencies(ctx, measure)
	stop()
	flood.Wait()
	if err != nil {
		return err
	}
	say("put to one of %d shards: p50 %v, p99 %v", shards-1, at(alone, 0.50), at(alone, 0.99))
	say("while shard 0 was flooded with %d MiB: p50 %v, p99 %v", written.Load()>>20, at(beside, 0.50), at(beside, 0.99))
	return nil
}

// keyIn returns a key of a shard.
func keyIn(shard int) string {
	for i := 0; ; i++ {
		if key := fmt.Sprintf("key-%d", i); shardOf(key) == shard {
			return key
		}
	}
}

// writeAll writes a key of each shard on node 1.
func (c *cluster) writeAll(ctx context.Context, value string) error {
	return eachShard(func(shard int) error {
		return again(ctx, func(ctx context.Context) error { return c.nodes[1].put(ctx, keyIn(shard), value) })
	})
}

// readAll reads the keys on a node.
func (c *cluster) readAll(ctx context.Context, id uint64, want string) error {
	return eachShard(func(shard int) error {
		return again(ctx, func(ctx context.Context) error {
			value, _, err := c.nodes[id].get(ctx, keyIn(shard))
			if err == nil && value != want {
				err = fmt.Errorf("shard %d on node %d has %q, not %q", shard, id, value, want)
			}
			return err
		})
	})
}

func eachShard(f func(shard int) error) error {
	all := make([]error, shards)
	var wg sync.WaitGroup
	for i := range all {
		wg.Go(func() { all[i] = f(i) })
	}
	wg.Wait()
	return cmp.Or(all...)
}

// again repeats what fails while a shard has no leader, as a client does: a message to a node that has just stopped is lost.
func again(ctx context.Context, f func(ctx context.Context) error) (err error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for ctx.Err() == nil {
		once, cancel := context.WithTimeout(ctx, time.Second)
		err = f(once)
		cancel()
		if err == nil {
			return nil
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
		}
	}
	return err
}

// latencies puts keys of all shards but the first one after another, and returns how long each took, sorted.
func (c *cluster) latencies(ctx context.Context, d time.Duration) (took []time.Duration, err error) {
	for begin, shard := time.Now(), 1; time.Since(begin) < d; shard = shard%(shards-1) + 1 {
		start := time.Now()
		if err := again(ctx, func(ctx context.Context) error { return c.nodes[1].put(ctx, keyIn(shard), "x") }); err != nil {
			return nil, err
		}
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	return took, nil
}

func at(sorted []time.Duration, p float64) time.Duration {
	return sorted[int(p*float64(len(sorted)-1))].Round(10 * time.Microsecond)
}

// flood puts large values into the first shard until ctx ends.
func (c *cluster) flood(ctx context.Context, written *atomic.Int64) {
	key, value := keyIn(0), strings.Repeat("x", 64<<10)
	for ctx.Err() == nil {
		switch err := c.nodes[1].put(ctx, key, value); {
		case err == nil:
			written.Add(int64(len(value)))
		case errors.Is(err, raft.ErrProposalDropped): // too much is under way
			time.Sleep(time.Millisecond)
		}
	}
}
