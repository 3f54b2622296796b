// Command bench measures raft transports side by side: see README.md.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"

	"github.com/seed-4d73690b/rafthttp/bench/report"
	"github.com/seed-4d73690b/rafthttp/bench/runner"
	"github.com/seed-4d73690b/rafthttp/bench/scenario"
	"github.com/seed-4d73690b/rafthttp/bench/system"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) > 0 && args[0] == runner.ChildArgument {
		return runner.Child(os.Stdin, os.Stdout)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	plan := runner.Plan{Timing: scenario.Default, Progress: os.Stderr}
	scenarios := flags.String("scenarios", "", "comma-separated; F means FA and FC; empty means all")
	systems := flags.String("systems", "", "comma-separated names; empty means all")
	flags.IntVar(&plan.Rounds, "rounds", 5, "runs of each system in each scenario")
	flags.DurationVar(&plan.Timing.WarmUp, "warmup", plan.Timing.WarmUp, "before each measurement")
	flags.DurationVar(&plan.Timing.Measure, "measure", plan.Timing.Measure, "how long each run is measured")
	flags.StringVar(&plan.Profiles, "profiles", "", "folder for profiles of each run; empty means none")
	out := flags.String("out", "", "folder for results.md and results.json; empty means none")
	if err := flags.Parse(args); err != nil {
		return err
	}
	var err error
	if plan.Scenarios, err = scenario.Select(*scenarios); err != nil {
		return err
	}
	if plan.Systems, err = system.Select(*systems); err != nil {
		return err
	}
	if plan.Profiles != "" {
		if err := os.MkdirAll(plan.Profiles, 0o755); err != nil {
			return err
		}
	}
	samples, err := runner.Run(ctx, plan)
	if err != nil {
		return err
	}
	var table strings.Builder
	report.Table(&table, report.Summarize(samples), plan.Scenarios, plan.Systems)
	fmt.Print(table.String())
	if *out == "" {
		return nil
	}
	return save(*out, table.String(), samples)
}

func save(dir, table string, samples []report.Sample) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	var raw bytes.Buffer
	enc := json.NewEncoder(&raw)
	enc.SetIndent("", " ")
	if err := enc.Encode(samples); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "results.json"), raw.Bytes(), 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "results.md"), []byte(table), 0o644)
}
