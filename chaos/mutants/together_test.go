package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// rightFile has functions of all shapes.
const rightFile = `package lib

import "strings"

const C = 1

var V = 1

type T struct{ n int }

type Q[E any] struct{ all []E }

func Plain(a, b int) int { return a + b }

func Named(a int) (sum int, err error) {
	defer func() { sum *= 2 }()
	sum = a
	return sum, nil
}

func Variadic(sep string, all ...string) string { return strings.Join(all, sep) }

func Blank(_ int, _, c string) string { return c }

func Unnamed(int, ...string) string { return "right" }

func Generic[K comparable, V any](m map[K]V, k K) V { return m[k] }

func Nothing(to *string) {
	*to = "right"
}

func (t *T) Method(by int) int { t.n += by; return t.n }

func (T) NoReceiver() string { return "right" }

func (_ *T) BlankReceiver(string) string { return "right" }

func (q *Q[_]) Len(extra int) int { return len(q.all) + extra }

func Recovers() (v any) {
	defer func() { v = recover() }()
	panic("right")
}

func Recursive(n int) int {
	if n == 0 {
		return 0
	}
	return 1 + Recursive(n-1)
}

func recovered() { _ = recover() }

func init() { V++ }

//go:noinline
func directed() {}
`

// rightMain says what they return.
const rightMain = `package main

import (
	"fmt"

	"example.com/lib"
)

func main() {
	t, q, to := &lib.T{}, &lib.Q[string]{}, ""
	lib.Nothing(&to)
	sum, err := lib.Named(3)
	fmt.Println("Plain", lib.Plain(1, 2))
	fmt.Println("Named", sum, err)
	fmt.Println("Variadic", lib.Variadic("-", "a", "b"))
	fmt.Println("Blank", lib.Blank(1, "b", "c"))
	fmt.Println("Unnamed", lib.Unnamed(1, "x"))
	fmt.Println("Generic", lib.Generic(map[string]int{"a": 7}, "a"))
	fmt.Println("Nothing", to)
	fmt.Println("Method", t.Method(4), t.Method(4))
	fmt.Println("NoReceiver", t.NoReceiver())
	fmt.Println("BlankReceiver", t.BlankReceiver(""))
	fmt.Println("Len", q.Len(2))
	fmt.Println("Recovers", lib.Recovers())
	fmt.Println("Recursive", lib.Recursive(5))
}
`

const rightOutput = `Plain 3
Named 6 <nil>
Variadic a-b
Blank c
Unnamed right
Generic 7
Nothing right
Method 4 8
NoReceiver right
BlankReceiver right
Len 2
Recovers right
Recursive 5
`

// inLib returns a mutant of rightFile, of pairs of texts.
func inLib(name string, texts ...string) mutant {
	m := mutant{name: name}
	for i := 0; i < len(texts); i += 2 {
		m.edits = append(m.edits, edit{"lib.go", texts[i], texts[i+1]})
	}
	return m
}

// write writes files to a new folder.
func write(t *testing.T, files map[string]string) (dir string) {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	require.NoError(t, err)
	for name, text := range files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	}
	return dir
}

// TestVariants: of many mutants that are compiled together, the one that is chosen changes what it would change alone, and nothing
// else; with none chosen, nothing differs.
func TestVariants(t *testing.T) {
	dir := write(t, map[string]string{"go.mod": "module example.com/lib\n\ngo 1.26\n", "lib.go": rightFile, "main/main.go": rightMain})
	plain, unnamed := "func Plain(a, b int) int { return a + b }", "func Unnamed(int, ...string) string { return \"right\" }"
	cases := []struct {
		m    mutant
		want string // the line that differs
	}{
		{inLib("plain", "a + b", "a * b"), "Plain 2"},
		{inLib("plain-too", "a + b", "a - b"), "Plain -1"},
		{inLib("two-functions", "a + b", "a - b", "sum = a\n", "sum = 0\n"), "Plain -1\nNamed 0 <nil>"},
		{inLib("named", "sum = a\n", "sum = a + 1\n"), "Named 8 <nil>"},
		{inLib("import-too", "import \"strings\"", "import (\n\t\"errors\"\n\t\"strings\"\n)", "return sum, nil", "return sum, errors.New(\"wrong\")"), "Named 6 wrong"},
		{inLib("no-import", "import \"strings\"\n", "", "strings.Join(all, sep)", "all[1] + sep"), "Variadic b-"},
		{inLib("variadic", "strings.Join(all, sep)", "strings.Join(all[1:], sep)"), "Variadic b"},
		{inLib("blank", "{ return c }", "{ return c + c }"), "Blank cc"},
		{inLib("unnamed", unnamed, strings.Replace(unnamed, "right", "wrong", 1)), "Unnamed wrong"},
		{inLib("generic", "return m[k]", "delete(m, k); return m[k]"), "Generic 0"},
		{inLib("nothing", "*to = \"right\"", "*to = \"wrong\""), "Nothing wrong"},
		{inLib("method", "t.n += by", "t.n -= by"), "Method -4 -8"},
		{inLib("no-receiver", "NoReceiver() string { return \"right\" }", "NoReceiver() string { return \"wrong\" }"), "NoReceiver wrong"},
		{inLib("blank-receiver", "Receiver(string) string { return \"right\" }", "Receiver(string) string { return \"wrong\" }"), "BlankReceiver wrong"},
		{inLib("len", "len(q.all) + extra", "len(q.all) - extra"), "Len -2"},
		{inLib("recovers", "panic(\"right\")", "panic(\"wrong\")"), "Recovers wrong"},
		{inLib("recursive", "return 1 +", "return 2 +"), "Recursive 10"},
		{inLib("variable", plain, "var calls int\n\nfunc Plain(a, b int) int { calls++; return calls }"), "Plain 1"},
		{inLib("same-variable", plain, "var calls int\n\nfunc Plain(a, b int) int { calls += 7; return calls }"), "Plain 7"},
		{inLib("function", plain, "func wrong() int { return 9 }\n\nfunc Plain(a, b int) int { return wrong() }"), "Plain 9"},
	}
	var all []mutant
	for _, c := range cases {
		all = append(all, c.m)
	}
	with, alone, err := join(dir, all)
	require.NoError(t, err)
	require.Empty(t, alone)
	overlay, err := writeOverlay(with.overlay(), t.TempDir())
	require.NoError(t, err)
	binary := filepath.Join(t.TempDir(), "main")
	build := exec.CommandContext(t.Context(), "go", "build", "-overlay", overlay, "-o", binary, "./main")
	build.Dir = dir
	output, err := build.CombinedOutput()
	require.NoError(t, err, "%s", output)
	outputOf := func(chosen string) string {
		cmd := exec.CommandContext(t.Context(), binary)
		cmd.Env = append(os.Environ(), chosenVariable+"="+chosen)
		output, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", output)
		return string(output)
	}
	require.Equal(t, rightOutput, outputOf(""))
	for _, c := range cases {
		var differs []string
		for i, line := range strings.Split(outputOf(c.m.name), "\n") {
			if line != strings.Split(rightOutput, "\n")[i] {
				differs = append(differs, line)
			}
		}
		require.Equal(t, c.want, strings.Join(differs, "\n"), c.m.name)
	}
}

// TestAlone: what changes more than bodies of functions is compiled alone, and so is what does not fit to the others.
func TestAlone(t *testing.T) {
	dir := write(t, map[string]string{"go.mod": "module example.com/lib\n\ngo 1.26\n", "lib.go": rightFile, "other.go": "package lib\n"})
	plain := "func Plain(a, b int) int { return a + b }"
	errorsToo := "import (\n\t\"errors\"\n\t\"strings\"\n)"
	for _, c := range []struct {
		m, before mutant
		want      string
	}{
		{m: inLib("type", "struct{ n int }", "struct{ n int64 }"), want: "does not have type T"},
		{m: inLib("constant", "const C = 1", "const C = 2"), want: "does not have const C = 1"},
		{m: inLib("value", "var V = 1", "var V = 2"), want: "does not have var V = 1"},
		{m: inLib("signature", "Plain(a, b int) int {", "Plain(a, b int) (sum int) {"), want: "does not have func Plain(a, b int) int"},
		{m: inLib("renamed", "func Plain(", "func Plane("), want: "does not have func Plain"},
		{m: inLib("new-value", plain, "var calls = 1\n\nfunc Plain(a, b int) int { return calls }"), want: "more than functions"},
		{m: inLib("new-type", plain, "type is int\n\nfunc Plain(a, b int) int { return int(is(a)) }"), want: "more than functions"},
		{m: inLib("new-method", plain, plain+"\n\nfunc (t *T) String() string { return \"\" }"), want: "the method String"},
		{m: inLib("universe", plain, plain+"\n\nfunc len(any) int { return 0 }"), want: "declares len"},
		{m: inLib("new-init", "func init() { V++ }", "func init() { V++ }\n\nfunc init() {}"), want: "two declarations are func init()"},
		{m: inLib("init", "V++", "V--"), want: "init is not called"},
		{m: inLib("recover", "_ = recover()", "_, _ = recover(), 1"), want: "recovered calls recover"},
		{m: inLib("directed", "func directed() {}", "func directed() { V++ }"), want: "directed has a directive"},
		{m: inLib("no-directive", "//go:noinline\n", ""), want: "directives differ"},
		{m: inLib("built-elsewhere", "package lib\n", "//go:build !linux\n\npackage lib\n"), want: "directives differ"},
		{m: inLib("import", "import \"strings\"", "import strings \"bytes\""), want: "imports bytes as strings"},
		{m: inLib("blank-import", "import \"strings\"", "import (\n\t_ \"embed\"\n\t\"strings\"\n)"), want: "imports embed as _"},
		{m: mutant{name: "module", edits: []edit{{"go.mod", "1.26", "1.25"}}}, want: "changes go.mod"},
		{
			m:      inLib("variable", plain, "var calls int64\n\nfunc Plain(a, b int) int { calls++; return int(calls) }"),
			before: inLib("before", plain, "var calls int\n\nfunc Plain(a, b int) int { calls++; return calls }"), want: "another one declares calls",
		},
		{
			m:      mutant{name: "other-file", edits: []edit{{"other.go", "package lib\n", "package lib\n\nvar calls int\n"}}},
			before: inLib("before", plain, "var calls int\n\nfunc Plain(a, b int) int { calls++; return calls }"), want: "another one declares calls",
		},
		{
			m:      inLib("imported", "import \"strings\"", strings.Replace(errorsToo, "\"errors\"", "errors \"os\"", 1), "a + b", "len(errors.Args)"),
			before: inLib("before", "import \"strings\"", errorsToo, "return sum, nil", "return sum, errors.ErrUnsupported"), want: "another one imports errors",
		},
	} {
		t.Run(c.m.name, func(t *testing.T) {
			all := []mutant{inLib("good", "c }", "c + c }"), c.m}
			if c.before.name != "" {
				all = []mutant{c.before, c.m}
			}
			with, alone, err := join(dir, all)
			require.NoError(t, err)
			require.Equal(t, map[string]bool{all[0].name: true}, with.mutants)
			require.Len(t, alone, 1)
			require.ErrorContains(t, alone[0], "mutant "+c.m.name+": "+errAlone.Error())
			require.ErrorContains(t, alone[0], c.want)
		})
	}
	_, _, err := join(dir, []mutant{inLib("no-text", "nowhere", "")})
	require.ErrorContains(t, err, "not once")
	_, _, err = join(dir, []mutant{inLib("no-go", "a + b", "a +")})
	require.Error(t, err)
}

// simulated is a simulation of rightFile.
const simulated = `package promise

import (
	"flag"
	"testing"

	"github.com/seed-4d73690b/rafthttp"
)

var seed, seeds = flag.Int("seed", 0, ""), flag.Int("seeds", 0, "")
var _ = flag.Bool("shrink", false, "")

func TestPromises(t *testing.T) {
	for s := *seed; s < *seed+*seeds; s++ {
		if got := lib.Plain(1, s); got != 1+s {
			t.Fatalf("sum: it is %d (after 1s)\nseed %d; again with", got, s)
		}
		if got := lib.C; got != 1 {
			t.Fatalf("constant: it is %d (after 1s)\nseed %d; again with", got, s)
		}
	}
}
`

// TestTogetherAndAlone: mutants are noticed whether they are compiled together or alone, and for what is wrong with each of them.
func TestTogetherAndAlone(t *testing.T) {
	dir := write(t, map[string]string{
		"go.mod": "module " + library + "\n\ngo 1.26\n", "lib.go": rightFile, "chaos/promise/promise_test.go": simulated,
		"chaos/go.mod": "module " + library + "/chaos\n\ngo 1.26\n\nrequire " + library + " v0.0.0\n\nreplace " + library + " => ../\n",
	})
	var out bytes.Buffer
	r := &runner{
		options: options{root: dir, seed: 1, seeds: 5, jobs: 2, timeout: 2 * time.Minute, right: true, verbose: true},
		dir:     t.TempDir(), chaos: filepath.Join(dir, "chaos"), out: &out,
	}
	results, err := r.all(t.Context(), []mutant{
		inLib("at-once", "a + b", "a - b"), inLib("later", "a + b", "min(a+b, 4)"), inLib("constant", "const C = 1", "const C = 2"),
		inLib("equal", "a + b", "b + a"), inLib("panics", "a + b", "[]int{}[a]"),
	})
	require.NoError(t, err, out.String())
	var found []finding
	for _, res := range results {
		require.Equal(t, res.name == "constant", res.compile > 0, res.name)
		found = append(found, res.finding)
	}
	require.Equal(t, []finding{
		{noticed: true, judge: "sum", seeds: 1}, {noticed: true, judge: "sum", seeds: 4}, {noticed: true, judge: "constant", seeds: 1},
		{}, {noticed: true, judge: byPanic, seeds: 1},
	}, found, out.String())
	require.Contains(t, out.String(), "4 mutants compiled together in ")
	require.Contains(t, out.String(), "the right library              passes 5 seeds")
	require.Contains(t, out.String(), "panics/lib.go:13", "a stack says the mutant, and the line in its file")

	right := "1+s {"
	wrong := strings.Replace(simulated, right, "2+s {", 1)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "chaos/promise/promise_test.go"), []byte(wrong), 0o600))
	_, err = r.all(t.Context(), []mutant{inLib("a", "a + b", "a - b"), inLib("b", "a + b", "a * b")})
	require.ErrorContains(t, err, "the right library does not pass")
}
