package compat_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestDeviationsAreTested: every deviation in README.md names a test, and the test exists: in the root module if the name is in
// brackets, otherwise in this one.
func TestDeviationsAreTested(t *testing.T) {
	text, err := os.ReadFile("README.md")
	require.NoError(t, err)
	_, table, ok := strings.Cut(string(text), "## Deviations")
	require.True(t, ok)
	here, root := testsIn(t, "*_test.go", "*/*_test.go"), testsIn(t, "../*_test.go", "../internal/*/*_test.go", "../tests/*/*_test.go")
	rows := 0
	for line := range strings.Lines(table) {
		if cells := strings.Split(line, "|"); len(cells) == 5 && !strings.Contains(line, "**") && !strings.HasPrefix(line, "|---") && !strings.HasPrefix(line, "| what") {
			rows++
			named := regexp.MustCompile("(\\(?)`(Test\\w+)`").FindAllStringSubmatch(cells[3], -1)
			require.NotEmpty(t, named, "no test: %s", line)
			for _, n := range named {
				require.Contains(t, map[bool]string{true: root, false: here}[n[1] == "("], "func "+n[2]+"(", line)
			}
		}
	}
	require.Greater(t, rows, 20)
}

// testsIn returns the text of all files that match a pattern.
func testsIn(t *testing.T, patterns ...string) string {
	t.Helper()
	var all strings.Builder
	for _, pattern := range patterns {
		files, err := filepath.Glob(pattern)
		require.NoError(t, err)
		require.NotEmpty(t, files)
		for _, f := range files {
			text, err := os.ReadFile(f)
			require.NoError(t, err)
			all.Write(text)
		}
	}
	return all.String()
}
