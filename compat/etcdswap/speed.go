package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// load is what is put into a cluster while it is measured.
type load struct {
	clients int // that each put one key after another
	bytes   int // of a value
}

func (l load) String() string {
	if l.bytes >= 1<<10 {
		return fmt.Sprintf("%d clients, %d KiB", l.clients, l.bytes>>10)
	}
	return fmt.Sprintf("%d clients, %d B", l.clients, l.bytes)
}

var loads = []load{{1, 256}, {64, 256}, {512, 256}, {64, 64 << 10}}

const (
	speedTime = time.Second // of each load on each cluster in each round
	// connections is how many a load uses; keys how many different ones it puts.
	connections = 8
	keys        = 4096
)

// speed is what a run, or the medians of some, came to.
type speed struct {
	puts float64       // a second
	p99  time.Duration // of a put
	cpu  time.Duration // of the three servers, for each put; 0: the system does not tell
}

// compareSpeed starts a cluster of either kind, and measures both with each load in turns.
func compareSpeed(ctx context.Context, work string, p programs, rounds int) (err error) {
	kinds := []kind{stock, swapped}
	clusters := map[kind]*etcdCluster{}
	defer func() {
		for _, c := range clusters {
			if err != nil {
				err = fmt.Errorf("%w\n%s", err, c.lastWords())
			}
			c.close()
		}
	}()
	for _, k := range kinds {
		dir, err := os.MkdirTemp(work, "speed-")
		if err != nil {
			return err
		}
		c := &etcdCluster{programs: p, dir: dir, fast: true}
		clusters[k] = c
		if err := c.bootstrap(ctx, []kind{k, k, k}); err != nil {
			return err
		}
		if err := eventually(ctx, "the first leads", func(ctx context.Context) error { return c.moveLeader(ctx, c.servers[0]) }); err != nil {
			return err
		}
	}
	runs := map[load]map[kind][]speed{}
	for _, l := range loads {
		runs[l] = map[kind][]speed{}
		for round := range rounds + 1 {
			slices.Reverse(kinds) // neither always comes first
			for _, k := range kinds {
				s, err := clusters[k].measure(ctx, l)
				if err != nil {
					return fmt.Errorf("%s, %s: %w", k, l, err)
				}
				if round > 0 { // the first is a warm-up
					runs[l][k] = append(runs[l][k], s)
				}
			}
		}
		show(l, medians(runs[l][stock]), medians(runs[l][swapped]))
	}
	return nil
}

// measure puts keys for a while.
func (c *etcdCluster) measure(ctx context.Context, l load) (speed, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	clients := make([]*clientv3.Client, min(connections, l.clients))
	for i := range clients {
		var err error
		if clients[i], err = newClient(c.clientURLs()...); err != nil {
			return speed{}, err
		}
		defer clients[i].Close()
	}
	value := strings.Repeat("v", l.bytes)
	var mu sync.Mutex
	var all []time.Duration
	before, cpuKnown := c.cpuTime()
	start := time.Now()
	var workers sync.WaitGroup
	for worker := range l.clients {
		workers.Go(func() {
			var took []time.Duration
			for n := worker; time.Since(start) < speedTime && ctx.Err() == nil; n += l.clients {
				began := time.Now()
				if _, err := clients[worker%len(clients)].Put(ctx, fmt.Sprintf("speed %06d", n%keys), value); err != nil {
					cancel(err)
					return
				}
				took = append(took, time.Since(began))
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, took...)
		})
	}
	workers.Wait()
	elapsed := time.Since(start)
	after, _ := c.cpuTime()
	if err := context.Cause(ctx); err != nil {
		return speed{}, err
	}
	slices.Sort(all)
	s := speed{puts: float64(len(all)) / elapsed.Seconds(), p99: all[len(all)*99/100]}
	if cpuKnown {
		s.cpu = (after - before) / time.Duration(len(all))
	}
	return s, nil
}

func (c *etcdCluster) clientURLs() (urls []string) {
	for _, s := range c.servers {
		urls = append(urls, s.clientURL)
	}
	return urls
}

// cpuTime is what the servers have used, and whether the system tells.
func (c *etcdCluster) cpuTime() (sum time.Duration, ok bool) {
	for _, s := range c.servers {
		d, err := cpuOf(s.cmd.Process.Pid)
		if err != nil {
			return 0, false
		}
		sum += d
	}
	return sum, true
}

// clockTick is the unit of /proc/PID/stat.
const clockTick = 10 * time.Millisecond

// cpuOf is the user and system time of a process, from Linux's /proc.
func cpuOf(pid int) (time.Duration, error) {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(text), ") ") // the name may have blanks
	fields := strings.Fields(rest)
	const user, system = 11, 12 // fields 14 and 15 of the line
	if len(fields) <= system {
		return 0, errors.New("a line that is too short")
	}
	var ticks int64
	for _, f := range fields[user : system+1] {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	return time.Duration(ticks) * clockTick, nil
}

func medians(all []speed) speed {
	return speed{
		puts: median(all, func(s speed) float64 { return s.puts }),
		p99:  time.Duration(median(all, func(s speed) float64 { return float64(s.p99) })),
		cpu:  time.Duration(median(all, func(s speed) float64 { return float64(s.cpu) })),
	}
}

func median(all []speed, of func(speed) float64) float64 {
	var values []float64
	for _, s := range all {
		values = append(values, of(s))
	}
	slices.Sort(values)
	return values[len(values)/2]
}

func show(l load, a, b speed) {
	fmt.Printf("  %s\n", l)
	for _, row := range []struct {
		kind kind
		speed
	}{{stock, a}, {swapped, b}} {
		fmt.Printf("    %-8s %8.0f puts/s, p99 %8s, CPU of the servers %8s a put\n", row.kind, row.puts, row.p99.Round(10*time.Microsecond), row.cpu.Round(time.Microsecond))
	}
	fmt.Printf("    swapped ÷ stock: %.2f, %.2f, %.2f\n", b.puts/a.puts, float64(b.p99)/float64(a.p99), float64(b.cpu)/float64(a.cpu))
}
