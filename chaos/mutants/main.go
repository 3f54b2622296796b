// Command mutants holds the simulation of the transport's promises (package promise) to wrong libraries: each has one defect, and
// the simulation must notice it. Defects of raft groups are for that of many groups (package groups).
//
//	go run ./mutants -mutant message-lost -seeds 100
//
// A mutant is the library with some text replaced, given to the compiler as an overlay: no file is changed. Mutants that differ
// in the bodies of functions are compiled together, which takes as long as one: each such function exists once more for each
// mutant, and a variable of the environment says which one is called. Mutants that change declarations are compiled alone, and
// so is a single one. Seeds are tried one after another until a judge notices; the table says which, and after how many. A
// mutant that nothing notices is a missing judge, or a missing kind of trouble.
//
// The right library is tried first, and must pass: it is the one with the mutants, of which none is chosen. A mutant counts as noticed if the test fails, if it panics, or if the bubble
// in which it runs reports a deadlock. One that runs into the timeout does not count: a simulation that hangs has to say so by
// itself.
//
// With -shrink, a failure of each judge is cut to the shortest plan that still fails, and printed as a test, which may have ten
// lines at most.
//
// The exit code is 0 only if every mutant was noticed.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

// options are the flags.
type options struct {
	root    string
	names   string
	seed    uint64
	seeds   int
	jobs    int
	timeout time.Duration
	tags    string
	test    string
	write   string
	list    bool
	check   bool
	right   bool
	shrink  bool
	verbose bool
}

func main() {
	var o options
	flag.StringVar(&o.root, "root", "..", "the `folder` of the library")
	flag.StringVar(&o.names, "mutant", "", "only those with these `names`, separated by commas")
	flag.Uint64Var(&o.seed, "seed", 1, "the first seed")
	flag.IntVar(&o.seeds, "seeds", 100, "how many seeds, at most")
	flag.IntVar(&o.jobs, "jobs", 2, "how many mutants at once")
	flag.DurationVar(&o.timeout, "timeout", 6*time.Minute, "how long the seeds of one mutant may take")
	flag.StringVar(&o.tags, "tags", "", "build `tags`")
	flag.StringVar(&o.test, "test", "", "the `tests` of the simulation to run, instead of its own")
	flag.StringVar(&o.write, "write", "", "write the table to this `file`, between its markers")
	flag.BoolVar(&o.list, "list", false, "only list the mutants")
	flag.BoolVar(&o.check, "check", false, "only check the types of the libraries, which takes some seconds")
	flag.BoolVar(&o.right, "right", true, "try the right library, which must pass")
	flag.BoolVar(&o.shrink, "shrink", false, "shrink a failure of each judge, with a mutant that it notices, to ten lines at most")
	flag.BoolVar(&o.verbose, "v", false, "print what the simulation says of each")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1) //nolint:gocritic // stop has nothing left to do
	}
}

func run(ctx context.Context, o options, out io.Writer) error {
	chosen, err := choose(o.names)
	if err != nil {
		return err
	}
	if o.list {
		for _, m := range chosen {
			fmt.Fprintf(out, "%-30s %s\n", m.name, m.wrong)
		}
		return nil
	}
	if o.root, err = filepath.Abs(o.root); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "mutants-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	r := &runner{options: o, dir: dir, chaos: filepath.Join(o.root, "chaos"), out: out}
	if o.shrink {
		return r.shrinkAll(ctx)
	}
	began := time.Now()
	results, err := r.all(ctx, chosen)
	if err != nil {
		return err
	}
	unnoticed := 0
	for _, res := range results {
		if !res.noticed {
			unnoticed++
		}
	}
	if o.check {
		fmt.Fprintf(out, "%d of %d mutants have no type errors\n", len(results)-unnoticed, len(results))
		if unnoticed > 0 {
			return errors.New("some mutants do not compile")
		}
		return nil
	}
	fmt.Fprintf(out, "%d of %d mutants noticed within %d seeds, in %v\n", len(results)-unnoticed, len(results), o.seeds, time.Since(began).Round(time.Second))
	if o.write != "" {
		if err := writeTable(o.write, table(results, o)); err != nil {
			return err
		}
	}
	if unnoticed > 0 {
		return fmt.Errorf("%d mutants were not noticed", unnoticed)
	}
	return nil
}
