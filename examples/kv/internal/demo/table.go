package demo

import (
	"context"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/seed-4d73690b/rafthttp"
)

// printTable prints what was measured, and what the members' transports have
// counted.
func (d *demo) printTable(ctx context.Context) error {
	r := d.results
	fmt.Fprintln(d.out)
	tab := tabwriter.NewWriter(d.out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(tab, "writes\t%s a second, %d clients, %d bytes each\n", count(int(r.writeRate)), d.opts.Clients, smallValue)
	fmt.Fprintf(tab, "linearizable reads\t%s a second\n", count(int(r.readRate)))
	fmt.Fprintf(tab, "fail-over\t%s without a write\n", milliseconds(r.failOver))
	fmt.Fprintf(tab, "restart\t%s until caught up\n", milliseconds(r.catchUp))
	fmt.Fprintf(tab, "snapshot\t%.0f MiB/s (%s in %s, durable)\n",
		float64(r.snapshotBytes)/(1<<20)/r.snapshotTime.Seconds(), mebibytes(r.snapshotBytes), milliseconds(r.snapshotTime))
	fmt.Fprintf(tab, "new member\t%s from its start to its vote\n", milliseconds(r.joined))
	fmt.Fprintf(tab, "everything\t%.1fs\n", r.total.Seconds())
	if err := tab.Flush(); err != nil {
		return err
	}
	return d.printCounters(ctx)
}

func (d *demo) printCounters(ctx context.Context) error {
	fmt.Fprintf(d.out, "\nWhat the members that are left have sent (→) and received (←) since they were started:\n")
	tab := tabwriter.NewWriter(d.out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(tab, "member\tpeer\tRTT\tlane\tmessages\tMiB\tdropped\t")
	for _, n := range d.nodes.running() {
		s, err := n.status(ctx)
		if err != nil {
			return err
		}
		for _, p := range s.Transport.Peers {
			for _, l := range p.Lanes {
				if l.Messages == 0 && l.Dropped == 0 {
					continue
				}
				fmt.Fprintf(tab, "%d\t%s %d\t%s\t%s\t%s\t%.1f\t%d\t\n", n.id, direction(l), uint64(p.ID),
					p.RTT.Round(10*time.Microsecond), l.Name, count(int(l.Messages)), float64(l.Bytes)/(1<<20), l.Dropped)
			}
		}
	}
	return tab.Flush()
}

// direction tells the lanes to a peer from those from it.
func direction(l rafthttp.LaneStatus) string {
	switch l.Name {
	case "control", "append", "proposal":
		return "←"
	default:
		return "→"
	}
}
