// Package demo takes a cluster of real processes through its life: it is
// founded, written to, loses its leader, grows, shrinks; and after all of it
// every member must have the same data, with nothing missing that was
// acknowledged.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"time"
)

// Options is how large a demo is.
type Options struct {
	Keys    int  // to write at first
	Clients int  // that write and read at once
	LoadMiB int  // to have before the fourth member joins
	Serve   bool // keep the cluster running at the end, until the context ends
}

// timeLimit is when something must be wrong.
const timeLimit = 5 * time.Minute

// demo is one run.
type demo struct {
	opts  Options
	out   io.Writer
	nodes *nodes
	acked *ledger

	results results
}

// results is what the table at the end shows.
type results struct {
	writeRate, readRate float64 // per second
	failOver            time.Duration
	catchUp             time.Duration
	snapshotBytes       int64
	snapshotTime        time.Duration // as the receiver saw it
	joined              time.Duration
	total               time.Duration
}

// Run runs the demo and prints to out what happens. It returns nil only if
// every step held. When it returns no process is left, and no file either,
// unless a step failed: then it says where the members' logs are.
func Run(ctx context.Context, out io.Writer, opts Options) error {
	if opts.Keys < 1 || opts.Clients < 1 || opts.LoadMiB < 1 {
		return errors.New("--keys, --clients and --load: want 1 or more")
	}
	// Where the system can do it, members are told to die with the thread that
	// started them (see procAttr).
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	dir, err := os.MkdirTemp("", "kv-demo-")
	if err != nil {
		return err
	}
	nodes, err := newNodes(dir)
	if err != nil {
		return errors.Join(err, os.RemoveAll(dir))
	}
	d := &demo{opts: opts, out: out, nodes: nodes, acked: &ledger{}}
	defer nodes.killAll()
	limited, cancel := context.WithTimeout(ctx, timeLimit)
	defer cancel()
	err = d.run(limited)
	if ctx.Err() != nil {
		nodes.killAll()
		return errors.Join(errors.New("interrupted"), os.RemoveAll(dir))
	}
	if err != nil {
		nodes.killAll()
		nodes.printLogs(out)
		return fmt.Errorf("%w (the members' logs and data are in %s)", err, dir)
	}
	if opts.Serve {
		d.serve(ctx)
	}
	nodes.killAll()
	return os.RemoveAll(dir)
}

// step is one part of the demo. It returns what there is to say about it.
type step struct {
	name string
	run  func(context.Context, *bar) (string, error)
}

func (d *demo) steps() []step {
	return []step{
		{"found a cluster of three, with mutual TLS", d.found},
		{fmt.Sprintf("write %s keys through all of them", count(d.opts.Keys)), d.write},
		{"read them back, linearizably", d.read},
		{"SIGKILL the leader while writing goes on", d.killLeader},
		{"restart it, and let it catch up", d.restart},
		{fmt.Sprintf("load to %d MiB, and compact the logs", d.opts.LoadMiB), d.load},
		{"add a fourth, which catches up by snapshot", d.join},
		{"remove a member, which stops by itself", d.remove},
		{"read every acknowledged write back", d.verify},
		{"compare what all members have", d.compare},
	}
}

func (d *demo) run(ctx context.Context) error {
	start := time.Now()
	fmt.Fprintf(d.out, "Watch it, while it runs, at %s\n\n", d.nodes.all[0].pageURL())
	steps := d.steps()
	for i, s := range steps {
		label := fmt.Sprintf("%2d/%d  %s", i+1, len(steps), s.name)
		b := startBar(d.out, label)
		detail, err := s.run(ctx, b)
		b.finish(detail, err)
		if err != nil {
			return fmt.Errorf("step %d, %s: %w", i+1, s.name, err)
		}
	}
	d.results.total = time.Since(start)
	return d.printTable(ctx)
}

// serve keeps the cluster running until ctx ends.
func (d *demo) serve(ctx context.Context) {
	fmt.Fprintf(d.out, "\nThe cluster keeps running until you press Ctrl-C. Talk to it with:\n\n")
	self, err := os.Executable()
	if err != nil {
		self = "kv"
	}
	fmt.Fprintf(d.out, "  %s members -endpoints %s\n", self, d.nodes.endpoints())
	fmt.Fprintf(d.out, "  %s status -endpoints %s\n\n", self, d.nodes.endpoints())
	for _, n := range d.nodes.running() {
		fmt.Fprintf(d.out, "member %d  clients %s  peers %s  log %s\n", n.id, n.clientURL, n.peerURL, filepath.Join(n.dir, logName))
		fmt.Fprintf(d.out, "          page %s  metrics %s/metrics\n", n.pageURL(), n.clientURL)
	}
	<-ctx.Done()
}
