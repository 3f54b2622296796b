// Command kv is a replicated key-value server on etcd's raft library and
// rafthttp, with the commands to run it, to talk to it, and to see it work.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// command is one of the things kv does.
type command struct {
	name, args, summary string
	// setup defines the flags and returns what to do once they are parsed.
	setup func(*flag.FlagSet) func(ctx context.Context, args []string) error
}

func commands() []command {
	return []command{
		{"serve", "", "run a member of a cluster", serveCommand},
		{"put", "KEY VALUE", "set the value of a key (VALUE -: from standard input)", putCommand},
		{"get", "KEY", "print the value of a key", getCommand},
		{"del", "KEY", "remove a key", delCommand},
		{"members", "[remove ID]", "list the members of a cluster, or remove one", membersCommand},
		{"status", "", "show how members see themselves and their connections", statusCommand},
		{"bench", "", "measure writes and reads", benchCommand},
		{"demo", "", "run a cluster through its whole life, on this machine", demoCommand},
	}
}

// errUsage says that the command line makes no sense; that has been explained.
var errUsage = errors.New("usage")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	switch err := run(ctx, os.Args[1:], os.Stderr); {
	case err == nil, errors.Is(err, flag.ErrHelp):
	case errors.Is(err, errUsage):
		os.Exit(2)
	default:
		fmt.Fprintf(os.Stderr, "kv: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stderr io.Writer) error {
	if len(args) == 0 {
		usage(stderr)
		return errUsage
	}
	name := args[0]
	if name == "help" || name == "-h" || name == "-help" || name == "--help" {
		if len(args) < 2 {
			usage(stderr)
			return flag.ErrHelp
		}
		name, args = args[1], []string{args[1], "-h"}
	}
	for _, c := range commands() {
		if c.name == name {
			return c.run(ctx, args[1:], stderr)
		}
	}
	fmt.Fprintf(stderr, "kv: there is no command %q\n\n", name)
	usage(stderr)
	return errUsage
}

func (c command) run(ctx context.Context, args []string, stderr io.Writer) error {
	flags := flag.NewFlagSet("kv "+c.name, flag.ContinueOnError)
	flags.SetOutput(stderr)
	do := c.setup(flags)
	flags.Usage = func() {
		synopsis := "kv " + c.name + " [flags]"
		if c.args != "" {
			synopsis += " " + c.args
		}
		fmt.Fprintf(stderr, "%s: %s\n\nUsage: %s\n", flags.Name(), c.summary, synopsis)
		if text := details[c.name]; text != "" {
			fmt.Fprintf(stderr, "\n%s\n", text)
		}
		fmt.Fprintf(stderr, "\nFlags:\n")
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return err
		}
		return errUsage // flag has printed what is wrong, and the usage
	}
	return do(ctx, flags.Args())
}

func usage(w io.Writer) {
	fmt.Fprintf(w, "kv is a replicated key-value server.\n\nUsage: kv COMMAND [flags] [arguments]\n\nCommands:\n")
	for _, c := range commands() {
		fmt.Fprintf(w, "  %-8s  %s\n", c.name, c.summary)
	}
	fmt.Fprintf(w, "\n\"kv COMMAND -h\" explains one of them. To see it all at work: kv demo\n")
}

// details is what the help of a command says beside its flags.
var details = map[string]string{
	"serve": `The first members found a cluster together; all of them get the same list:

  kv serve --id 1 --data-dir d1 --client-url http://127.0.0.1:2101 --peer-url http://127.0.0.1:2201 \
    --cluster 1=http://127.0.0.1:2201,2=http://127.0.0.1:2202,3=http://127.0.0.1:2203

Later ones join it, as learners that become voters once they have caught up:

  kv serve --id 4 --data-dir d4 --client-url http://127.0.0.1:2104 --peer-url http://127.0.0.1:2204 \
    --join http://127.0.0.1:2101

Both flags matter at the first start only. The first members wait for each other then, and one
that has lost its data folder is refused. A member that is started again goes on from its
data folder. It stops by itself, with exit code 0, when it was removed from the cluster, does so at
each later start with that data folder, and stops in good order on SIGINT and SIGTERM. An id is used once: not even a removed member's may come back.`,
	"get": `The value is what was last written, wherever that was, as of now: the member asks the group
before it answers. With --stale it answers at once, from what it has.
The exit code is 1 if there is no such key.`,
	"members": `Without arguments, the members are listed. To add one, start it with "kv serve --join".
A removed member stops by itself, and its id cannot be used again.`,
	"bench": `Many clients at once write keys (bench/0, bench/1, …) and then read them, each at the next of the
endpoints.`,
	"demo": `It starts three members as processes of their own, on free ports of the loopback interface, with
mutual TLS between them and data in a temporary folder. Then it writes and reads, kills the leader
and restarts it, adds a member, which catches up by snapshot, removes one, and compares
what they all have. The exit code is 0 if every step held; nothing is left behind then.`,
}

// noArguments refuses what a command has no use for.
func noArguments(args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("unexpected argument %q", args[0])
	}
	return nil
}
