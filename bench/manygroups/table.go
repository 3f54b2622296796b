package manygroups

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// add adds a node.
func (u *usage) add(o usage) {
	u.CPU += o.CPU
	u.Took += o.Took
	u.Sent += o.Sent
	u.Beats += o.Beats
	u.Processed += o.Processed
	u.Goroutines += o.Goroutines - o.EmptyGoroutines
	u.Descriptors += o.Descriptors - o.EmptyDescriptors
	u.Heap += o.Heap - min(o.EmptyHeap, o.Heap)
}

// row is one figure of a run.
type row struct {
	name, format string
	of           func(u usage, groups int) float64
}

const (
	rowCPU   = "CPU of a node, cores"
	rowBeats = "heartbeats and answers that a node sends a second"
	rowBytes = "wire bytes of each"
)

// beatsOf is how many heartbeats and answers all nodes send a second.
func beatsOf(groups int) float64 { return float64(groups) * perSecond * (nodes - 1) * 2 }

var rows = []row{
	// A busy machine sends fewer heartbeats than it should.
	{rowCPU, "%.3f", func(u usage, groups int) float64 { return u.CPU.Seconds() / float64(u.Beats) * beatsOf(groups) / nodes }},
	{"CPU of each heartbeat and answer, sent and received, µs", "%.2f", func(u usage, _ int) float64 { return u.CPU.Seconds() / float64(u.Beats) * 1e6 }},
	{rowBeats, "%.0f", func(u usage, _ int) float64 { return float64(u.Beats) / u.Took.Seconds() }},
	{"of which the other end processed", "%.4f", func(u usage, _ int) float64 { return float64(u.Processed) / float64(u.Beats) }},
	{rowBytes, "%.1f", func(u usage, _ int) float64 { return float64(u.Sent) / float64(u.Beats) }},
	{"memory of a group and peer, bytes", "%.0f", func(u usage, groups int) float64 { return float64(u.Heap) / float64(nodes*groups*(nodes-1)) }},
	{"goroutines of a group", "%.3f", func(u usage, groups int) float64 { return float64(u.Goroutines) / float64(nodes*groups) }},
	{"descriptors of a node", "%.0f", func(u usage, _ int) float64 { return float64(u.Descriptors) / nodes }},
}

// print prints the averages of the nodes, and of runs the medians.
func print(w io.Writer, groups int, ways []Way, runs map[Way][]usage) {
	fmt.Fprintf(w, "| %d groups on %d nodes, 10 heartbeats a second |", groups, nodes)
	for _, way := range ways {
		fmt.Fprintf(w, " %s |", way)
	}
	fmt.Fprintf(w, "\n|---|%s\n", strings.Repeat("--:|", len(ways)))
	line := func(name, format string, of func(way Way) float64) {
		fmt.Fprintf(w, "| %s |", name)
		for _, way := range ways {
			fmt.Fprintf(w, " "+format+" |", of(way))
		}
		fmt.Fprintln(w)
	}
	for _, r := range rows {
		figure := func(u usage) float64 { return r.of(u, groups) }
		line(r.name, r.format, func(way Way) float64 { return median(runs[way], figure) })
		if r.name == rowCPU {
			line("without the calls", r.format, func(way Way) float64 { return median(runs[way], figure) - median(runs[Calls], figure) })
		}
	}
}

func median(us []usage, of func(usage) float64) float64 {
	var all []float64
	for _, u := range us {
		all = append(all, of(u))
	}
	slices.Sort(all)
	return all[len(all)/2]
}
