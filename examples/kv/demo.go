package main

import (
	"context"
	"flag"
	"os"

	"github.com/seed-4d73690b/rafthttp/examples/kv/internal/demo"
)

func demoCommand(flags *flag.FlagSet) func(context.Context, []string) error {
	var opts demo.Options
	flags.IntVar(&opts.Keys, "keys", 20_000, "`number` of keys to write at first")
	flags.IntVar(&opts.Clients, "clients", 192, "`number` of clients that write and read at once")
	flags.IntVar(&opts.LoadMiB, "load", 64, "`MiB` of data to have before the fourth member joins")
	flags.BoolVar(&opts.Serve, "serve", false, "keep the cluster running at the end, until interrupted, and print its addresses")
	return func(ctx context.Context, args []string) error {
		if err := noArguments(args); err != nil {
			return err
		}
		return demo.Run(ctx, os.Stdout, opts)
	}
}
