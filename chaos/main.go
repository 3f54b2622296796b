//go:build unix

// Command chaos runs a cluster of five processes of examples/kv, does to it what networks, disks, clocks and operators do,
// and checks what clients saw.
//
//	go run . -time 3m
//
// Clients write, read, and compare and swap, while a nemesis composes faults at random, many at once, from a seed that is
// printed. Every 45 seconds everything is mended, and within a minute
//
//   - all members must run, agree on a leader, and have applied the same with equal contents (SHA-256),
//   - all streams between them must be up and all queues empty,
//   - the history of every key must be linearizable (package porcupine), with what clients do not know the end of,
//   - every acknowledged write must be there, also those of all eras before,
//   - no process may have more goroutines or descriptors than before the first fault, and some,
//   - and no process may ever have ended by itself, unless its disk was full or it was removed from the cluster.
//
// The exit code is 0 only then. Otherwise logs, events, history and data are kept in a folder that is printed.
//
// With -groups the processes are of chaos/shards, which has 50 raft groups of three replicas over the Transports of the five
// nodes. Its replicas move between nodes, and each group must be well and equal.
//
// Each member is in a network namespace of its own, and its disk is a small file system of its own; nothing of that is
// visible outside of the program, or outlives it. It needs to be root, or a user who may make namespaces. Where neither is
// to be had, members are on the loopback interface and reach each other through TCP proxies (memnet/faultproxy), and some
// faults are left out. What is left out is printed.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/seed-4d73690b/rafthttp/chaos/internal/wallclock"
)

// options are the flags.
type options struct {
	time    time.Duration
	seed    uint64
	kv      string // the folder of its source
	proxies bool
	race    bool
	groups  bool
}

const interruptedCode = 130 // as of a program that Ctrl-C ends

func main() {
	var o options
	flag.DurationVar(&o.time, "time", 3*time.Minute, "how long to go on")
	flag.Uint64Var(&o.seed, "seed", 0, "what the faults, and the flags of kv, are drawn from; 0: any")
	flag.StringVar(&o.kv, "kv", filepath.Join("..", "examples", "kv"), "the `folder` of the source of kv")
	flag.BoolVar(&o.proxies, "proxies", false, "do not make network namespaces, also where they can be had")
	flag.BoolVar(&o.race, "race", false, "build kv with the race detector")
	flag.BoolVar(&o.groups, "groups", false, "run shards, which has 50 raft groups, in the place of kv")
	flag.Parse()
	if o.groups {
		o.kv = "shards"
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, o, os.Stdout))
}

// run returns the exit code. It does what needs the machine's own network, and then runs the trial, in namespaces if
// these are to be had.
func run(ctx context.Context, o options, out io.Writer) int {
	if dir := inside(); dir != "" {
		return trialIn(ctx, o, dir, out)
	}
	if o.seed == 0 {
		o.seed = rand.Uint64N(1_000_000_000) + 1
	}
	dir, err := os.MkdirTemp("", fmt.Sprintf("chaos-%d-", o.seed))
	if err == nil {
		err = build(ctx, o, dir)
	}
	if err != nil {
		fmt.Fprintf(out, "FAILED: %v\n", err)
		return 1
	}
	code, ok := 0, false
	if !o.proxies {
		if code, ok, err = enter(ctx, dir, o.seed); !ok {
			fmt.Fprintf(out, "no network namespaces (%v): proxies take their place\n", err)
		}
	}
	if !ok {
		err = nil
		o.proxies = true
		code = trialIn(ctx, o, dir, out)
	}
	if code == 0 || code == interruptedCode {
		err = os.RemoveAll(dir)
	}
	if err != nil {
		fmt.Fprintln(out, err)
	}
	return code
}

// trialIn runs one trial of the program that is in a folder, and returns the exit code.
func trialIn(ctx context.Context, o options, dir string, out io.Writer) int {
	net, err := newFabric(o)
	if err != nil && !o.proxies {
		fmt.Fprintln(out, err)
		return cannot
	}
	if err == nil {
		err = chaos(ctx, o, net, dir, out)
	}
	if errors.Is(err, errInterrupted) {
		fmt.Fprintln(out, "result: no violation, until it was interrupted")
		return interruptedCode
	}
	if err != nil {
		fmt.Fprintf(out, "FAILED: %v\nlogs, events, history and data are in %s\n", err, dir)
		return 1
	}
	fmt.Fprintln(out, "result: no violation")
	return 0
}

func newFabric(o options) (fabric, error) {
	if o.proxies {
		return newProxied(o.seed)
	}
	return newSwitched(o.seed)
}

// chaos runs one trial.
func chaos(ctx context.Context, o options, net fabric, dir string, out io.Writer) error {
	kv := filepath.Join(dir, program)
	clock, err := wallclock.Find(kv)
	if err != nil {
		clock = nil
	}
	c, err := newCluster(dir, kv, o.groups, net, clock, o.seed)
	if err != nil {
		return err
	}
	c.certs.pieces = rand.New(rand.NewPCG(o.seed, 2)) // from now on
	faults, missing := faultsFor(c)
	place := "in network namespaces"
	if o.proxies {
		place = "behind proxies"
	}
	fmt.Fprintf(out, "seed %d, %v, %d members %s; logs in %s\nfaults: %s\n", o.seed, o.time, size, place, dir, kindNames(faults))
	for _, m := range missing {
		fmt.Fprintf(out, "left out: %s\n", m)
	}
	t := newTrial(c, o.seed, faults, out)
	err = t.run(ctx, o.time)
	if err == nil && t.report.checked == 0 {
		err = errors.New("nothing was checked")
	}
	for _, m := range c.members {
		t.report.starts += m.restarts
		t.report.async += m.count(asyncFlag)
		t.report.snapshots += m.count("\tinstalled snapshot\t")
	}
	t.report.packets, t.report.moved = net.counts(), c.moved.Load()
	fmt.Fprint(out, t.report.String())
	if err != nil && !errors.Is(err, errInterrupted) {
		err = errors.Join(fmt.Errorf("seed %d: %w", o.seed, err), c.keepData())
	}
	return errors.Join(err, c.close())
}

// program is kv's name in the folder of a trial.
const program = "kv"

// build builds kv, with a clock that can be set if that can be had.
func build(ctx context.Context, o options, dir string) error {
	args := []string{"build", "-buildvcs=false", "-o", filepath.Join(dir, program)}
	if o.race {
		args = append(args, "-race")
	}
	if overlay, err := wallclock.Overlay(dir); err == nil {
		cmd := exec.CommandContext(ctx, "go", append(args, "-overlay", overlay, ".")...)
		cmd.Dir = o.kv
		if cmd.Run() == nil {
			return nil
		}
	}
	cmd := exec.CommandContext(ctx, "go", append(args, ".")...)
	cmd.Dir = o.kv
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build in %s: %w\n%s", o.kv, err, text)
	}
	return nil
}

// keepData ends all members, and copies what they have to where it outlives this process.
func (c *cluster) keepData() error {
	var errs []error
	for _, m := range c.members {
		m.retire()
		errs = append(errs, os.CopyFS(filepath.Join(c.dir, "data-of-member-"+m.name()), os.DirFS(m.dataDir())))
	}
	return errors.Join(errs...)
}
