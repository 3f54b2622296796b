package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// sabotageVariable is the variable of the environment with the name of the sabotage that a program has. The program is right
// without one.
const sabotageVariable = "CHAOS_SABOTAGE"

// sabotage is a way in which a program is wrong.
type sabotage struct {
	name, want string // want: in the error of a trial
	changes    []change
}

// title returns the name of a test with the sabotage.
func (s sabotage) title() string {
	if s.name == "" {
		return "right"
	}
	return s.name
}

// change is what is done to a file before the program is built: some text in the place of another. Where the new one says
// SABOTAGED, it is asked whether the program has this sabotage; without, it must do what the old text does.
type change struct{ file, old, new string }

// wrongProgram is a program that has any of its sabotages, as it is told when it starts. All are compiled together, once.
type wrongProgram struct {
	source    string // the folder
	wrong     string // the folder in it of the package that is changed
	sabotages []sabotage
	build     func() (path string, err error)
}

func newWrongProgram(source, wrong string, sabotages []sabotage) *wrongProgram {
	p := &wrongProgram{source: source, wrong: wrong, sabotages: sabotages}
	p.build = sync.OnceValues(p.compile)
	return p
}

// programs is the folder of the programs, for as long as the tests run.
var programs string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		var err error
		if programs, err = os.MkdirTemp("", "chaos"); err != nil {
			panic(err)
		}
		defer os.RemoveAll(programs)
		return m.Run()
	}())
}

// changed returns the files that differ, by their paths.
func (p *wrongProgram) changed() (texts map[string]string, err error) {
	folder, err := filepath.Abs(filepath.Join(p.source, p.wrong))
	if err != nil {
		return nil, err
	}
	of := filepath.Base(folder)
	if p.wrong == "" {
		of = "main"
	}
	texts = map[string]string{filepath.Join(folder, "sabotage_chosen.go"): fmt.Sprintf(
		"package %s\n\nimport \"os\"\n\nvar sabotageChosen = os.Getenv(%q)\n", of, sabotageVariable)}
	for _, s := range p.sabotages {
		for _, c := range s.changes {
			path := filepath.Join(folder, c.file)
			if texts[path] == "" {
				text, err := os.ReadFile(path)
				if err != nil {
					return nil, err
				}
				texts[path] = string(text)
			}
			if n := strings.Count(texts[path], c.old); n != 1 {
				return nil, fmt.Errorf("%s: %q is there %d times", path, c.old, n)
			}
			has := fmt.Sprintf("sabotageChosen == %q", s.name)
			texts[path] = strings.Replace(texts[path], c.old, strings.ReplaceAll(c.new, "SABOTAGED", has), 1)
		}
	}
	return texts, nil
}

func (p *wrongProgram) compile() (path string, err error) {
	dir := filepath.Join(programs, filepath.Base(p.source))
	texts, err := p.changed()
	if err != nil {
		return "", err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", err
	}
	replace := make(map[string]string)
	for path, text := range texts {
		replace[path] = filepath.Join(dir, filepath.Base(path)+".txt")
		if err := os.WriteFile(replace[path], []byte(text), 0o600); err != nil {
			return "", err
		}
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	file := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(file, overlay, 0o600); err != nil {
		return "", err
	}
	path = filepath.Join(dir, program)
	cmd := exec.Command("go", "build", "-buildvcs=false", "-overlay", file, "-o", path, ".")
	cmd.Dir = p.source
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return path, nil
}

// with writes a program into a folder that has one of the sabotages, or none.
func (p *wrongProgram) with(t *testing.T, dir, name string) (path string) {
	t.Helper()
	built, err := p.build()
	require.NoError(t, err)
	path = filepath.Join(dir, program)
	script := fmt.Sprintf("#!/bin/sh\n%s='%s' exec '%s' \"$@\"\n", sabotageVariable, name, built)
	require.NoError(t, os.WriteFile(path, []byte(script), 0o700))
	return path
}

const put = "\tcase opPut:\n"

var wrongKV = newWrongProgram(filepath.Join("..", "examples", "kv"), filepath.Join("internal", "server"), []sabotage{
	{"stale reads", "not linearizable", []change{
		{"api.go", "if !stale {", "if !stale && !(SABOTAGED) {"},
	}},
	{"writes that are acknowledged when they are proposed", "not linearizable", []change{
		{"propose.go", "\to, err := s.await(ctx, c.request, ",
			"\tif SABOTAGED { return api.Written{}, s.proposalError(s.node.Propose(ctx, c.encode())) }\n\to, err := s.await(ctx, c.request, "},
	}},
	{"a lost write now and then", "key", []change{
		{"apply.go", put, put + "if SABOTAGED && e.GetIndex()%8 == 0 { return o, nil }\n"},
	}},
	{"a member that applies something else", errDiffer.Error(), []change{
		{"apply.go", "import (\n", "import (\n\"os\"\n"},
		{"apply.go", put, put + "if SABOTAGED && e.GetIndex() > 20 { _ = batch.Put([]byte(fmt.Sprint(os.Getpid())), nil) }\n"},
	}},
	{"a member that ends", "has ended by itself", []change{
		{"apply.go", put, put + "if SABOTAGED && e.GetIndex() > 20 { return o, errBadCommand }\n"},
	}},
	{"a member that believes to be removed", "and it was not", []change{
		{"transport.go", "(ctx context.Context, m *raftpb.Message) error {\n",
			"(ctx context.Context, m *raftpb.Message) error {\nif SABOTAGED && r.cfg.ID == 5 && m.GetIndex() > 20 { r.end(ErrRemoved) }\n"},
	}},
	{"a panic", "panic: ", []change{
		{"apply.go", put, put + "if SABOTAGED && e.GetIndex() > 20 { panic(\"no\") }\n"},
	}},
	{"a goroutine for each write", "goroutines", []change{
		{"propose.go", "\tc.request = s.nextID.Add(1)\n", "\tc.request = s.nextID.Add(1)\n\tfor range 10 { if SABOTAGED { go func() { select {} }() } }\n"},
	}},
	{"a descriptor for each write", "descriptors", []change{
		{"propose.go", "import (\n", "import (\n\"syscall\"\n"},
		{"propose.go", "\tc.request = s.nextID.Add(1)\n", "\tc.request = s.nextID.Add(1)\n\tfor range 10 { if SABOTAGED { _, _ = syscall.Dup(1) } }\n"},
	}},
})

var wrongShards = newWrongProgram("shards", "", []sabotage{
	{"a replica that applies something else", errDiffer.Error(), []change{
		{"state.go", "\ts.Index = e.GetIndex()\n", "\ts.Index = e.GetIndex()\n\tif SABOTAGED && s.Index > 3 && r.node.cfg.id == 2 { s.Hash[0]++ }\n"},
	}},
	{"a removed replica that stays", "was removed, and is there", []change{
		{"replica.go", "\t\tr.node.part(r, err)\n", "\t\tif !(SABOTAGED) { r.node.part(r, err) }\n"},
	}},
})
