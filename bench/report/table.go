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
	Ours     = "ours"
	Upstream = "upstream"
	Bare     = "tcp"
)

// Table writes the results as a Markdown table: a row for each metric of each scenario, a column for each system, and
// the ratios of ours to etcd's and to bare TCP.
func Table(w io.Writer, r Results, scenarios []scenario.Scenario, systems []system.System) {
	head := []string{"", ""}
	for _, s := range systems {
		head = append(head, s.Title)
	}
	head = append(head, "ours / etcd", "ours / bare TCP")
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
			for _, to := range []string{Upstream, Bare} {
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
