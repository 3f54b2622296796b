package main

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"time"
)

// library is its path.
const library = "github.com/seed-4d73690b/rafthttp"

// compileTogether compiles those of the mutants that can be compiled together, for each simulation that they are for.
func (r *runner) compileTogether(ctx context.Context, chosen []mutant) error {
	with, alone, err := join(r.root, chosen)
	if err != nil {
		return err
	}
	if len(with.mutants) < 2 {
		return nil // what is compiled alone is nearer to the text
	}
	overlay, err := writeOverlay(with.overlay(), r.dir)
	if err != nil {
		return err
	}
	begun := time.Now()
	r.together, r.binaries = with, map[*simulation]string{}
	for _, sim := range []*simulation{promises, manyGroups} {
		isOf := func(m mutant) bool { return m.simulation() == sim && with.mutants[m.name] }
		if !slices.ContainsFunc(chosen, isOf) {
			continue
		}
		binary := filepath.Join(r.dir, sim.name+".test")
		if err := r.compile(ctx, sim, overlay, binary); err != nil {
			return fmt.Errorf("the mutants that are compiled together: %w", err)
		}
		r.binaries[sim] = binary
	}
	r.print("%d mutants compiled together in %.0f s; alone: %d\n", len(with.mutants), time.Since(begun).Seconds(), len(alone))
	if r.verbose {
		for _, why := range alone {
			r.print("%v\n", why)
		}
	}
	return nil
}

// binaryOf returns the binary with mutants together if the mutant is one of them, or is the right library.
func (r *runner) binaryOf(m mutant) string {
	if len(m.edits) > 0 && (r.together == nil || !r.together.mutants[m.name]) {
		return ""
	}
	return r.binaries[m.simulation()]
}

// compileAlone compiles the simulation with one mutant, in the folder dir.
func (r *runner) compileAlone(ctx context.Context, m mutant, dir string) (binary string, err error) {
	overlay := ""
	if len(m.edits) > 0 {
		files, err := m.apply(r.root)
		if err != nil {
			return "", err
		}
		if overlay, err = writeOverlay(files, dir); err != nil {
			return "", err
		}
	}
	binary = filepath.Join(dir, "alone.test")
	if err = r.compile(ctx, m.simulation(), overlay, binary); err != nil {
		return "", fmt.Errorf("mutant %s: %w", m.name, err)
	}
	return binary, nil
}

// compile compiles a simulation of the library that an overlay changes, if there is one.
func (r *runner) compile(ctx context.Context, sim *simulation, overlay, binary string) error {
	cmd := exec.CommandContext(ctx, "go", "test", "-c", "-o", binary, "-vet=off", "-ldflags", "-s -w",
		"-gcflags", library+"/...=-dwarf=false", "-tags", r.tags, "-overlay", overlay, "./"+sim.name)
	cmd.Dir = r.chaos
	if output, err := cmd.CombinedOutput(); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return fmt.Errorf("it does not compile: %w\n%s", err, tail(output))
	}
	return nil
}

// chosen returns what the variable of the environment has to be.
func (m mutant) chosen() string {
	if len(m.edits) == 0 {
		return ""
	}
	return m.name
}
