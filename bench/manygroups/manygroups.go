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
	"path/filepath"
	"strings"
	"time"
)

// NodeArgument has the command run a node.
const NodeArgument = "many-groups-node"

const nodes = 3

// Plan says what to measure.
type Plan struct {
	Program  string // what runs Node for NodeArgument
	Groups   int
	Measure  time.Duration
	Parts    int    // of an interval over which heartbeats are spread; 0 and 1: those of all groups come at once
	Heap     int    // bytes that each node holds besides what is measured
	Rounds   int    // of all ways, one after another; the medians count
	Profiles string // folder for CPU profiles of the first node; empty: none
}

// process is a node from outside.
type process struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

// Run measures the ways to carry the messages of groups, interleaved, and prints a table. A Transport for each group behind a Mux
// is measured for up to 300 groups.
func Run(ctx context.Context, w io.Writer, p Plan) error {
	ways := []Way{Calls, Bare, Groups, Batches}
	if p.Groups <= maxPerGroup {
		ways = append(ways, PerGroup)
	}
	runs := map[Way][]usage{}
	for range max(1, p.Rounds) {
		for _, way := range ways {
			u, err := p.run(ctx, way)
			if err != nil {
				return fmt.Errorf("%s: %w", way, err)
			}
			runs[way] = append(runs[way], u)
		}
	}
	print(w, p.Groups, ways, runs)
	return nil
}

// run measures one way once, and returns the sums of all nodes.
func (p *Plan) run(ctx context.Context, way Way) (sum usage, err error) {
	err = p.measure(ctx, nodeConfig{Way: way}, func(_ []*process, us []usage) error {
		for _, u := range us {
			sum.add(u)
		}
		return nil
	})
	return sum, err
}

// measure runs the nodes, and calls then with what they have measured before they end.
func (p *Plan) measure(ctx context.Context, cfg nodeConfig, then func(all []*process, us []usage) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	all, err := p.start(ctx, cfg)
	defer func() {
		for _, p := range all {
			p.in.Close()
			_ = p.cmd.Wait()
		}
	}()
	if err != nil {
		return err
	}
	for _, one := range all {
		if line, err := one.out.ReadString('\n'); err != nil || line != "active\n" {
			return fmt.Errorf("a node did not become active: %q, %w", line, err)
		}
	}
	for _, one := range all {
		if _, err := fmt.Fprintln(one.in); err != nil {
			return err
		}
	}
	us := make([]usage, nodes)
	for i, one := range all {
		if err := readLine(one.out, &us[i]); err != nil {
			return err
		}
	}
	return then(all, us)
}

func (p *Plan) start(ctx context.Context, cfg nodeConfig) (all []*process, err error) {
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
		one := &process{cmd: exec.CommandContext(ctx, p.Program, NodeArgument)}
		one.cmd.ExtraFiles, one.cmd.Stderr = []*os.File{f}, os.Stderr
		out, err := one.cmd.StdoutPipe()
		if err != nil {
			return all, err
		}
		if one.in, err = one.cmd.StdinPipe(); err != nil {
			return all, err
		}
		one.out = bufio.NewReader(out)
		if err := one.cmd.Start(); err != nil {
			return all, err
		}
		all = append(all, one)
		cfg.ID, cfg.URLs, cfg.Groups, cfg.Measure, cfg.Parts, cfg.Heap, cfg.Profile = i+1, urls, p.Groups, p.Measure, p.Parts, p.Heap, ""
		if p.Profiles != "" && i == 0 {
			cfg.Profile = filepath.Join(p.Profiles, strings.ReplaceAll(fmt.Sprintf("groups-%d-%s.cpu.prof", p.Groups, cfg.Way), " ", "-"))
		}
		if err := json.NewEncoder(one.in).Encode(cfg); err != nil {
			return all, err
		}
	}
	return all, nil
}
