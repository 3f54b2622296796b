package docs_test

import (
	"errors"
	"go/ast"
	"go/build"
	"go/parser"
	"go/token"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// sourcePackage is a package of the module without its tests.
type sourcePackage struct {
	path  string
	fset  *token.FileSet
	files []*ast.File
}

// sourcePackages parses all packages of the module, with all build tags.
func sourcePackages(t *testing.T) (all []sourcePackage) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-e", "-f", "{{.Dir}} {{.ImportPath}}", "../...").Output()
	require.NoError(t, err)
	for line := range strings.Lines(string(out)) {
		dir, importPath, _ := strings.Cut(strings.TrimSpace(line), " ")
		p, err := build.ImportDir(dir, 0)
		if empty := (*build.NoGoError)(nil); errors.As(err, &empty) {
			continue
		}
		require.NoError(t, err)
		pkg := sourcePackage{path: importPath, fset: token.NewFileSet()}
		for _, name := range slices.Concat(p.GoFiles, p.IgnoredGoFiles) {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			f, err := parser.ParseFile(pkg.fset, filepath.Join(dir, name), nil, parser.ParseComments)
			require.NoError(t, err)
			pkg.files = append(pkg.files, f)
		}
		all = append(all, pkg)
	}
	require.Greater(t, len(all), 10)
	return all
}

// typeName returns the name of a type in this module or beside it, with the path of its package.
func typeName(of ast.Expr, in string, imports map[string]string) string {
	switch e := of.(type) {
	case *ast.StarExpr:
		return typeName(e.X, in, imports)
	case *ast.IndexExpr:
		return typeName(e.X, in, imports)
	case *ast.Ident:
		return in + "." + e.Name
	case *ast.SelectorExpr:
		if x, ok := e.X.(*ast.Ident); ok {
			return imports[x.Name] + "." + e.Sel.Name
		}
	}
	return ""
}

// embedding returns the types that each struct type of the packages embeds.
func embedding(t *testing.T, pkgs []sourcePackage) map[string][]string {
	t.Helper()
	embeds := map[string][]string{}
	for _, p := range pkgs {
		for _, f := range p.files {
			imports := map[string]string{}
			for _, i := range f.Imports {
				importPath, err := strconv.Unquote(i.Path.Value)
				require.NoError(t, err)
				name := path.Base(importPath)
				if i.Name != nil {
					name = i.Name.Name
				}
				imports[name] = importPath
			}
			ast.Inspect(f, func(n ast.Node) bool {
				spec, ok := n.(*ast.TypeSpec)
				if !ok {
					return true
				}
				s, ok := spec.Type.(*ast.StructType)
				if !ok {
					return true
				}
				name := p.path + "." + spec.Name.Name
				embeds[name] = []string{}
				for _, field := range s.Fields.List {
					if len(field.Names) == 0 {
						embeds[name] = append(embeds[name], typeName(field.Type, p.path, imports))
					}
				}
				return true
			})
		}
	}
	return embeds
}

// TestNoChainsOfEmbedding: no struct embeds a struct of the module that embeds one itself, so that a reader finds a field or a
// method in the type or one step away. Embedded interfaces are wrappers, and allowed.
func TestNoChainsOfEmbedding(t *testing.T) {
	embeds := embedding(t, sourcePackages(t))
	require.Greater(t, len(embeds), 100)
	chains := 0
	for outer, inners := range embeds {
		for _, inner := range inners {
			for _, innermost := range embeds[inner] {
				if _, isStruct := embeds[innermost]; isStruct {
					t.Errorf("%s embeds %s, which embeds %s", outer, inner, innermost)
				}
			}
			chains++
		}
	}
	require.Greater(t, chains, 10, "no embedding was found at all")
}

// TestInternalNamesHaveComments: each exported name of an internal package has a comment. A group of constants or variables may
// have one together.
func TestInternalNamesHaveComments(t *testing.T) {
	names := 0
	check := func(p sourcePackage, name *ast.Ident, comments ...*ast.CommentGroup) {
		if !name.IsExported() {
			return
		}
		names++
		if !slices.ContainsFunc(comments, func(c *ast.CommentGroup) bool { return c != nil }) {
			t.Errorf("%s.%s has no comment", p.path, name.Name)
		}
	}
	for _, p := range sourcePackages(t) {
		if !strings.Contains(p.path, "/internal/") {
			continue
		}
		for _, f := range p.files {
			for _, d := range f.Decls {
				switch d := d.(type) {
				case *ast.FuncDecl:
					if d.Recv == nil || ast.IsExported(receiver(d)) {
						check(p, d.Name, d.Doc)
					}
				case *ast.GenDecl:
					for _, s := range d.Specs {
						switch s := s.(type) {
						case *ast.TypeSpec:
							check(p, s.Name, d.Doc, s.Doc, s.Comment)
						case *ast.ValueSpec:
							for _, name := range s.Names {
								check(p, name, d.Doc, s.Doc, s.Comment)
							}
						}
					}
				}
			}
		}
	}
	require.Greater(t, names, 100)
}

// receiver returns the name of the type that a method is of.
func receiver(d *ast.FuncDecl) string {
	_, name, _ := strings.Cut(typeName(d.Recv.List[0].Type, "", nil), ".")
	return name
}

// TestFunctionsAreShort: a function of more than 60 lines wants to be two.
func TestFunctionsAreShort(t *testing.T) {
	for _, p := range sourcePackages(t) {
		for _, f := range p.files {
			for _, d := range f.Decls {
				if fn, ok := d.(*ast.FuncDecl); ok && fn.Body != nil {
					lines := p.fset.Position(fn.Body.End()).Line - p.fset.Position(fn.Body.Pos()).Line - 1
					require.LessOrEqual(t, lines, 60, "%s of %s", fn.Name.Name, p.path)
				}
			}
		}
	}
}
