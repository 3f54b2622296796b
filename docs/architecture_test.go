package docs_test

import (
	"io/fs"
	"path/filepath"
	"regexp"
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
