package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"
)

// runner compiles mutants and runs the simulation with them.
type runner struct {
	options
	dir     string   // for what is built
	chaos   string   // the folder of the module of the simulation
	checker *checker // nil: types are not checked

	together *together              // the mutants that are compiled together; nil: none are
	binaries map[*simulation]string // with those

	mu  sync.Mutex
	out io.Writer
}

// result is what became of one mutant.
type result struct {
	mutant
	finding
	compile, took time.Duration
}

// rights are the library as it is, in each simulation.
var rights = []mutant{{name: "none", wrong: "nothing"}, {name: "none-of-groups", wrong: "nothing", in: manyGroups}}

// needed reports whether one of the chosen mutants is in the same simulation.
func (m mutant) needed(chosen []mutant) bool {
	return slices.ContainsFunc(chosen, func(o mutant) bool { return o.simulation() == m.simulation() })
}

// all runs the right library, which must pass, and then the mutants.
func (r *runner) all(ctx context.Context, chosen []mutant) ([]result, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if r.check {
		var err error
		if r.checker, err = newChecker(ctx, r.root, r.tags); err != nil {
			return nil, err
		}
	} else if err := r.compileTogether(ctx, chosen); err != nil {
		return nil, err
	}
	results := make([]result, len(chosen))
	work := make(chan int)
	var workers sync.WaitGroup
	for range max(1, r.jobs) {
		workers.Go(func() {
			for i := range work {
				res, err := r.one(ctx, i, chosen)
				if err != nil {
					cancel(err)
					continue
				}
				if i >= 0 {
					results[i] = res
				}
			}
		})
	}
	first := -len(rights)
	if r.check || !r.right {
		first = 0
	}
	for i := first; i < len(chosen) && ctx.Err() == nil; i++ {
		select {
		case work <- i:
		case <-ctx.Done():
		}
	}
	close(work)
	workers.Wait()
	return results, context.Cause(ctx)
}

// one runs the mutant i, or the right library below 0. An error ends everything.
func (r *runner) one(ctx context.Context, i int, chosen []mutant) (result, error) {
	var m mutant
	if i >= 0 {
		m = chosen[i]
	} else if m = rights[-1-i]; !m.needed(chosen) {
		return result{}, nil
	}
	if r.check { // all errors are of interest
		err := r.checker.check(m)
		if err != nil {
			r.print("%v\n", err)
		}
		return result{mutant: m, finding: finding{noticed: err == nil}}, nil
	}
	res, output, err := r.try(ctx, m)
	switch {
	case err != nil:
		return res, err
	case i < 0 && (res.noticed || res.hung):
		return res, fmt.Errorf("the right library does not pass:\n%s", tail(output))
	case i < 0:
		r.print("%-30s passes %d seeds in %v\n", "the right library", r.seedsOf(m), res.took.Round(time.Second))
		return res, nil
	}
	compiled := ""
	if res.compile > 0 {
		compiled = fmt.Sprintf("compiled alone in %.0f s, ", res.compile.Seconds())
	}
	r.print("%-30s %s (%sran %.1f s)\n", m.name, res.finding.text(), compiled, res.took.Seconds())
	if r.verbose {
		r.print("%s\n", tail(output))
	}
	return res, nil
}

func (r *runner) print(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	fmt.Fprintf(r.out, format, args...)
}

// try runs the simulation with a mutant until it fails, with more flags. It compiles the mutant if that was not done together with
// others.
func (r *runner) try(ctx context.Context, m mutant, flags ...string) (res result, output []byte, err error) {
	res.mutant = m
	binary := r.binaryOf(m)
	if binary == "" {
		dir := filepath.Join(r.dir, m.name)
		if err := os.Mkdir(dir, 0o700); err != nil {
			return res, nil, err
		}
		defer os.RemoveAll(dir)
		begun := time.Now()
		if binary, err = r.compileAlone(ctx, m, dir); err != nil {
			return res, nil, err
		}
		res.compile = time.Since(begun)
	}
	begun := time.Now()
	output, res.hung, err = r.simulate(ctx, m, binary, flags)
	res.took = time.Since(begun)
	if ctx.Err() != nil {
		return res, nil, context.Cause(ctx)
	}
	res.finding.look(output, err, r.seed)
	return res, output, nil
}

// maxOutput bounds what is kept of the output of a simulation.
const maxOutput = 64 << 20

// seedsOf returns how many seeds a mutant is tried with.
func (r *runner) seedsOf(m mutant) int {
	if len(m.edits) == 0 {
		return min(r.seeds, m.simulation().right)
	}
	return r.seeds
}

// simulate runs the seeds. Its error is that of the test.
func (r *runner) simulate(ctx context.Context, m mutant, binary string, flags []string) (output []byte, hung bool, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, r.timeout, errHung)
	defer cancel()
	sim := m.simulation()
	args := []string{"-test.run", cmp.Or(r.test, sim.test), "-test.v", "-test.timeout", "0"}
	args = append(args, "-seed", strconv.FormatUint(r.seed, 10), "-seeds", strconv.Itoa(r.seedsOf(m)))
	args = append(args, sim.flags...)
	cmd := exec.CommandContext(ctx, binary, append(args, flags...)...)
	cmd.Dir = filepath.Join(r.chaos, sim.name)
	cmd.Env = append(os.Environ(), "GOMAXPROCS=1", chosenVariable+"="+m.chosen()) // one processor takes a third less: jobs are what runs at once
	cmd.WaitDelay = time.Second
	var b limited
	cmd.Stdout, cmd.Stderr = &b, &b
	err = cmd.Run()
	return b.Bytes(), errors.Is(context.Cause(ctx), errHung), err
}

var errHung = errors.New("the simulation hangs")

// limited keeps the beginning of what is written to it.
type limited struct{ bytes.Buffer }

func (l *limited) Write(p []byte) (int, error) {
	if room := maxOutput - l.Len(); room > 0 {
		l.Buffer.Write(p[:min(len(p), room)])
	}
	return len(p), nil
}

// tail returns the end of an output that may be long.
func tail(output []byte) []byte {
	const most = 8 << 10
	return output[max(0, len(output)-most):]
}
