package main

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// errAlone says why a mutant cannot be compiled together with others.
var errAlone = errors.New("is compiled alone")

// source is a Go file.
type source struct {
	text string
	fset *token.FileSet
	file *ast.File
}

func parse(text string) (*source, error) {
	s := &source{text: text, fset: token.NewFileSet()}
	var err error
	s.file, err = parser.ParseFile(s.fset, "", text, parser.ParseComments|parser.SkipObjectResolution)
	return s, err
}

// at returns the offset of a position in the text.
func (s *source) at(p token.Pos) int { return s.fset.Position(p).Offset }

// between returns the text between two positions.
func (s *source) between(from, to token.Pos) string { return s.text[s.at(from):s.at(to)] }

// header returns a function up to its body.
func (s *source) header(f *ast.FuncDecl) string {
	if f.Body == nil {
		return s.between(f.Pos(), f.End())
	}
	return strings.TrimSpace(s.between(f.Pos(), f.Body.Pos()))
}

// key returns the text by which a declaration is found again in a file that differs: the header of a function, the whole of any
// other.
func (s *source) key(d ast.Decl) string {
	if f, ok := d.(*ast.FuncDecl); ok {
		return s.header(f)
	}
	return s.between(d.Pos(), d.End())
}

// declarations returns those of the file by their keys, without the imports.
func (s *source) declarations() (map[string]ast.Decl, error) {
	all := map[string]ast.Decl{}
	for _, d := range s.file.Decls {
		if g, ok := d.(*ast.GenDecl); ok && g.Tok == token.IMPORT {
			continue
		}
		key := s.key(d)
		if all[key] != nil {
			return nil, fmt.Errorf("%w: two declarations are %s", errAlone, key)
		}
		all[key] = d
	}
	return all, nil
}

// imports returns the paths that the file imports by the names that they have there.
func (s *source) imports() map[string]string {
	all := map[string]string{}
	for _, spec := range s.file.Imports {
		imported, _ := strconv.Unquote(spec.Path.Value)
		if spec.Name != nil {
			all[spec.Name.Name] = imported
			continue
		}
		name := path.Base(imported)
		if isMajorVersion.MatchString(name) {
			name = path.Base(path.Dir(imported))
		}
		all[name] = imported
	}
	return all
}

var isMajorVersion = regexp.MustCompile(`^v[0-9]+$`)

// directives returns the comments that are for the compiler.
func (s *source) directives() (all []string) {
	for _, group := range s.file.Comments {
		for _, c := range group.List {
			if strings.HasPrefix(c.Text, "//go:") {
				all = append(all, c.Text)
			}
		}
	}
	return all
}

// changes is what a mutant changes in a file, if it can be compiled together with others.
type changes struct {
	wrong   *source
	bodies  []*ast.FuncDecl   // of the wrong file, whose bodies differ
	added   []ast.Decl        // functions, and variables without values, that the right file does not have
	imports map[string]string // that the right file does not have: paths by name
}

// compare returns what differs in a wrong file. An error is errAlone if it is more than bodies of functions, and functions,
// variables and imports that are added.
func compare(right, wrong *source) (c changes, err error) {
	before, err := right.declarations()
	if err != nil {
		return c, err
	}
	after, err := wrong.declarations()
	if err != nil {
		return c, err
	}
	if right.text[:right.at(right.file.Name.End())] != wrong.text[:wrong.at(wrong.file.Name.End())] ||
		!slices.Equal(right.directives(), wrong.directives()) {
		return c, fmt.Errorf("%w: its build constraints or directives differ", errAlone)
	}
	for key := range before {
		if after[key] == nil {
			return c, fmt.Errorf("%w: it does not have %s", errAlone, firstLine(key))
		}
	}
	c = changes{wrong: wrong, imports: map[string]string{}}
	for _, d := range wrong.file.Decls {
		key := wrong.key(d)
		switch old := before[key]; {
		case after[key] == nil: // an import
		case old == nil:
			err = mayBeAdded(d)
			c.added = append(c.added, d)
		case right.between(old.Pos(), old.End()) != wrong.between(d.Pos(), d.End()):
			f := d.(*ast.FuncDecl)
			err = errors.Join(mayHaveVariants(old.(*ast.FuncDecl)), mayHaveVariants(f))
			c.bodies = append(c.bodies, f)
		}
		if err != nil {
			return c, err
		}
	}
	had := right.imports()
	for name, path := range wrong.imports() {
		if had[name] != "" && had[name] != path || name == "_" || name == "." {
			return c, fmt.Errorf("%w: it imports %s as %s", errAlone, path, name)
		}
		if had[name] == "" {
			c.imports[name] = path
		}
	}
	return c, nil
}

// mayBeAdded returns no error if a declaration that only one mutant has changes nothing for the others.
func mayBeAdded(d ast.Decl) error {
	for _, name := range declared(d) {
		if name == "init" || name == "main" || name == "_" || types.Universe.Lookup(name) != nil {
			return fmt.Errorf("%w: it declares %s", errAlone, name)
		}
	}
	switch d := d.(type) {
	case *ast.FuncDecl:
		if d.Recv != nil { // the type may implement an interface with it
			return fmt.Errorf("%w: it has the method %s", errAlone, d.Name)
		}
		return nil
	case *ast.GenDecl:
		valued := func(s ast.Spec) bool { v, ok := s.(*ast.ValueSpec); return ok && len(v.Values) > 0 }
		if d.Tok == token.VAR && !slices.ContainsFunc(d.Specs, valued) {
			return nil
		}
	}
	return fmt.Errorf("%w: it declares more than functions, and variables without values", errAlone)
}

// declared returns the names of functions and variables that a declaration declares.
func declared(d ast.Decl) (names []string) {
	switch d := d.(type) {
	case *ast.FuncDecl:
		names = append(names, d.Name.Name)
	case *ast.GenDecl:
		for _, s := range d.Specs {
			if v, ok := s.(*ast.ValueSpec); ok {
				for _, name := range v.Names {
					names = append(names, name.Name)
				}
			}
		}
	}
	return names
}

// mayHaveVariants returns no error if a function may be called by another one that has its header, and does nothing else.
func mayHaveVariants(f *ast.FuncDecl) error {
	directive := func(c *ast.Comment) bool { return strings.HasPrefix(c.Text, "//go:") }
	switch name := f.Name.Name; {
	case f.Body == nil, name == "init", name == "_":
		return fmt.Errorf("%w: %s is not called", errAlone, name)
	case f.Doc != nil && slices.ContainsFunc(f.Doc.List, directive):
		return fmt.Errorf("%w: %s has a directive", errAlone, name)
	case recovers(f.Body):
		return fmt.Errorf("%w: %s calls recover, which only a deferred function may", errAlone, name)
	}
	if of := f.Type.TypeParams; of != nil {
		for _, field := range of.List {
			if slices.ContainsFunc(field.Names, func(id *ast.Ident) bool { return id.Name == "_" }) {
				return fmt.Errorf("%w: a type parameter of %s has no name", errAlone, f.Name)
			}
		}
	}
	return nil
}

// recovers reports whether a function calls recover itself.
func recovers(body *ast.BlockStmt) (does bool) {
	ast.Inspect(body, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncLit:
			return false
		case *ast.CallExpr:
			if id, ok := n.Fun.(*ast.Ident); ok && id.Name == "recover" {
				does = true
			}
		}
		return true
	})
	return does
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line
}
