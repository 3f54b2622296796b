package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/examples/kv/internal/api"
	"github.com/seed-4d73690b/rafthttp/examples/kv/internal/client"
)

const defaultEndpoint = "http://127.0.0.1:2101"

// connection is what the commands that talk to a cluster have in common.
type connection struct {
	endpoints string
	timeout   time.Duration
}

func connectionFlags(flags *flag.FlagSet) *connection {
	c := &connection{}
	flags.StringVar(&c.endpoints, "endpoints", defaultEndpoint, "client `URLs` of members, separated by commas; if one does not answer, the next is asked")
	flags.DurationVar(&c.timeout, "timeout", 10*time.Second, "give up after this `time`")
	return c
}

func (c *connection) urls() []string { return strings.Split(c.endpoints, ",") }

// with calls do with a client and a context that ends in time.
func (c *connection) with(ctx context.Context, do func(context.Context, *client.Client) error) error {
	cl, err := client.New(c.urls()...)
	if err != nil {
		return fmt.Errorf("--endpoints: %w", err)
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	return do(ctx, cl)
}

func putCommand(flags *flag.FlagSet) func(context.Context, []string) error {
	conn := connectionFlags(flags)
	return func(ctx context.Context, args []string) error {
		if len(args) != 2 {
			return errors.New("put: want a key and a value")
		}
		value := []byte(args[1])
		if args[1] == "-" {
			var err error
			if value, err = io.ReadAll(io.LimitReader(os.Stdin, api.MaxValueBytes+1)); err != nil {
				return err
			}
		}
		return conn.with(ctx, func(ctx context.Context, c *client.Client) error {
			w, err := c.Put(ctx, args[0], value)
			if err == nil {
				fmt.Printf("written, log index %d\n", w.Index)
			}
			return err
		})
	}
}

func getCommand(flags *flag.FlagSet) func(context.Context, []string) error {
	conn := connectionFlags(flags)
	stale := flags.Bool("stale", false, "answer at once, from what the member has")
	return func(ctx context.Context, args []string) error {
		if len(args) != 1 {
			return errors.New("get: want a key")
		}
		return conn.with(ctx, func(ctx context.Context, c *client.Client) error {
			value, err := c.Get(ctx, args[0], *stale)
			if err != nil {
				return err
			}
			_, err = os.Stdout.Write(append(value, '\n'))
			return err
		})
	}
}

func delCommand(flags *flag.FlagSet) func(context.Context, []string) error {
	conn := connectionFlags(flags)
	return func(ctx context.Context, args []string) error {
		if len(args) != 1 {
			return errors.New("del: want a key")
		}
		return conn.with(ctx, func(ctx context.Context, c *client.Client) error {
			w, err := c.Delete(ctx, args[0])
			if err == nil {
				fmt.Printf("removed, log index %d\n", w.Index)
			}
			return err
		})
	}
}

func membersCommand(flags *flag.FlagSet) func(context.Context, []string) error {
	conn := connectionFlags(flags)
	return func(ctx context.Context, args []string) error {
		var remove uint64
		if len(args) > 0 {
			var err error
			if len(args) == 2 && args[0] == "remove" {
				remove, err = strconv.ParseUint(args[1], 10, 64)
			}
			if err != nil || remove == 0 {
				return errors.New("members: want no arguments, or: remove ID")
			}
		}
		return conn.with(ctx, func(ctx context.Context, c *client.Client) error {
			var cluster api.Cluster
			var err error
			if remove != 0 {
				cluster, err = c.RemoveMember(ctx, remove)
			} else {
				cluster, err = c.Members(ctx)
			}
			if err == nil {
				printMembers(os.Stdout, cluster)
			}
			return err
		})
	}
}

func printMembers(w io.Writer, cluster api.Cluster) {
	tab := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "cluster %x\n", cluster.ID)
	fmt.Fprintln(tab, "ID\tVOTES\tPEER URL\tCLIENT URL")
	for _, m := range cluster.Members {
		votes := "yes"
		if m.Learner {
			votes = "learner"
		}
		fmt.Fprintf(tab, "%d\t%s\t%s\t%s\n", m.ID, votes, m.PeerURL, m.ClientURL)
	}
	_ = tab.Flush()
}

func statusCommand(flags *flag.FlagSet) func(context.Context, []string) error {
	conn := connectionFlags(flags)
	asJSON := flags.Bool("json", false, "print everything there is, as JSON")
	return func(ctx context.Context, args []string) error {
		if err := noArguments(args); err != nil {
			return err
		}
		var failed error
		for _, url := range conn.urls() {
			one := &connection{endpoints: url, timeout: conn.timeout}
			err := one.with(ctx, func(ctx context.Context, c *client.Client) error {
				s, err := c.Status(ctx)
				if err != nil {
					return err
				}
				if *asJSON {
					e := json.NewEncoder(os.Stdout)
					e.SetIndent("", "  ")
					return e.Encode(s)
				}
				printStatus(os.Stdout, s)
				return nil
			})
			if err != nil {
				failed = fmt.Errorf("%s: %w", url, err)
				fmt.Fprintf(os.Stderr, "kv: %v\n", failed)
			}
		}
		return failed
	}
}

func printStatus(w io.Writer, s api.Status) {
	fmt.Fprintf(w, "member %d of cluster %x: %s, leader %d, term %d\n", s.ID, s.ClusterID, s.Role, s.Leader, s.Term)
	fmt.Fprintf(w, "  applied %d of %d committed entries; log %d-%d; data file %.1f MiB\n",
		s.Applied, s.Commit, s.Log.First, s.Log.Last, float64(s.DBSize)/(1<<20))
	tab := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tab, "  PEER\tACTIVE\tRTT\tLANE\tUP\tMESSAGES\tBYTES\tQUEUED\tDROPPED")
	for _, p := range s.Transport.Peers {
		for _, l := range p.Lanes {
			fmt.Fprintf(tab, "  %d\t%t\t%s\t%s\t%t\t%d\t%d\t%d\t%d\n", uint64(p.ID), p.Active,
				p.RTT.Round(time.Microsecond), l.Name, l.Up, l.Messages, l.Bytes, l.Queued, l.Dropped)
		}
	}
	_ = tab.Flush()
	for _, p := range s.Transport.Peers {
		for _, t := range p.Snapshots {
			fmt.Fprintln(w, "  "+snapshotBar(t))
		}
		printEnded(w, p.LastSnapshot)
	}
	for _, t := range s.Transport.Receiving {
		fmt.Fprintln(w, "  "+snapshotBar(t))
	}
	printEnded(w, s.Transport.LastReceived)
}

const barWidth = 20

// snapshotBar shows how far a transfer is.
func snapshotBar(t rafthttp.SnapshotStatus) string {
	what := fmt.Sprintf("snapshot %d to %d", t.Index, uint64(t.Peer))
	if t.Incoming {
		what = fmt.Sprintf("snapshot %d from %d", t.Index, uint64(t.Peer))
	}
	if t.Total <= 0 {
		return fmt.Sprintf("%-24s %s", what, mebibytes(t.Bytes))
	}
	full := int(min(t.Bytes, t.Total) * barWidth / t.Total)
	line := fmt.Sprintf("%-24s %s%s %3d%% of %s, %s/s", what, strings.Repeat("█", full), strings.Repeat("░", barWidth-full),
		t.Bytes*100/t.Total, mebibytes(t.Total), mebibytes(int64(t.Rate)))
	if t.ETA > 0 {
		line += fmt.Sprintf(", %s left", t.ETA.Round(100*time.Millisecond))
	}
	if t.Error != "" {
		line += "; broke off: " + t.Error
	}
	return line
}

// printEnded says how the last transfer with a member ended.
func printEnded(w io.Writer, t *rafthttp.SnapshotStatus) {
	if t == nil {
		return
	}
	direction, result := "sent to", "done"
	if t.Incoming {
		direction = "received from"
	}
	if t.Error != "" {
		result = "failed: " + t.Error
	}
	fmt.Fprintf(w, "  last snapshot %s %d: index %d, %s in %s, %s\n", direction, uint64(t.Peer), t.Index,
		mebibytes(t.Bytes), t.Ended.Sub(t.Started).Round(time.Millisecond), result)
}

func mebibytes(n int64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }
