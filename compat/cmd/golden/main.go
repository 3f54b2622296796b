// Command golden captures the golden vectors of internal/wire anew, from upstream's transports over loopback.
// Run it in the folder of the module compat:
//
//	go run ./cmd/golden
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/seed-4d73690b/rafthttp/compat/golden"
	"github.com/seed-4d73690b/rafthttp/compat/member"
)

func main() {
	dir := flag.String("dir", "../internal/wire/testdata/golden/captured", "the `folder` to write to")
	flag.Parse()
	err := run(*dir)
	member.RemoveHelper()
	if err != nil {
		fmt.Fprintln(os.Stderr, "golden:", err)
		os.Exit(1)
	}
}

func run(dir string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for _, version := range golden.Versions {
		vectors, err := golden.Capture(ctx, version.Kind, version.Writer)
		if err != nil {
			return fmt.Errorf("%s: %w", version.Writer, err)
		}
		into := filepath.Join(dir, version.Dir)
		if err := os.MkdirAll(into, 0o755); err != nil {
			return err
		}
		for _, v := range vectors {
			if err := v.Write(into); err != nil {
				return err
			}
			fmt.Printf("%s: %s: %d records, %d bytes\n", version.Writer, v.Name, len(v.Records), len(v.Bytes))
		}
	}
	return nil
}
