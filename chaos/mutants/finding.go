package main

import (
	"bytes"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
)

// finding is what a simulation has found in a library.
type finding struct {
	noticed bool
	hung    bool   // it ran into the timeout
	judge   string // who noticed
	seeds   uint64 // how many were tried until then
}

var (
	// violation is how a failure begins: with the judge, unless it is a line about a seed that passed.
	violation = regexp.MustCompile(`(?m)^(?:\s+\S+\.go:\d+: )?([a-z][a-zA-Z -]*): .*\(after [^)]*\)$`)
	// failed is how it ends.
	failed = regexp.MustCompile(`(?m)^\s+seed (\d+); again with`)
	// passed is what the simulation says of each seed before.
	passed = regexp.MustCompile(`(?m)^\s+\S+_test\.go:\d+: seed (\d+): `)
)

// Who notices beside the judges.
const (
	byDeadlock = "deadlock in the bubble"
	byPanic    = "panic"
	byTest     = "the test fails"
)

// look sorts what a simulation said, whose test ended with err.
func (f *finding) look(output []byte, err error, first uint64) {
	if err == nil || f.hung {
		return
	}
	f.noticed, f.seeds = true, 1
	if all := passed.FindAllSubmatch(output, -1); len(all) > 0 {
		f.count(all[len(all)-1][1], first)
		f.seeds++
	}
	if m := failed.FindSubmatch(output); m != nil {
		f.count(m[1], first)
	}
	switch m := violation.FindSubmatch(output); {
	case m != nil:
		f.judge = string(m[1])
	case bytes.Contains(output, []byte("all goroutines in bubble are blocked")), bytes.Contains(output, []byte("deadlock: main bubble goroutine has exited")):
		f.judge = byDeadlock
	case bytes.Contains(output, []byte("panic: ")), bytes.Contains(output, []byte("fatal error: ")):
		f.judge = byPanic
	default:
		f.judge = byTest
	}
}

func (f *finding) count(seed []byte, first uint64) {
	if n, err := strconv.ParseUint(string(seed), 10, 64); err == nil && n >= first {
		f.seeds = n - first + 1
	}
}

func (f finding) text() string {
	switch {
	case f.noticed:
		return fmt.Sprintf("noticed after %s by: %s", f.seedsText(), f.judge)
	case f.hung:
		return "NOT NOTICED: the simulation hangs"
	default:
		return "NOT NOTICED"
	}
}

func (f finding) seedsText() string {
	if f.seeds == 1 {
		return "1 seed"
	}
	return fmt.Sprintf("%d seeds", f.seeds)
}

// table returns the results in Markdown.
func table(results []result, o options) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Seeds from %d on, at most %d for each mutant.\n\n", o.seed, o.seeds)
	b.WriteString("| Mutant | What is wrong | Promise that it breaks | Noticed by | Seeds | Seconds |\n|---|---|---|---|---|---|\n")
	for _, r := range results {
		judge, seeds := r.judge, strconv.FormatUint(r.seeds, 10)
		if !r.noticed {
			judge, seeds = "**nobody**", "–"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s | %.1f |\n", r.name, r.wrong, r.breaks, judge, seeds, r.took.Seconds())
	}
	return b.String()
}

// The markers of the table in a document.
const (
	markBegin = "<!-- mutants: begin, written by make mutants -->\n"
	markEnd   = "<!-- mutants: end -->\n"
)

// writeTable puts a table between the markers of a document.
func writeTable(path, table string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	before, rest, ok := strings.Cut(string(b), markBegin)
	_, after, ok2 := strings.Cut(rest, markEnd)
	if !ok || !ok2 {
		return fmt.Errorf("%s has no markers for the table", path)
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	return os.WriteFile(path, []byte(before+markBegin+"\n"+table+"\n"+markEnd+after), info.Mode().Perm())
}
