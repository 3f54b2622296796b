package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
)

// ofJudge is a mutant that a judge notices.
type ofJudge struct{ judge, mutant string }

// ofJudges has one for each judge of the members, whose failure is shrunk.
var ofJudges = []ofJudge{
	{"send", "send-blocks"},
	{"reported", "never-unreachable"},
	{"order", "batch-reversed"},
	{"once", "message-doubled"},
	{"invented", "message-invented"},
	{"addressee", "forget-leader-processed"},
	{"snapshot ends", "snapshot-reported-twice"},
	{"snapshot bytes", "resumed-byte-corrupted"},
	{"snapshot arrives", "gives-up-at-once"},
	{"healthy link", "link-heartbeats-off"},
	{"recovery", "read-timeout-ignored"},
	{"noticed", "read-timeout-ignored"},
	{"active", "failed-post-deactivates"},
	{"streams", "stream-given-up"},
	{"removed", "errorc-never"},
	{"stop", "stop-lingers"},
	{"silence", "report-after-stop"},
	{"isolation", "group-sent-as-another"},
	{"revoked", "revoked-stays"},
	{"refused", "refused-stays"},
	{"coalesced", "reported-twenty-times"},
	{"in turn", "callbacks-at-once"},
	{"bounds", "lane-bound-ignored"},
	{"goroutines", "goroutine-outlives-stop"},
	{"log lines", "log-unlimited"},
}

// maxLines is how many lines the test of a shrunk failure may have.
const maxLines = 10

// shrinkAll shrinks a failure of each judge, or of those that notice the chosen mutants, and prints them.
func (r *runner) shrinkAll(ctx context.Context) error {
	var chosen []mutant
	var judges, long []string
	for _, of := range ofJudges {
		if r.names != "" && !strings.Contains(","+r.names+",", ","+of.mutant+",") {
			continue
		}
		m, err := choose(of.mutant)
		if err != nil {
			return err
		}
		chosen, judges = append(chosen, m...), append(judges, of.judge)
	}
	if err := r.compileTogether(ctx, chosen); err != nil {
		return err
	}
	for i, m := range chosen {
		res, output, err := r.try(ctx, m, "-shrink=true", "-judge", judges[i])
		if err != nil {
			return err
		}
		test := goTest(output)
		r.print("%s, noticed by %s after %s, shrunk to %d lines in %.0f s:\n%s\n", m.name, judges[i], res.seedsText(), len(test), res.took.Seconds(), strings.Join(test, "\n"))
		if len(test) == 0 || len(test) > maxLines {
			long = append(long, judges[i])
			r.print("%s\n", tail(output))
		}
	}
	if len(long) > 0 {
		return fmt.Errorf("%w of: %s", errLong, strings.Join(long, ", "))
	}
	return nil
}

var errLong = errors.New("failures that do not shrink to ten lines")

// goTest returns the lines of the test that a simulation has printed of a failure; none if there is none.
func goTest(output []byte) (lines []string) {
	i := bytes.LastIndex(output, []byte("func TestPlan("))
	if i < 0 {
		return nil
	}
	for line := range strings.Lines(string(output[i:])) {
		line = strings.TrimPrefix(strings.TrimRight(line, "\n"), "        ") // by which package testing indents
		lines = append(lines, line)
		if line == "}" {
			return lines
		}
	}
	return nil
}
