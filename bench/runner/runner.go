// Package runner runs scenarios and collects their figures. Every run is a process of its own, so that none finds the
// heap, the goroutines or the sockets of another.
package runner

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"github.com/seed-4d73690b/rafthttp/bench/report"
	"github.com/seed-4d73690b/rafthttp/bench/scenario"
	"github.com/seed-4d73690b/rafthttp/bench/system"
)

// runTimeout is far above what a run takes.
const runTimeout = 5 * time.Minute

// Plan is what to run.
type Plan struct {
	Scenarios []scenario.Scenario
	Systems   []system.System
	Rounds    int
	Settings  scenario.Settings
	DiskDir   string    // on a disk; a folder is made in it for databases, and removed
	MemoryDir string    // the same, in memory
	Profiles  string    // folder for a CPU and an allocation profile of each run; empty: none
	Progress  io.Writer // a line for each run
}

// request is what a child process is told.
type request struct {
	Scenario string
	System   string
	Settings scenario.Settings
	Point    scenario.Point // zero: the scenario as it is
	Profile  string         // path of the profiles without their ending; empty: none
}

// Run runs each scenario on each system, Rounds times: the systems take turns, so that what else the machine does
// falls on all of them. The first error ends it: a run in which a message is lost has no figures.
func Run(ctx context.Context, p Plan) ([]report.Sample, error) {
	var samples []report.Sample
	folders, remove, err := p.folders()
	if err != nil {
		return nil, err
	}
	defer remove()
	p.Settings.Folders = folders
	for _, sc := range p.Scenarios {
		rounds := p.Rounds
		if sc.Rounds > 0 {
			rounds = min(rounds, sc.Rounds)
		}
		for round := range rounds {
			for _, sys := range p.Systems {
				if sc.Skips(sys) {
					continue
				}
				r := request{Scenario: sc.ID, System: sys.Name, Settings: p.Settings}
				if p.Profiles != "" {
					r.Profile = filepath.Join(p.Profiles, fmt.Sprintf("%s-%s-%d", sc.ID, sys.Name, round+1))
				}
				o, err := child(ctx, r)
				if err != nil {
					return samples, fmt.Errorf("scenario %s, %s: %w", sc.ID, sys.Name, err)
				}
				samples = append(samples, report.Sample{Scenario: sc.ID, System: sys.Name, Round: round, Figures: o.Figures, Goodput: o.Goodput})
				fmt.Fprintf(p.Progress, "%-2s round %d  %-10s %s\n", sc.ID, round+1, sys.Name, report.Line(sc.Metrics, o.Figures))
			}
		}
	}
	return samples, nil
}

// folders makes those that the scenarios need.
func (p Plan) folders() (_ map[string]string, remove func(), err error) {
	folders := map[string]string{}
	remove = func() {
		for _, dir := range folders {
			os.RemoveAll(dir)
		}
	}
	for name, parent := range map[string]string{scenario.Disk: p.DiskDir, scenario.Memory: p.MemoryDir} {
		if !slices.ContainsFunc(p.Scenarios, func(s scenario.Scenario) bool { return s.Folder == name }) {
			continue
		}
		if folders[name], err = os.MkdirTemp(parent, "rafthttp-bench"); err != nil {
			remove()
			return nil, nil, err
		}
	}
	return folders, remove, nil
}

// ChildArgument as the first argument makes this program a child.
const ChildArgument = "child"

func child(ctx context.Context, r request) (o scenario.Outcome, err error) {
	ctx, cancel := context.WithTimeout(ctx, runTimeout)
	defer cancel()
	self, err := os.Executable()
	if err != nil {
		return o, err
	}
	in, err := json.Marshal(r)
	if err != nil {
		return o, err
	}
	cmd := exec.CommandContext(ctx, self, ChildArgument)
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(in), &out, &errs
	if r.Point.Procs > 0 {
		cmd.Env = append(os.Environ(), fmt.Sprintf("GOMAXPROCS=%d", r.Point.Procs))
	}
	if err := cmd.Run(); err != nil {
		return o, fmt.Errorf("%w: %s", err, bytes.TrimSpace(errs.Bytes()))
	}
	return o, json.Unmarshal(out.Bytes(), &o)
}

// Child is what a child process does: it reads a request from in, and writes an Outcome to out.
func Child(in io.Reader, out io.Writer) error {
	var r request
	if err := json.NewDecoder(in).Decode(&r); err != nil {
		return err
	}
	sc, err := scenario.ByID(r.Scenario)
	if err != nil {
		return err
	}
	sys, err := system.ByName(r.System)
	if err != nil {
		return err
	}
	stop, err := profile(r.Profile)
	if err != nil {
		return err
	}
	outcome, err := sc.At(r.Point).Run(sys, r.Settings)
	if err = errors.Join(err, stop()); err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(outcome)
}
