package docs_test

import (
	"errors"
	"go/ast"
	"go/build"
	"go/doc"
	"go/parser"
	"go/token"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestPackagesAreIntroduced: each package that others import says what it is for, and has an example that is run.
func TestPackagesAreIntroduced(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-f", "{{.Dir}}", "../...").Output()
	require.NoError(t, err)
	folders := append(strings.Fields(string(out)), "../metrics") // a module of its own
	n := 0
	for _, folder := range folders {
		p, err := build.ImportDir(folder, 0)
		if empty := (*build.NoGoError)(nil); errors.As(err, &empty) || slices.Contains(strings.Split(filepath.ToSlash(folder), "/"), "internal") {
			continue
		}
		require.NoError(t, err)
		if len(p.GoFiles) == 0 || p.Name == "main" {
			continue // tests, tools
		}
		n++
		require.True(t, strings.HasPrefix(p.Doc, "Package "+p.Name+" "), "%s: %q", folder, p.Doc)
		var files []*ast.File
		for _, name := range slices.Concat(p.TestGoFiles, p.XTestGoFiles) {
			f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(folder, name), nil, parser.ParseComments)
			require.NoError(t, err)
			files = append(files, f)
		}
		run := func(e *doc.Example) bool { return e.Output != "" }
		require.True(t, slices.ContainsFunc(doc.Examples(files...), run), "%s has no example that is run", p.Name)
	}
	require.GreaterOrEqual(t, n, 9)
}
