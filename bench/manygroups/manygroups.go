// Package manygroups measures what many raft groups cost that hardly do anything but send heartbeats: three nodes, each a process
// of its own with a member of each group, and each the leader of a third of them.
package manygroups

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"time"
)

// NodeArgument has the command run a node.
const NodeArgument = "many-groups-node"

const nodes = 3

// process is a node from outside.
type process struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

// Run measures groups behind a Mux, a Transport for each, and prints a table. program is what runs Node for NodeArgument.
func Run(ctx context.Context, w io.Writer, program string, groups int, measure time.Duration) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	all, err := start(ctx, program, groups, measure)
	defer func() {
		for _, p := range all {
			p.in.Close()
			_ = p.cmd.Wait()
		}
	}()
	if err != nil {
		return err
	}
	for _, p := range all {
		if line, err := p.out.ReadString('\n'); err != nil || line != "active\n" {
			return fmt.Errorf("a node did not become active: %q, %w", line, err)
		}
	}
	for _, p := range all {
		if _, err := fmt.Fprintln(p.in); err != nil {
			return err
		}
	}
	var sum usage
	for _, p := range all {
		var u usage
		if err := readLine(p.out, &u); err != nil {
			return err
		}
		sum.add(u)
	}
	sum.print(w, groups)
	return nil
}

func start(ctx context.Context, program string, groups int, measure time.Duration) (all []*process, err error) {
	var urls []string
	var files []*os.File
	for range nodes {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer ln.Close()
		f, err := ln.(*net.TCPListener).File()
		if err != nil {
			return nil, err
		}
		defer f.Close()
		urls, files = append(urls, urlOf(ln)), append(files, f)
	}
	for i, f := range files {
		p := &process{cmd: exec.CommandContext(ctx, program, NodeArgument)}
		p.cmd.ExtraFiles, p.cmd.Stderr = []*os.File{f}, os.Stderr
		out, err := p.cmd.StdoutPipe()
		if err != nil {
			return all, err
		}
		if p.in, err = p.cmd.StdinPipe(); err != nil {
			return all, err
		}
		p.out = bufio.NewReader(out)
		if err := p.cmd.Start(); err != nil {
			return all, err
		}
		all = append(all, p)
		if err := json.NewEncoder(p.in).Encode(nodeConfig{ID: i + 1, URLs: urls, Groups: groups, Measure: measure}); err != nil {
			return all, err
		}
	}
	return all, nil
}

// add adds a node.
func (u *usage) add(o usage) {
	u.CPU += o.CPU
	u.Took += o.Took
	u.Sent += o.Sent
	u.Beats += o.Beats
	u.Goroutines += o.Goroutines - o.EmptyGoroutines
	u.Descriptors += o.Descriptors - o.EmptyDescriptors
	u.Heap += o.Heap - min(o.EmptyHeap, o.Heap)
}

// print prints the averages of the nodes.
func (u *usage) print(w io.Writer, groups int) {
	members := float64(nodes * groups)
	row := func(name, format string, v float64) { fmt.Fprintf(w, "| %s | "+format+" |\n", name, v) }
	fmt.Fprintf(w, "| %d groups on %d nodes, 10 heartbeats a second | |\n|---|%s:|\n", groups, nodes, strings.Repeat("-", 3))
	row("CPU of a node, cores", "%.3f", u.CPU.Seconds()/u.Took.Seconds())
	row("heartbeats and answers that a node sends a second", "%.0f", float64(u.Beats)/u.Took.Seconds())
	row("wire bytes of each", "%.0f", float64(u.Sent)/float64(u.Beats))
	row("memory of a group and peer, KiB", "%.1f", float64(u.Heap)/members/(nodes-1)/1024)
	row("goroutines of a group", "%.1f", float64(u.Goroutines)/members)
	row("descriptors of a node", "%.0f", float64(u.Descriptors)/nodes)
}
