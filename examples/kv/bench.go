package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-4d73690b/rafthttp/examples/kv/internal/client"
)

func benchCommand(flags *flag.FlagSet) func(context.Context, []string) error {
	conn := connectionFlags(flags)
	clients := flags.Int("clients", 128, "`number` of clients at once")
	total := flags.Int("total", 20_000, "`number` of writes, and then of reads")
	size := flags.Int("size", 128, "size of a value, in `bytes`")
	stale := flags.Bool("stale", false, "read without asking the group")
	return func(ctx context.Context, args []string) error {
		if err := noArguments(args); err != nil {
			return err
		}
		if *clients < 1 || *total < 1 || *size < 0 {
			return errors.New("--clients and --total: want 1 or more; --size: 0 or more")
		}
		if !flagGiven(flags, "timeout") {
			conn.timeout = 10 * time.Minute // of the whole run
		}
		return conn.with(ctx, func(ctx context.Context, c *client.Client) error {
			value := []byte(strings.Repeat("x", *size))
			err := measure(ctx, "writes", *clients, *total, c, func(c *client.Client, key string) error {
				_, err := c.Put(ctx, key, value)
				return err
			})
			if err != nil {
				return err
			}
			return measure(ctx, "reads", *clients, *total, c, func(c *client.Client, key string) error {
				_, err := c.Get(ctx, key, *stale)
				return err
			})
		})
	}
}

func flagGiven(flags *flag.FlagSet, name string) (given bool) {
	flags.Visit(func(f *flag.Flag) { given = given || f.Name == name })
	return given
}

// measure does something total times, with many clients at once, and prints how
// long that took.
func measure(ctx context.Context, what string, clients, total int, c *client.Client, do func(*client.Client, string) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	times := make([]time.Duration, total)
	var next atomic.Int64
	var workers sync.WaitGroup
	start := time.Now()
	for w := range clients {
		mine := c.StartingAt(w)
		workers.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= total || ctx.Err() != nil {
					return
				}
				began := time.Now()
				if err := do(mine, fmt.Sprintf("bench/%d", i)); err != nil {
					cancel(err)
					return
				}
				times[i] = time.Since(began)
			}
		})
	}
	workers.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	took := time.Since(start)
	slices.Sort(times)
	at := func(p float64) time.Duration { return times[int(p*float64(total-1))].Round(10 * time.Microsecond) }
	fmt.Printf("%d %s in %.2fs: %.0f/s, median %v, 99%% within %v, longest %v\n",
		total, what, took.Seconds(), float64(total)/took.Seconds(), at(.5), at(.99), at(1))
	return nil
}
