// Command etcd runs one real etcd server from a configuration file, until it is killed or stops because it was removed from
// its cluster. It is built twice: as it is, and with its transport replaced.
package main

import (
	"fmt"
	"os"

	"go.etcd.io/etcd/server/v3/embed"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: etcd CONFIGFILE")
		os.Exit(2)
	}
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "etcd:", err)
		os.Exit(1)
	}
}

func run(file string) error {
	cfg, err := embed.ConfigFromFile(file)
	if err != nil {
		return err
	}
	e, err := embed.StartEtcd(cfg)
	if err != nil {
		return err
	}
	defer e.Close()
	select {
	case <-e.Server.StopNotify():
		return nil
	case err := <-e.Err():
		return err
	}
}
