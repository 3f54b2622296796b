package faultpoint_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp/internal/faultpoint"
)

func TestTable(t *testing.T) {
	names := map[string]bool{}
	for i, s := range faultpoint.Table() {
		require.NotEmpty(t, s.Name, "point %d", i)
		require.NotEmpty(t, s.Place, s.Name)
		require.False(t, names[s.Name], "%s is there twice", s.Name)
		names[s.Name] = true
		require.True(t, s.Waits || s.Yields || s.Fails, "%s can do nothing", s.Name)
		require.Equal(t, s.Fails, s.How != "", s.Name)
		require.Equal(t, s.Name, faultpoint.Point(i).String())
	}
}

// TestEveryPointIsInTheCode: a point of the table that nobody hits would be one that no scenario can hit, and one that can
// fail, and is asked as one that cannot, never fails.
func TestEveryPointIsInTheCode(t *testing.T) {
	used := map[string][]string{} // by constant: the functions that it is given to
	for _, dir := range []string{".", "internal", "snap"} {
		uses(t, filepath.Join("..", "..", dir), dir != ".", used)
	}
	declared := constants(t)
	require.Len(t, declared, len(faultpoint.Table()))
	for i, name := range declared {
		require.NotEmpty(t, used[name], "%s is in the table, and not in the code", name)
		for _, by := range used[name] {
			require.Equal(t, faultpoint.Table()[i].Fails, by != "Hit", "%s is given to %s", name, by)
		}
		delete(used, name)
	}
	require.Empty(t, used)
}

// constants returns the points by their names in Go, in order.
func constants(t *testing.T) (names []string) {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), "point.go", nil, 0)
	require.NoError(t, err)
	for _, d := range f.Decls {
		g, ok := d.(*ast.GenDecl)
		if !ok || g.Tok != token.CONST || len(g.Specs) < len(faultpoint.Table()) {
			continue
		}
		for _, s := range g.Specs {
			names = append(names, s.(*ast.ValueSpec).Names[0].Name)
		}
	}
	require.NotEmpty(t, names)
	return names[:len(names)-1] // the last is how many there are
}

// uses adds the calls of faultpoint.Hit, Fails and Torn below a folder, or in it, to used.
func uses(t *testing.T, root string, below bool, used map[string][]string) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path != root && (!below || d.Name() == "faultpoint" || d.Name() == "testdata") {
			return filepath.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			return err
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok && len(call.Args) > 0 {
				if by, point := member(call.Fun), member(call.Args[0]); by != "" && point != "" {
					used[point] = append(used[point], by)
				}
			}
			return true
		})
		return nil
	}))
}

// member returns what e names of this package, or nothing.
func member(e ast.Expr) string {
	s, ok := e.(*ast.SelectorExpr)
	if !ok {
		return ""
	}
	if x, ok := s.X.(*ast.Ident); !ok || x.Name != "faultpoint" {
		return ""
	}
	return s.Sel.Name
}
