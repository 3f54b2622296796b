package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// checker checks the types of libraries, from their source, which takes much less than to compile them.
type checker struct {
	root     string
	packages []listed // of the library and of all that it needs, each behind its own

	mu       sync.Mutex // one mutant at a time
	fset     *token.FileSet
	compiled types.Importer // of what the mutant does not change
}

// listed is a package as go list has it.
type listed struct {
	ImportPath, Dir, Export string
	GoFiles, Imports        []string
	Standard                bool
}

// newChecker lists the packages of the library in root.
func newChecker(ctx context.Context, root, tags string) (*checker, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, "go", "list", "-deps", "-export", "-tags", tags, "-json=ImportPath,Dir,Export,GoFiles,Imports,Standard", "./...")
	cmd.Dir = root
	output, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	c := &checker{root: root, fset: token.NewFileSet()}
	c.compiled = importer.ForCompiler(c.fset, "gc", func(path string) (io.ReadCloser, error) {
		i := slices.IndexFunc(c.packages, func(p listed) bool { return p.ImportPath == path })
		if i < 0 {
			return nil, fmt.Errorf("no package %s", path)
		}
		return os.Open(c.packages[i].Export)
	})
	for d := json.NewDecoder(bytes.NewReader(output)); ; {
		var p listed
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return c, nil
		} else if err != nil {
			return nil, fmt.Errorf("go list: %w", err)
		}
		c.packages = append(c.packages, p)
	}
}

// checking is the check of one mutant.
type checking struct {
	*checker
	files   map[string]string         // that differ, by path
	checked map[string]*types.Package // from their source
}

// check checks the packages that the mutant changes, and those that need one of them.
func (c *checker) check(m mutant) error {
	files, err := m.apply(c.root)
	if err != nil {
		return err
	}
	if err := c.checkFiles(files); err != nil {
		return fmt.Errorf("mutant %s: %w", m.name, err)
	}
	return nil
}

// checkFiles checks a library that has these files, by their paths.
func (c *checker) checkFiles(files map[string]string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := &checking{checker: c, files: files, checked: map[string]*types.Package{}}
	for _, p := range c.packages {
		if err := k.look(p); err != nil {
			return err
		}
	}
	if len(k.checked) == 0 {
		return errors.New("no package changes")
	}
	return nil
}

// look checks a package, if it is one of those.
func (k *checking) look(p listed) error {
	differs := slices.ContainsFunc(p.GoFiles, func(name string) bool { return k.files[filepath.Join(p.Dir, name)] != "" })
	needs := slices.ContainsFunc(p.Imports, func(path string) bool { return k.checked[path] != nil })
	if p.Standard || !differs && !needs {
		return nil
	}
	var parsed []*ast.File
	for _, name := range k.filesOf(p) {
		path := filepath.Join(p.Dir, name)
		var text any // nil: what is in the file
		if changed, ok := k.files[path]; ok {
			text = changed
		}
		f, err := parser.ParseFile(k.fset, path, text, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		parsed = append(parsed, f)
	}
	var wrong []string
	cfg := types.Config{Importer: k, Error: func(err error) { wrong = append(wrong, err.Error()) }}
	checked, err := cfg.Check(p.ImportPath, k.fset, parsed, nil)
	if err != nil {
		return errors.New(strings.Join(wrong, "\n"))
	}
	k.checked[p.ImportPath] = checked
	return nil
}

// filesOf returns the names of the files of a package, with those that are new.
func (k *checking) filesOf(p listed) []string {
	names := slices.Clone(p.GoFiles)
	for path := range k.files {
		if name := filepath.Base(path); name == chosenFile && filepath.Dir(path) == p.Dir {
			names = append(names, name)
		}
	}
	return names
}

// Import implements types.Importer.
func (k *checking) Import(path string) (*types.Package, error) {
	if p := k.checked[path]; p != nil {
		return p, nil
	}
	return k.compiled.Import(path)
}
