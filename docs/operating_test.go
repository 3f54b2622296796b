package docs_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp"
)

// TestLogMessagesAreExplained: operating.md has every message that the root package and those below it log at level info and
// above, and no other.
func TestLogMessagesAreExplained(t *testing.T) {
	logged := map[string]bool{}
	production := func(f fs.FileInfo) bool { return !strings.HasSuffix(f.Name(), "_test.go") }
	inspect := func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok || len(call.Args) == 0 {
			return true
		}
		method, ok := call.Fun.(*ast.SelectorExpr)
		if !ok || !slices.Contains([]string{"Info", "Warn", "Error", "DPanic", "Panic", "Fatal"}, method.Sel.Name) {
			return true
		}
		if text, ok := call.Args[0].(*ast.BasicLit); ok && text.Kind == token.STRING {
			message, err := strconv.Unquote(text.Value)
			require.NoError(t, err)
			logged[message] = true
		}
		return true
	}
	folders, err := filepath.Glob("../internal/*")
	require.NoError(t, err)
	for _, folder := range append(folders, "..") {
		packages, err := parser.ParseDir(token.NewFileSet(), folder, production, 0) //nolint:staticcheck // one folder, all build tags
		require.NoError(t, err)
		for _, p := range packages {
			ast.Inspect(p, inspect)
		}
	}
	require.Greater(t, len(logged), 20)
	require.Equal(t, logged, firstColumn(t, "## Log messages"))
}

// TestStatusFieldsAreExplained: operating.md has every field of Status, and no other.
func TestStatusFieldsAreExplained(t *testing.T) {
	fields := map[string]bool{}
	addFields(reflect.TypeFor[rafthttp.Status](), fields)
	require.Equal(t, fields, firstColumn(t, "## Status, field by field"))
}

// addFields adds all fields of a struct of this module, and of those that it is made of.
func addFields(typ reflect.Type, to map[string]bool) {
	for typ.Kind() == reflect.Slice || typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	if typ.Kind() != reflect.Struct || typ.PkgPath() != reflect.TypeFor[rafthttp.Status]().PkgPath() {
		return
	}
	for f := range typ.Fields() {
		to[typ.Name()+"."+f.Name] = true
		addFields(f.Type, to)
	}
}

// TestMetricsAreExplained: operating.md has every metric that metrics.md has, which is held to the code beside it.
func TestMetricsAreExplained(t *testing.T) {
	metrics := map[string]bool{}
	for _, m := range regexp.MustCompile("`((?:etcd_network|rafthttp)_\\w+)`").FindAllStringSubmatch(read(t, "metrics.md"), -1) {
		metrics[m[1]] = true
	}
	require.Equal(t, metrics, firstColumn(t, "## Metrics"))
}

// firstColumn returns what stands in backquotes in the first column of the tables below a heading of operating.md. Nothing may
// stand there twice.
func firstColumn(t *testing.T, heading string) map[string]bool {
	t.Helper()
	_, section, ok := strings.Cut(read(t, "operating.md"), "\n"+heading+"\n")
	require.True(t, ok, heading)
	section, _, _ = strings.Cut(section, "\n## ")
	all := map[string]bool{}
	for line := range strings.Lines(section) {
		if cells := strings.Split(line, "|"); len(cells) > 2 {
			for _, m := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(cells[1], -1) {
				require.False(t, all[m[1]], "%s twice", m[1])
				all[m[1]] = true
			}
		}
	}
	return all
}
