// Command bench measures raft transports side by side: see README.md.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"

	"github.com/seed-4d73690b/rafthttp/bench/manygroups"
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
	if len(args) > 0 && args[0] == manygroups.NodeArgument {
		return manygroups.Node(os.Stdin, os.Stdout)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	plan := runner.Plan{Settings: scenario.Default, Progress: os.Stderr}
	scenarios := flags.String("scenarios", "", "comma-separated; F means FA and FC, S all snapshots, slow all that begin with slow-; empty means all")
	systems := flags.String("systems", "", "comma-separated names; empty means all")
	flags.IntVar(&plan.Rounds, "rounds", 5, "runs of each system in each scenario")
	flags.DurationVar(&plan.Settings.WarmUp, "warmup", plan.Settings.WarmUp, "before each measurement")
	flags.DurationVar(&plan.Settings.Measure, "measure", plan.Settings.Measure, "how long each run is measured")
	heap := flags.Int("heap", plan.Settings.Heap>>20, "MiB that each process holds besides what is measured")
	flags.StringVar(&plan.DiskDir, "disk", os.TempDir(), "where on a disk snapshots may be")
	flags.StringVar(&plan.MemoryDir, "memory", "/dev/shm", "where in memory they may be")
	flags.StringVar(&plan.Profiles, "profiles", "", "folder for profiles of each run; empty means none")
	out := flags.String("out", "", "folder for tables, charts and samples; empty means none")
	check := flags.Bool("check", false, "fail if ours misses a floor")
	growth := flags.Bool("growth", false, "measure while peers, sizes and processors grow; -scenarios names series then")
	again := flags.String("render", "", "samples of an earlier run, to be rendered again instead of measuring")
	groups := flags.Int("groups", 0, "measure that many idle raft groups on three nodes in processes of their own, and nothing else")
	kinds := flags.String("groups-measure", "idle", "comma-separated: idle, flood (heartbeats of others while a group floods), loss (until all groups know of a lost node)")
	parts := flags.Int("spread", 1, "over how many parts of an interval the heartbeats of -groups are spread; 1 is one ticker for all groups")
	if err := flags.Parse(args); err != nil {
		return err
	}
	plan.Settings.Heap = *heap << 20
	if *groups > 0 {
		return runGroups(ctx, manygroups.Plan{Groups: *groups, Parts: *parts, Heap: plan.Settings.Heap, Measure: 4 * plan.Settings.Measure, Rounds: plan.Rounds, Profiles: plan.Profiles}, *kinds)
	}
	if *growth {
		return runGrowth(ctx, plan, *scenarios, *again, *out)
	}
	var err error
	if plan.Scenarios, err = scenario.Select(*scenarios); err != nil {
		return err
	}
	if plan.Systems, err = system.Select(*systems); err != nil {
		return err
	}
	env, samples, err := measure(ctx, plan, *again)
	if err != nil {
		return err
	}
	return show(plan, env, samples, *out, *check)
}

func runGroups(ctx context.Context, p manygroups.Plan, kinds string) (err error) {
	var runs []func(context.Context, io.Writer, manygroups.Plan) error
	for kind := range strings.SplitSeq(kinds, ",") {
		run, ok := map[string]func(context.Context, io.Writer, manygroups.Plan) error{
			"idle": manygroups.Run, "flood": manygroups.RunFlood, "loss": manygroups.RunLoss,
		}[kind]
		if !ok {
			return fmt.Errorf("-groups-measure: there is no %q", kind)
		}
		runs = append(runs, run)
	}
	if p.Program, err = os.Executable(); err != nil {
		return err
	}
	if p.Profiles != "" {
		if err := os.MkdirAll(p.Profiles, 0o755); err != nil {
			return err
		}
	}
	for _, run := range runs {
		if err := run(ctx, os.Stdout, p); err != nil {
			return err
		}
	}
	return nil
}

func runGrowth(ctx context.Context, plan runner.Plan, list, earlier, out string) error {
	series, err := scenario.SelectSeries(list)
	if err != nil {
		return err
	}
	var env report.Environment
	var samples []report.Sample
	if earlier != "" {
		env, samples, err = report.Load(earlier)
	} else {
		load := report.LoadAverage()
		samples, err = runner.RunGrowth(ctx, runner.GrowthPlan{Series: series, Rounds: plan.Rounds, Settings: plan.Settings, Progress: plan.Progress})
		env = report.Here(fmt.Sprintf("make bench-growth ROUNDS=%d", plan.Rounds), load, system.All())
	}
	if err != nil {
		return err
	}
	fmt.Println(env)
	r := report.Summarize(samples)
	for _, s := range series {
		fmt.Printf("\n%s\n\n", s.Title)
		report.GrowthTable(os.Stdout, r, s)
	}
	if out == "" {
		return nil
	}
	return report.SaveGrowth(out, env, samples, series)
}

// measure runs the plan, or reads what an earlier run has measured.
func measure(ctx context.Context, plan runner.Plan, earlier string) (report.Environment, []report.Sample, error) {
	if earlier != "" {
		return report.Load(earlier)
	}
	if plan.Profiles != "" {
		if err := os.MkdirAll(plan.Profiles, 0o755); err != nil {
			return report.Environment{}, nil, err
		}
	}
	load := report.LoadAverage()
	samples, err := runner.Run(ctx, plan)
	return report.Here(fmt.Sprintf("make bench ROUNDS=%d", plan.Rounds), load, plan.Systems), samples, err
}

func show(plan runner.Plan, env report.Environment, samples []report.Sample, out string, check bool) error {
	r := report.Summarize(samples)
	fmt.Println(env)
	report.Tables(os.Stdout, r, plan.Scenarios, plan.Systems)
	fmt.Println()
	missed := report.Check(os.Stdout, r, plan.Scenarios, report.Floors)
	if out != "" {
		if err := report.Save(out, env, samples, plan.Scenarios, plan.Systems); err != nil {
			return err
		}
	}
	if check && missed > 0 {
		return fmt.Errorf("%d floors are missed", missed)
	}
	return nil
}
