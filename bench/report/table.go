package report

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/seed-4d73690b/rafthttp/bench/scenario"
	"github.com/seed-4d73690b/rafthttp/bench/system"
)

// Systems that the others are compared with.
const (
	Ours     = system.Ours
	Upstream = system.Upstream
	Bare     = "tcp"
)

// Tables writes the results as Markdown: a heading and a table for each kind of scenarios.
func Tables(w io.Writer, r Results, scenarios []scenario.Scenario, systems []system.System) {
	for _, kind := range scenario.Kinds() {
		some := slices.DeleteFunc(slices.Clone(scenarios), func(s scenario.Scenario) bool { return s.Kind != kind })
		if len(some) > 0 {
			fmt.Fprintf(w, "\n## %s\n\n", kind)
			Table(w, r, some, systems)
		}
	}
}

// Table writes the results as a Markdown table: a row for each metric of each scenario, a column for each system that is
// measured in one of them, and the ratios of ours to etcd's and to bare TCP.
func Table(w io.Writer, r Results, scenarios []scenario.Scenario, systems []system.System) {
	systems = slices.DeleteFunc(slices.Clone(systems), func(sys system.System) bool {
		return !slices.ContainsFunc(scenarios, func(s scenario.Scenario) bool { return !s.Skips(sys) })
	})
	head := []string{"", ""}
	var ratios []string // to these systems
	for _, s := range systems {
		head = append(head, s.Title)
		if s.Name == Upstream || s.Name == Bare {
			ratios = append(ratios, s.Name)
		}
	}
	for _, to := range ratios {
		head = append(head, "ours / "+titleOf(to))
	}
	row(w, head)
	row(w, append([]string{"---", "---"}, slices.Repeat([]string{"--:"}, len(head)-2)...))
	for _, sc := range scenarios {
		name := fmt.Sprintf("**%s** %s", sc.ID, sc.Title)
		for _, m := range sc.Metrics {
			cells := []string{name, string(m)}
			for _, s := range systems {
				v, ok := r.Value(sc.ID, s.Name, m)
				cells = append(cells, cell(v, ok))
			}
			for _, to := range ratios {
				ratio, ok := r.Ratio(sc.ID, Ours, to, m)
				cells = append(cells, ratioCell(ratio, ok))
			}
			row(w, cells)
			name = ""
		}
	}
}

func row(w io.Writer, cells []string) { fmt.Fprintf(w, "| %s |\n", strings.Join(cells, " | ")) }

// cell is a median with its range.
func cell(v Value, ok bool) string {
	if !ok {
		return "–"
	}
	mid, low, high := Format(v.Median), Format(v.Min), Format(v.Max)
	if low == high {
		return mid
	}
	return fmt.Sprintf("%s (%s–%s)", mid, low, high)
}

func ratioCell(ratio float64, ok bool) string {
	if !ok || Format(ratio) == "–" {
		return "–"
	}
	return Format(ratio) + " ×"
}
