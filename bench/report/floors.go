package report

import (
	"fmt"
	"io"

	"github.com/seed-4d73690b/rafthttp/bench/scenario"
)

// Floor is what ours must reach in a scenario: a ratio to another system, or a figure of its own.
type Floor struct {
	Scenario string
	Metric   scenario.Metric
	To       string // the other system; empty: the limit is a figure
	AtMost   bool   // else at least
	Limit    float64
}

// Floors are what this library promises, as ratios of medians from one run.
var Floors = []Floor{
	{Scenario: "A", Metric: scenario.Rate, To: Upstream, Limit: 4.5},
	{Scenario: "A", Metric: scenario.CPU, To: Upstream, AtMost: true, Limit: 0.2},
	{Scenario: "A", Metric: scenario.Allocs, AtMost: true, Limit: 2.1},
	{Scenario: "B", Metric: scenario.Rate, To: Upstream, Limit: 3.2},
	{Scenario: "B", Metric: scenario.Rate, To: "grpc", Limit: 1.5},
	{Scenario: "B", Metric: scenario.Allocs, AtMost: true, Limit: 8},
	{Scenario: "C", Metric: scenario.Data, To: Upstream, Limit: 1.35},
	{Scenario: "C", Metric: scenario.Data, To: Bare, Limit: 1},
	{Scenario: "C", Metric: scenario.Bytes, AtMost: true, Limit: 1.05},
	{Scenario: "C'", Metric: scenario.Data, To: Upstream, Limit: 0.97},
	{Scenario: "C'", Metric: scenario.Bytes, AtMost: true, Limit: 1.05},
	{Scenario: "D", Metric: scenario.Median, To: Upstream, AtMost: true, Limit: 0.85},
	{Scenario: "D", Metric: scenario.Median, To: Bare, AtMost: true, Limit: 1.35},
	{Scenario: "E", Metric: scenario.TailBulk, To: Upstream, AtMost: true, Limit: 0.35},
	{Scenario: "E", Metric: scenario.Bulk, To: Upstream, Limit: 1.3},
	{Scenario: "FA", Metric: scenario.Rate, To: Upstream, Limit: 4},
	{Scenario: "FC", Metric: scenario.Data, To: Upstream, Limit: 1.1},
	{Scenario: "FC", Metric: scenario.Data, To: Bare, Limit: 0.85},
	{Scenario: "G", Metric: scenario.Goroutines, AtMost: true, Limit: 9},
	{Scenario: "G", Metric: scenario.Heap, AtMost: true, Limit: 64},
	{Scenario: "G", Metric: scenario.IdleCPU, AtMost: true, Limit: 0.3},
	{Scenario: "H", Metric: scenario.Rate, To: Upstream, Limit: 4.5},
	{Scenario: "SD", Metric: scenario.FileRate, To: Upstream, Limit: 1.5},
	{Scenario: "SD", Metric: scenario.FileRate, To: Bare, Limit: 0.95},
	{Scenario: "SD", Metric: scenario.FileCPU, To: Upstream, AtMost: true, Limit: 0.75},
	{Scenario: "SD", Metric: scenario.Peak, AtMost: true, Limit: 8},
	{Scenario: "SM", Metric: scenario.FileRate, To: Upstream, Limit: 1.3},
	{Scenario: "SM", Metric: scenario.FileRate, To: Bare, Limit: 0.95},
	{Scenario: "SM", Metric: scenario.FileCPU, To: Upstream, AtMost: true, Limit: 0.75},
	{Scenario: "SM", Metric: scenario.Peak, AtMost: true, Limit: 8},
	{Scenario: "SDC", Metric: scenario.FileRate, To: Bare, Limit: 0.85},
	{Scenario: "SMC", Metric: scenario.FileRate, To: Bare, Limit: 0.85},
	{Scenario: "SH", Metric: scenario.Slowdown, AtMost: true, Limit: 2},
	{Scenario: "small-1", Metric: scenario.RoundCPU, To: Upstream, AtMost: true, Limit: 0.85},
	{Scenario: "small-1", Metric: scenario.Tail, To: Upstream, AtMost: true, Limit: 1},
	{Scenario: "small-8", Metric: scenario.RoundCPU, To: Upstream, AtMost: true, Limit: 0.7},
	{Scenario: "small-8", Metric: scenario.Tail, To: Upstream, AtMost: true, Limit: 0.8},
	{Scenario: "small-64", Metric: scenario.RoundCPU, To: Upstream, AtMost: true, Limit: 0.5},
	{Scenario: "small-64", Metric: scenario.Tail, To: Upstream, AtMost: true, Limit: 0.8},
	{Scenario: "small-512", Metric: scenario.RoundCPU, To: Upstream, AtMost: true, Limit: 0.5},
	{Scenario: "small-512", Metric: scenario.Tail, To: Upstream, AtMost: true, Limit: 0.8},
	{Scenario: "slow-line", Metric: scenario.Share, Limit: 0.95},
	{Scenario: "slow-line", Metric: scenario.Waste, AtMost: true, Limit: 1.05},
	{Scenario: "slow-rejoin", Metric: scenario.Share, Limit: 0.95},
	{Scenario: "slow-rejoin", Metric: scenario.Waste, AtMost: true, Limit: 1.05},
	{Scenario: "slow-process", Metric: scenario.Share, Limit: 0.95},
	{Scenario: "slow-process", Metric: scenario.Waste, AtMost: true, Limit: 1.05},
	{Scenario: "slow-long-line", Metric: scenario.Share, Limit: 0.95},
	{Scenario: "slow-long-line", Metric: scenario.Waste, AtMost: true, Limit: 1.05},
	{Scenario: "slow-stalls", Metric: scenario.Share, Limit: 0.95},
	{Scenario: "slow-stalls", Metric: scenario.Waste, AtMost: true, Limit: 1.05},
	{Scenario: "near-rejoin", Metric: scenario.Goodput, To: Upstream, Limit: 0.95},
	{Scenario: "near-rejoin", Metric: scenario.Waste, AtMost: true, Limit: 1.05},
	{Scenario: "bursts", Metric: scenario.Commits, To: Upstream, Limit: 0.9},
}

// Check writes a table of the floors of all scenarios that were measured, and returns how many were missed. A floor
// whose systems were not all in the run is missed too: what was not measured was not reached.
func Check(w io.Writer, r Results, scenarios []scenario.Scenario, floors []Floor) (missed int) {
	row(w, []string{"", "", "floor", "measured", ""})
	row(w, []string{"---", "---", "--:", "--:", "---"})
	for _, sc := range scenarios {
		for _, f := range floors {
			if f.Scenario != sc.ID {
				continue
			}
			value, ok := f.measured(r)
			verdict := "reached"
			if !ok || !f.holds(value) {
				verdict = "**missed**"
				missed++
			}
			row(w, []string{sc.ID, f.what(), f.limit(), f.value(value, ok), verdict})
		}
	}
	return missed
}

func (f Floor) measured(r Results) (float64, bool) {
	if f.To != "" {
		return r.Ratio(f.Scenario, Ours, f.To, f.Metric)
	}
	v, ok := r.Value(f.Scenario, Ours, f.Metric)
	return v.Median, ok
}

func (f Floor) holds(v float64) bool {
	if f.AtMost {
		return v <= f.Limit
	}
	return v >= f.Limit
}

func (f Floor) what() string {
	if f.To == "" {
		return string(f.Metric)
	}
	return fmt.Sprintf("%s, × %s", f.Metric, f.To)
}

func (f Floor) limit() string {
	if f.AtMost {
		return fmt.Sprintf("≤ %g", f.Limit)
	}
	return fmt.Sprintf("≥ %g", f.Limit)
}

func (f Floor) value(v float64, ok bool) string {
	if !ok {
		return "not measured"
	}
	return Format(v)
}
