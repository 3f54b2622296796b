package main

import (
	"errors"
	"fmt"
	"go/ast"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// chosenVariable is the variable of the environment with the name of the mutant that a library with many of them is to be. It
// is the right library without one.
const chosenVariable = "RAFTHTTP_MUTANT"

// chosenFile is the file that each package with such functions has more, for the name of the mutant that is chosen.
const chosenFile = "mutant_chosen.go"

// together is a library that has the defects of many mutants, one of which can be chosen when it runs. A function that a mutant
// changes is there once more, under another name and with the body of the mutant; it is what the function of the library calls,
// before anything else, if that mutant is chosen.
type together struct {
	root    string
	mutants map[string]bool    // by name
	files   map[string]*joined // by path
	owners  map[string]owner   // of what was added, by folder and name
}

// joined is a file of the library, with what the mutants change in it.
type joined struct {
	right    *source
	imports  map[string]string   // paths by name
	variants map[string][]string // names of the mutants that change a function, by its header
	tail     strings.Builder
}

// owner is the declaration of a name that the right library does not have.
type owner struct{ path, text string }

func newTogether(root string) *together {
	return &together{root: root, mutants: map[string]bool{}, files: map[string]*joined{}, owners: map[string]owner{}}
}

// add adds a mutant. An error is errAlone if it has to be compiled alone.
func (t *together) add(m mutant) error {
	files, err := m.apply(t.root)
	if err != nil {
		return err
	}
	all := map[string]changes{}
	owners := map[string]owner{}
	for path, text := range files {
		c, err := t.compare(path, text)
		if err == nil {
			err = t.fits(path, c, owners)
		}
		if err != nil {
			return fmt.Errorf("mutant %s: %w", m.name, err)
		}
		all[path] = c
	}
	for _, path := range slices.Sorted(maps.Keys(all)) {
		t.join(m, path, all[path], owners)
	}
	maps.Copy(t.owners, owners)
	t.mutants[m.name] = true
	return nil
}

// compare returns what a mutant changes in a file.
func (t *together) compare(path, text string) (changes, error) {
	if !strings.HasSuffix(path, ".go") {
		return changes{}, fmt.Errorf("%w: it changes %s", errAlone, filepath.Base(path))
	}
	if t.files[path] == nil {
		b, err := os.ReadFile(path)
		if err != nil {
			return changes{}, err
		}
		right, err := parse(string(b))
		if err != nil {
			return changes{}, err
		}
		t.files[path] = &joined{right: right, imports: map[string]string{}, variants: map[string][]string{}}
	}
	wrong, err := parse(text)
	if err != nil {
		return changes{}, err
	}
	return compare(t.files[path].right, wrong)
}

// fits looks whether what a mutant adds to a file can be beside what others have added, and puts it into owners.
func (t *together) fits(path string, c changes, owners map[string]owner) error {
	for name, imported := range c.imports {
		if other := t.files[path].imports[name]; other != "" && other != imported {
			return fmt.Errorf("%w: another one imports %s", errAlone, other)
		}
	}
	for _, d := range c.added {
		is := owner{path, c.wrong.between(d.Pos(), d.End())}
		for _, name := range declared(d) {
			key := filepath.Dir(path) + ":" + name
			if other, ok := t.owners[key]; ok && other != is {
				return fmt.Errorf("%w: another one declares %s", errAlone, name)
			}
			owners[key] = is
		}
	}
	return nil
}

// join puts the changes into the file.
func (t *together) join(m mutant, path string, c changes, owners map[string]owner) {
	j := t.files[path]
	maps.Copy(j.imports, c.imports)
	write := func(d ast.Decl, text string) { // with the line that a compiler, or a panic, speaks of
		line := c.wrong.fset.Position(d.Pos()).Line
		fmt.Fprintf(&j.tail, "\n//line %s/%s:%d\n%s\n", m.name, filepath.Base(path), line, text)
	}
	for _, d := range c.added {
		key := filepath.Dir(path) + ":" + declared(d)[0]
		if _, ok := t.owners[key]; !ok { // two mutants may have the same one
			write(d, owners[key].text)
		}
	}
	for _, f := range c.bodies {
		header := c.wrong.header(f)
		j.variants[header] = append(j.variants[header], m.name)
		write(f, c.wrong.between(f.Pos(), f.Name.Pos())+variant(f, m.name)+c.wrong.between(f.Name.End(), f.End()))
	}
}

// variant returns the name of a function with the body of a mutant.
func variant(f *ast.FuncDecl, mutant string) string {
	return f.Name.Name + "_mutant_" + strings.ReplaceAll(mutant, "-", "_")
}

// overlay returns the files of the library that differ, by their paths.
func (t *together) overlay() map[string]string {
	files := map[string]string{}
	for path, j := range t.files {
		if j.tail.Len() == 0 {
			continue
		}
		files[path] = j.text()
		files[filepath.Join(filepath.Dir(path), chosenFile)] = fmt.Sprintf(
			"package %s\n\nimport \"os\"\n\nvar mutantChosen = os.Getenv(%q)\n", j.right.file.Name, chosenVariable)
	}
	return files
}

// splice replaces a part of a text.
type splice struct {
	from, to int
	text     string
}

// text returns the file.
func (j *joined) text() string {
	end := j.right.at(j.right.file.Name.End())
	var splices []splice // each leaves lines as they are
	for _, name := range slices.Sorted(maps.Keys(j.imports)) {
		splices = append(splices, splice{end, end, fmt.Sprintf("; import %s %q", name, j.imports[name])})
	}
	for _, d := range j.right.file.Decls {
		if f, ok := d.(*ast.FuncDecl); ok {
			if mutants := j.variants[j.right.header(f)]; len(mutants) > 0 {
				splices = append(splices, j.right.dispatch(f, mutants)...)
			}
		}
	}
	var b strings.Builder
	at := 0
	for _, s := range splices {
		b.WriteString(j.right.text[at:s.from] + s.text)
		at = s.to
	}
	return b.String() + j.right.text[at:] + j.tail.String()
}

// dispatch returns what makes a function call its variant for the mutant that is chosen.
func (s *source) dispatch(f *ast.FuncDecl, mutants []string) []splice {
	var receiver, args []string
	var splices []splice
	if f.Recv != nil {
		receiver, splices = s.named(f.Recv, "mutantReceiver")
		receiver[0] += "."
	}
	args, more := s.named(f.Type.Params, "mutantArg")
	splices = append(splices, more...)
	types := ""
	if f.Type.TypeParams != nil {
		all, _ := s.named(f.Type.TypeParams, "")
		types = "[" + strings.Join(all, ", ") + "]"
	}
	var b strings.Builder
	for _, m := range mutants {
		call := strings.Join(receiver, "") + variant(f, m) + types + "(" + strings.Join(args, ", ") + ")"
		if f.Type.Results == nil {
			fmt.Fprintf(&b, " if mutantChosen == %q { %s; return };", m, call)
		} else {
			fmt.Fprintf(&b, " if mutantChosen == %q { return %s };", m, call)
		}
	}
	body := s.at(f.Body.Lbrace + token.Pos(len("{")))
	return append(splices, splice{body, body, b.String()})
}

// named returns the parameters as they are handed on, and what gives a name to those that have none.
func (s *source) named(list *ast.FieldList, prefix string) (names []string, splices []splice) {
	for _, field := range list.List {
		after := ""
		if _, ok := field.Type.(*ast.Ellipsis); ok {
			after = "..."
		}
		if len(field.Names) == 0 {
			name, at := fmt.Sprint(prefix, len(names)), s.at(field.Type.Pos())
			splices = append(splices, splice{at, at, name + " "})
			names = append(names, name+after)
		}
		for _, id := range field.Names {
			name := id.Name
			if name == "_" {
				name = fmt.Sprint(prefix, len(names))
				splices = append(splices, splice{s.at(id.Pos()), s.at(id.End()), name})
			}
			names = append(names, name+after)
		}
	}
	return names, splices
}

// join returns the library with those of the mutants that can be compiled together, and why others cannot.
func join(root string, all []mutant) (t *together, alone []error, err error) {
	t = newTogether(root)
	for _, m := range all {
		if err := t.add(m); errors.Is(err, errAlone) {
			alone = append(alone, err)
		} else if err != nil {
			return nil, nil, err
		}
	}
	return t, alone, nil
}
