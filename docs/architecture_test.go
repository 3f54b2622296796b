package docs_test

import (
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestArchitecture: the files and folders that ARCHITECTURE.md and decisions.md name exist, and so do the tests. The map is
// short enough to be read.
func TestArchitecture(t *testing.T) {
	root, tests := "..", map[string]bool{}
	names := map[string]bool{} // of files
	declared := regexp.MustCompile(`(?m)^func (Test\w+)\(`)
	require.NoError(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() && d.Name() == ".git" {
			return err
		}
		names[d.Name()] = true
		if strings.HasSuffix(path, "_test.go") {
			for _, m := range declared.FindAllStringSubmatch(read(t, path), -1) {
				tests[m[1]] = true
			}
		}
		return nil
	}))
	text := read(t, "../ARCHITECTURE.md")
	require.LessOrEqual(t, strings.Count(text, "\n"), 120)
	text += read(t, "decisions.md")
	named := regexp.MustCompile("`(Test\\w+)`").FindAllStringSubmatch(text, -1)
	require.Greater(t, len(named), 15)
	for _, m := range named {
		require.True(t, tests[m[1]], "there is no test %s", m[1])
	}
	for _, m := range regexp.MustCompile(`[\w/]+\.go\b`).FindAllString(text, -1) {
		if strings.Contains(m, "/") {
			require.FileExists(t, filepath.Join(root, m))
		} else {
			require.True(t, names[m], "there is no file %s", m)
		}
	}
	for _, m := range regexp.MustCompile("`((?:internal|memnet|chaos|examples)/[\\w/]+)`").FindAllStringSubmatch(text, -1) {
		require.DirExists(t, filepath.Join(root, m[1]))
	}
}

// TestRoomsMayUseWhatTheLinterAllows: the column of ARCHITECTURE.md says what depguard holds the packages to, and there is no
// package that neither of them knows.
func TestRoomsMayUseWhatTheLinterAllows(t *testing.T) {
	const module = "github.com/seed-4d73690b/rafthttp/"
	allowed := map[string][]string{} // by folder
	rule := regexp.MustCompile(`(?m)^          files: \[(.*)\]\n          allow:((?:\n            - .*)+| \[.*\])`)
	for _, m := range rule.FindAllStringSubmatch(read(t, "../.golangci.yml"), -1) {
		uses := []string{}
		for _, u := range regexp.MustCompile(module+`(?:internal/)?([\w/]+)`).FindAllStringSubmatch(m[2], -1) {
			uses = append(uses, u[1])
		}
		for _, f := range regexp.MustCompile(`\}/((?:internal/)?\w+)/\*\.go`).FindAllStringSubmatch(m[1], -1) {
			allowed[f[1]] = uses
		}
	}
	text := read(t, "../ARCHITECTURE.md")
	shared := regexp.MustCompile(`\w+`).FindAllString(strings.ReplaceAll(
		regexp.MustCompile(`(?m)^\| shared: (.*?) \|`).FindStringSubmatch(text)[1], "internal/", ""), -1)
	known := map[string]bool{}
	for _, s := range shared {
		known["internal/"+s] = true
	}
	rows := regexp.MustCompile("(?m)^\\| `(internal/\\w+|snap)` \\| .* \\| (.*?) ?\\|$").FindAllStringSubmatch(text, -1)
	require.Greater(t, len(rows), 10)
	for _, row := range rows {
		known[row[1]] = true
		linted, ok := allowed[row[1]]
		require.True(t, ok, "no rule of depguard for %s", row[1])
		mayUse := []string{}
		for _, u := range regexp.MustCompile(`\w+`).FindAllString(row[2], -1) {
			if u != "shared" {
				mayUse = append(mayUse, u)
			}
		}
		own := slices.DeleteFunc(slices.Clone(linted), func(u string) bool { return slices.Contains(shared, u) })
		require.ElementsMatch(t, mayUse, own, row[1])
		require.Equal(t, strings.Contains(row[2], "shared"), len(own) < len(linted), "%s and what is shared", row[1])
	}
	folders, err := filepath.Glob("../internal/*/*.go")
	require.NoError(t, err)
	for _, f := range folders {
		name, err := filepath.Rel("..", filepath.Dir(f))
		require.NoError(t, err)
		require.True(t, known[name] || strings.Contains(text, "`"+name+"`"), "ARCHITECTURE.md does not know %s", name)
	}
}

// TestRoomsAreMeasured: make cover counts each package that ARCHITECTURE.md calls a room. What is shared is small, and is run by all.
func TestRoomsAreMeasured(t *testing.T) {
	counted := regexp.MustCompile(`(?m)^ROOMS\s+:= (.*)$`).FindStringSubmatch(read(t, "../Makefile"))
	require.NotNil(t, counted)
	rooms := strings.Fields(counted[1])
	for _, row := range regexp.MustCompile("(?m)^\\| `internal/(\\w+)` \\|").FindAllStringSubmatch(read(t, "../ARCHITECTURE.md"), -1) {
		require.True(t, row[1] == "wire" || slices.Contains(rooms, row[1]), "ROOMS of the Makefile lacks %s", row[1])
	}
}
