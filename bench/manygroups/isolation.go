package manygroups

import (
	"context"
	"fmt"
	"io"
	"slices"
	"time"
)

// RunFlood measures, interleaved, how long the answer to a heartbeat takes with Transport.Group, with and without a group that floods
// appends, and prints a table.
func RunFlood(ctx context.Context, w io.Writer, p Plan) error {
	medians, tails := map[bool][]time.Duration{}, map[bool][]time.Duration{}
	for range max(1, p.Rounds) {
		for _, flood := range []bool{false, true} {
			err := p.measure(ctx, nodeConfig{Way: Groups, Times: true, Flood: flood}, func(_ []*process, us []usage) error {
				for _, u := range us {
					medians[flood], tails[flood] = append(medians[flood], u.P50), append(tails[flood], u.P99)
				}
				return nil
			})
			if err != nil {
				return err
			}
		}
	}
	fmt.Fprintf(w, "| heartbeat and answer, %d groups | p50 | p99 |\n|---|--:|--:|\n", p.Groups)
	for _, flood := range []bool{false, true} {
		name := "alone"
		if flood {
			name = "while a group floods appends"
		}
		fmt.Fprintf(w, "| %s | %v | %v |\n", name, middle(medians[flood]), middle(tails[flood]))
	}
	return nil
}

// middle returns the median of what nodes have measured.
func middle(all []time.Duration) time.Duration {
	slices.Sort(all)
	return all[len(all)/2].Round(time.Microsecond)
}

// RunLoss kills a node, and prints how long after the first group all others are told.
func RunLoss(ctx context.Context, w io.Writer, p Plan) error {
	return p.measure(ctx, nodeConfig{Way: Groups}, func(all []*process, _ []usage) error {
		if err := all[nodes-1].cmd.Process.Kill(); err != nil {
			return err
		}
		for _, one := range all[:nodes-1] {
			if _, err := fmt.Fprintln(one.in); err != nil {
				return err
			}
		}
		for i, one := range all[:nodes-1] {
			var l loss
			if err := readLine(one.out, &l); err != nil {
				return err
			}
			fmt.Fprintf(w, "node %d: %d of %d groups were told within %v of the first\n", i+1, l.Told, p.Groups, l.Took.Round(10*time.Microsecond))
		}
		return nil
	})
}
