// Command etcdswap proves that a real etcd server runs on our transport, in one cluster with stock servers.
//
// It builds etcd v3.7.3 twice: as it is, and with its package etcdserver/api/rafthttp replaced by the shim in this folder.
// Then it takes clusters of three members in every mix, plain and with mutual TLS between the members, through puts, kills,
// a fourth member that gets a snapshot, and a removal, and compares what all members hold. At the end it measures a cluster
// of either kind in turns: puts a second, p99, and CPU time of the servers for each put.
//
//	go run .
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"time"
)

func main() {
	puts := flag.Int("puts", 5000, "how many keys to put into each cluster")
	only := flag.String("only", "", "run one `mix`, for example swapped-stock-stock/tls, or only measure: speed")
	rounds := flag.Int("rounds", 3, "how often to measure each load on a cluster of stock and on one of swapped servers; 0 means not at all")
	keep := flag.Bool("keep", false, "keep the working folder (logs and data)")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *puts, *only, *rounds, *keep); err != nil {
		fmt.Fprintln(os.Stderr, "etcdswap:", err)
		os.Exit(1)
	}
}

// speedOnly is the name of what runs after all mixes.
const speedOnly = "speed"

// mixes are the kinds of the first three members and of the one that joins them.
var mixes = [][4]kind{
	{stock, stock, stock, stock}, // the control
	{swapped, stock, stock, swapped},
	{swapped, swapped, stock, stock},
	{swapped, swapped, swapped, swapped},
}

func run(ctx context.Context, puts int, only string, rounds int, keep bool) error {
	dir, err := os.MkdirTemp("", "rafthttp-etcd-")
	if err != nil {
		return err
	}
	if keep {
		fmt.Println("working in", dir)
	} else {
		defer os.RemoveAll(dir)
	}
	start := time.Now()
	programs, err := build(ctx, dir)
	if err != nil {
		return err
	}
	fmt.Printf("built etcd, stock and swapped, in %s\n", since(start))
	ran := 0
	for _, tls := range []bool{false, true} {
		for _, mix := range mixes {
			name := fmt.Sprintf("%s-%s-%s/%s", mix[0], mix[1], mix[2], map[bool]string{false: "plain", true: "tls"}[tls])
			if only != "" && only != name {
				continue
			}
			ran++
			start := time.Now()
			fmt.Printf("\n%s, joined by %s\n", name, mix[3])
			if err := live(ctx, dir, programs, mix, tls, puts); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			fmt.Printf("  held in %s\n", since(start))
		}
	}
	if ran == 0 && only != speedOnly {
		return fmt.Errorf("there is no mix %q", only)
	}
	if rounds > 0 && (only == "" || only == speedOnly) {
		fmt.Printf("\nspeed, stock and swapped in turns, medians of %d\n", rounds)
		return compareSpeed(ctx, dir, programs, rounds)
	}
	return nil
}

func since(start time.Time) time.Duration { return time.Since(start).Round(10 * time.Millisecond) }
