package runner

import (
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/seed-4d73690b/rafthttp/bench/report"
	"github.com/seed-4d73690b/rafthttp/bench/scenario"
)

// GrowthPlan is what to run while something grows.
type GrowthPlan struct {
	Series   []scenario.Series
	Rounds   int
	Settings scenario.Settings
	Progress io.Writer // a line for each run
}

// RunGrowth runs each point of each series on each of its systems, Rounds times, the systems in turns. The scenario of
// a sample is the id of its series.
func RunGrowth(ctx context.Context, p GrowthPlan) ([]report.Sample, error) {
	var samples []report.Sample
	for _, series := range p.Series {
		for _, point := range series.Points {
			for round := range p.Rounds {
				for _, sys := range series.Systems {
					if slices.Contains(point.Without, sys) {
						continue
					}
					o, err := child(ctx, request{Scenario: series.Base, System: sys, Settings: p.Settings, Point: point})
					if err != nil {
						return samples, fmt.Errorf("%s at %s, %s: %w", series.ID, point.Label, sys, err)
					}
					samples = append(samples, report.Sample{Scenario: series.ID, System: sys, Round: round, At: point.At, Figures: o.Figures})
					fmt.Fprintf(p.Progress, "%-7s %-8s round %d  %-9s %s\n", series.ID, point.Label, round+1, sys, report.Line(series.Metrics, o.Figures))
				}
			}
		}
	}
	return samples, nil
}
