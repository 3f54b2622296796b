package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// mutant is a wrong library: the right one, with some text replaced.
type mutant struct {
	name  string
	wrong string // what is wrong with it
	// breaks is the promise of doc.go that it breaks, in a few words.
	breaks string
	// found is the number of the defect in the lists of what was found by reading: "path 4" of those in paths beside the main
	// one, "snapshot 2" of those in snapshots. Empty: it is of neither list.
	found string
	// in is the simulation that must notice it; nil: that of the promises.
	in    *simulation
	edits []edit
}

// simulation is a package of this module that runs the library.
type simulation struct {
	name  string   // of the package
	test  string   // that must fail
	flags []string // beside those for seeds
	right int      // seeds, at most, that the right library must pass
}

var (
	promises   = &simulation{name: "promise", test: "^TestPromises", flags: []string{"-shrink=false"}, right: 1 << 20}
	manyGroups = &simulation{name: "groups", test: "^TestGroups", right: 5}
)

// simulation returns the simulation that must notice the mutant.
func (m mutant) simulation() *simulation {
	if m.in != nil {
		return m.in
	}
	return promises
}

// edit replaces a text that the file has exactly once.
type edit struct {
	file     string // relative to the root of the repository
	old, new string
}

// mutants returns all of them.
func mutants() []mutant {
	return slices.Concat(lossMutants, deliveryMutants, callbackMutants, boundMutants, snapshotMutants, sendingPathMutants, otherPathMutants, wholeMutants, groupMutants, groupPromiseMutants)
}

// apply returns the files that differ from those of the library in root, by their paths. An error says which text is not found
// exactly once: then the table has to follow the code.
func (m mutant) apply(root string) (map[string]string, error) {
	files := map[string]string{}
	for _, e := range m.edits {
		file := filepath.Join(root, filepath.FromSlash(e.file))
		text, ok := files[file]
		if !ok {
			b, err := os.ReadFile(file)
			if err != nil {
				return nil, fmt.Errorf("mutant %s: %w", m.name, err)
			}
			text = string(b)
		}
		if n := strings.Count(text, e.old); n != 1 {
			return nil, fmt.Errorf("mutant %s: %s has this text %d times, not once:\n%s", m.name, e.file, n, e.old)
		}
		files[file] = strings.Replace(text, e.old, e.new, 1)
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("mutant %s changes nothing", m.name)
	}
	return files, nil
}

// writeOverlay writes the files that differ to the folder dir, and returns the file for go test -overlay.
func writeOverlay(files map[string]string, dir string) (string, error) {
	var overlay struct{ Replace map[string]string }
	overlay.Replace = map[string]string{}
	for file, text := range files {
		replacement := filepath.Join(dir, fmt.Sprintf("%d-%s", len(overlay.Replace), filepath.Base(file)))
		if err := os.WriteFile(replacement, []byte(text), 0o600); err != nil {
			return "", err
		}
		overlay.Replace[file] = replacement
	}
	b, err := json.Marshal(overlay)
	if err != nil {
		return "", err
	}
	file := filepath.Join(dir, "overlay.json")
	return file, os.WriteFile(file, b, 0o600)
}

var errNoMutant = errors.New("there is no mutant")

// choose returns the mutants with these names, separated by commas; all of them if there is none.
func choose(names string) ([]mutant, error) {
	all := mutants()
	if names == "" {
		return all, nil
	}
	var chosen []mutant
	for name := range strings.SplitSeq(names, ",") {
		i := slices.IndexFunc(all, func(m mutant) bool { return m.name == name })
		if i < 0 {
			return nil, fmt.Errorf("%w %q; -list shows all", errNoMutant, name)
		}
		chosen = append(chosen, all[i])
	}
	return chosen, nil
}
