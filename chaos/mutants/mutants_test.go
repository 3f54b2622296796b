package main

import (
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const root = "../.."

// TestTableFitsTheCode: each text is in its file exactly once, and what takes its place parses.
func TestTableFitsTheCode(t *testing.T) {
	for _, m := range mutants() {
		t.Run(m.name, func(t *testing.T) {
			files, err := m.apply(root)
			require.NoError(t, err)
			for path, text := range files {
				_, err := parser.ParseFile(token.NewFileSet(), path, text, parser.SkipObjectResolution)
				require.NoError(t, err)
			}
		})
	}
}

// TestTableHasNoTypeErrors: each mutant is a library that compiles; one that is no such is found out, also where it breaks another
// package than it changes.
func TestTableHasNoTypeErrors(t *testing.T) {
	if raceEnabled {
		t.Skip("it has one goroutine, and takes minutes with the race detector; tools/test runs it without")
	}
	c, err := newChecker(t.Context(), root, "")
	require.NoError(t, err)
	for _, m := range mutants() {
		require.NoError(t, c.check(m))
	}
	for name, wrong := range map[string]struct {
		edit edit
		want string
	}{
		"no such name":    {edit{"internal/callback/notifier.go", "\t\tcall()\n", "\t\ttold()\n"}, "undefined: told"},
		"no such import":  {edit{"internal/callback/notifier.go", "\t\"sync\"\n", ""}, "undefined: sync"},
		"another package": {edit{"internal/queue/budget.go", "func NewBudget(", "func NewBudgets("}, "undefined: queue.NewBudget"},
		"no package":      {edit{"go.mod", "go 1.26", "go 1.27"}, "no package changes"},
	} {
		require.ErrorContains(t, c.check(mutant{name: name, edits: []edit{wrong.edit}}), wrong.want)
	}
	together, alone, err := join(c.root, mutants())
	require.NoError(t, err)
	require.NoError(t, c.checkFiles(together.overlay()))
	require.Less(t, len(alone), 20, "each of them takes ten seconds to compile: %v", alone)
}

// TestTableIsComplete: there are at least 40 mutants, each with a name of its own and all that the table shows, and one for
// each defect that was found by reading.
func TestTableIsComplete(t *testing.T) {
	all := mutants()
	require.GreaterOrEqual(t, len(all), 40)
	names, found := map[string]bool{}, map[string]bool{}
	for _, m := range all {
		require.Regexp(t, `^[a-z0-9]+(-[a-z0-9]+)*$`, m.name)
		require.False(t, names[m.name], "there are two mutants %s", m.name)
		require.NotEmpty(t, m.breaks, m.name)
		require.NotContains(t, m.wrong+m.breaks, "|", m.name) // ends a cell
		names[m.name], found[m.found] = true, true
	}
	for list, n := range map[string]int{"path": 23, "snapshot": 12} {
		for i := range n {
			require.True(t, found[fmt.Sprintf("%s %d", list, i+1)], "no mutant has the defect %s %d", list, i+1)
		}
	}
}

func TestApplyRefusesWhatIsNotThere(t *testing.T) {
	for name, e := range map[string]edit{
		"never": {"doc.go", "this text is nowhere", ""},
		"twice": {"doc.go", "// ", ""},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := mutant{name: name, edits: []edit{e}}.apply(root)
			require.ErrorContains(t, err, "not once")
			require.ErrorContains(t, err, e.old)
		})
	}
	_, err := mutant{name: "none"}.apply(root)
	require.Error(t, err)
	_, err = mutant{edits: []edit{{"no-such-file.go", "", ""}}}.apply(root)
	require.Error(t, err)
}

func TestChoose(t *testing.T) {
	all, err := choose("")
	require.NoError(t, err)
	require.Len(t, all, len(mutants()))
	two, err := choose(all[3].name + "," + all[1].name)
	require.NoError(t, err)
	require.Len(t, two, 2)
	require.Equal(t, all[3].name, two[0].name)
	_, err = choose("no-such-mutant")
	require.ErrorIs(t, err, errNoMutant)
	require.ErrorContains(t, err, "no-such-mutant")
}

func TestFinding(t *testing.T) {
	failed := errors.New("exit status 1")
	two := "=== RUN   TestPromises\n    promise_test.go:69: seed 8: 1m0s simulated in 1s\n    promise_test.go:69: seed 9: 1m0s simulated in 1s\n"
	violated := "    promise_test.go:99: what happened before:\n        1s more: (after 1s)\n    promise_test.go:100: healthy link: 7 of 9: late (after 3.2s)\n        seed 10; again with: go test\n"
	for name, c := range map[string]struct {
		output string
		err    error
		hung   bool
		want   finding
	}{
		"passes":    {two + "PASS", nil, false, finding{}},
		"a judge":   {two + violated, failed, false, finding{noticed: true, judge: "healthy link", seeds: 3}},
		"the first": {strings.ReplaceAll(violated, "seed 10", "seed 8"), failed, false, finding{noticed: true, judge: "healthy link", seeds: 1}},
		"goroutines": {two + "goroutines: 7 are left (after 3.2s)\npanic: deadlock: main bubble goroutine has exited", failed, false,
			finding{noticed: true, judge: "goroutines", seeds: 3}},
		"a panic":   {two + "panic: runtime error", failed, false, finding{noticed: true, judge: byPanic, seeds: 3}},
		"unsafe":    {two + "fatal error: concurrent map writes", failed, false, finding{noticed: true, judge: byPanic, seeds: 3}},
		"deadlock":  {two + "panic: deadlock: all goroutines in bubble are blocked", failed, false, finding{noticed: true, judge: byDeadlock, seeds: 3}},
		"otherwise": {"FAIL", failed, false, finding{noticed: true, judge: byTest, seeds: 1}},
		"hangs":     {two, failed, true, finding{hung: true}},
	} {
		t.Run(name, func(t *testing.T) {
			f := finding{hung: c.hung}
			f.look([]byte(c.output), c.err, 8)
			require.Equal(t, c.want, f)
			require.Equal(t, c.want.noticed, !strings.HasPrefix(f.text(), "NOT NOTICED"))
		})
	}
}

// TestOfJudges: each judge has a mutant, whose failure is shrunk.
func TestOfJudges(t *testing.T) {
	var names []string
	for _, of := range ofJudges {
		_, err := choose(of.mutant)
		require.NoError(t, err)
		names = append(names, of.judge)
	}
	source, err := os.ReadFile(root + "/chaos/promise/judges.go")
	require.NoError(t, err)
	_, table, _ := strings.Cut(string(source), "var judges = []judge{\n")
	table, _, _ = strings.Cut(table, "\n}\n")
	var judges []string
	for _, m := range regexp.MustCompile(`(?m)^\t\{"([^"]+)", `).FindAllStringSubmatch(table, -1) {
		judges = append(judges, m[1])
	}
	require.NotEmpty(t, judges)
	require.ElementsMatch(t, judges, names)
}

// TestGoTest: what a simulation prints of a failure is found, as it is.
func TestGoTest(t *testing.T) {
	output := "    promise_test.go:98: order: x (after 1s)\n        seed 3; again with: go test\n        func TestPlan(t *testing.T) { // order\n" +
		"        \trequireKept(t, promise.Plan{Seed: 3,\n        \t\t{At: 1 * time.Second}}})\n        }\n--- FAIL: TestPromises\n"
	require.Equal(t, []string{"func TestPlan(t *testing.T) { // order", "\trequireKept(t, promise.Plan{Seed: 3,", "\t\t{At: 1 * time.Second}}})", "}"}, goTest([]byte(output)))
	require.Empty(t, goTest([]byte("PASS")))
	require.Empty(t, goTest([]byte("func TestPlan(")))
}

func TestWriteTable(t *testing.T) {
	path := filepath.Join(t.TempDir(), "doc.md")
	require.NoError(t, os.WriteFile(path, []byte("before\n"), 0o600))
	require.Error(t, writeTable(path, "x"), "there are no markers")
	require.NoError(t, os.WriteFile(path, []byte("before\n"+markBegin+"old\n"+markEnd+"after\n"), 0o600))
	results := []result{
		{mutant: mutant{name: "a", wrong: "w", breaks: "p"}, finding: finding{noticed: true, judge: "j", seeds: 3}, took: 1500 * time.Millisecond},
		{mutant: mutant{name: "b", wrong: "v", breaks: "q"}},
	}
	for range 2 { // again, it is the same
		require.NoError(t, writeTable(path, table(results, options{seed: 1, seeds: 100})))
	}
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	text := string(b)
	require.True(t, strings.HasPrefix(text, "before\n"+markBegin))
	require.True(t, strings.HasSuffix(text, markEnd+"after\n"))
	require.Contains(t, text, "| `a` | w | p | j | 3 | 1.5 |\n")
	require.Contains(t, text, "| `b` | v | q | **nobody** | – | 0.0 |\n")
	require.NotContains(t, text, "old")
}

// TestOverlayCompiles: what is written for one mutant is what go test takes.
func TestOverlayCompiles(t *testing.T) {
	m, err := choose("batch-reversed")
	require.NoError(t, err)
	abs, err := filepath.Abs(root)
	require.NoError(t, err)
	files, err := m[0].apply(abs)
	require.NoError(t, err)
	overlay, err := writeOverlay(files, t.TempDir())
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), "go", "build", "-overlay", overlay, "-o", os.DevNull, ".")
	cmd.Dir = root
	output, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", output)
}
