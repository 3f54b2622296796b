// Package docs_test holds README.md and docs to the code: snippets are parts of files that are compiled and tested, commands
// are run, links lead somewhere.
package docs_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// block is a fenced block of a document, and the comment before it: <!-- mark -->.
type block struct {
	document, lang, mark string
	lines                []string
}

// documents returns the paths of all documents of the root and of docs, relative to this folder.
func documents(t *testing.T) []string {
	t.Helper()
	var all []string
	for _, pattern := range []string{"*.md", "../*.md", "../*/README.md", "../examples/*/README.md"} {
		files, err := filepath.Glob(pattern)
		require.NoError(t, err)
		all = append(all, files...)
	}
	require.Greater(t, len(all), 8)
	return all
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	return string(text)
}

var markComment = regexp.MustCompile(`^<!-- (.*) -->$`)

// blocks returns the fenced blocks of a document.
func blocks(t *testing.T, document string) (all []block) {
	t.Helper()
	var open *block
	mark := ""
	s := bufio.NewScanner(strings.NewReader(read(t, document)))
	for s.Scan() {
		line := s.Text()
		fence, isFence := strings.CutPrefix(strings.TrimSpace(line), "```")
		switch m := markComment.FindStringSubmatch(line); {
		case open != nil && isFence:
			all, open, mark = append(all, *open), nil, ""
		case open != nil:
			open.lines = append(open.lines, line)
		case isFence:
			open = &block{document: document, lang: fence, mark: mark}
		case m != nil:
			mark = m[1]
		case line != "":
			mark = ""
		}
	}
	require.NoError(t, s.Err())
	require.Nil(t, open, "%s: a block does not end", document)
	return all
}

// TestBlocksAreTested: a block of Go is a part of a file, and one of commands is run, or there is a reason why not.
func TestBlocksAreTested(t *testing.T) {
	reason := regexp.MustCompile(`^not (compiled|run): \w+`)
	for _, d := range documents(t) {
		for _, b := range blocks(t, d) {
			text := strings.Join(b.lines, "\n")
			switch path, from := strings.CutPrefix(b.mark, "from "); {
			case reason.MatchString(b.mark):
			case b.lang == "go":
				require.True(t, from, "%s: say which file this is from:\n%s", d, text)
				require.Empty(t, missing(b.lines, strings.Split(read(t, filepath.Join("..", path)), "\n")), "%s: is not in %s", d, path)
			case b.lang == "sh":
				require.Equal(t, "run", b.mark, "%s: say whether this is run:\n%s", d, text)
				require.Contains(t, runs, d, "%s has commands, and no test that runs them", d)
			case b.lang == "diff":
				require.Equal(t, "checked", b.mark, "%s", d)
			}
		}
	}
}

// missing returns the first piece of a snippet that the source does not have. A line "// …" stands between two pieces. White space
// does not count.
func missing(snippet, source []string) string {
	source = squeezed(source)
	for piece := range strings.SplitSeq(strings.Join(squeezed(snippet), "\n"), "// …\n") {
		piece = strings.TrimSuffix(piece, "\n")
		_, after, found := strings.Cut("\n"+strings.Join(source, "\n")+"\n", "\n"+piece+"\n")
		if !found {
			return piece
		}
		source = strings.Split(after, "\n")
	}
	return ""
}

// squeezed returns the lines that are not empty, without indentation and words to the linter.
func squeezed(lines []string) (all []string) {
	for _, line := range lines {
		if line, _, _ = strings.Cut(line, " //nolint:"); strings.TrimSpace(line) != "" {
			all = append(all, strings.TrimSpace(line))
		}
	}
	return all
}

func TestMissing(t *testing.T) {
	source := []string{"a", "\tb", "", "c", "d"}
	for _, snippet := range []string{"a", "b\nc", "  d", "a\n// …\nc\nd", "a\n\n\nb"} {
		require.Empty(t, missing(strings.Split(snippet, "\n"), source), snippet)
	}
	for _, snippet := range []string{"e", "a\nc", "c\n// …\nb", "a\n// …\nx"} {
		require.NotEmpty(t, missing(strings.Split(snippet, "\n"), source), snippet)
	}
}

var (
	link   = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	inCode = regexp.MustCompile("`[^`]*`")
)

// TestLinksResolve: a relative link leads to a file or folder, and its fragment to a heading.
func TestLinksResolve(t *testing.T) {
	n := 0
	for _, d := range documents(t) {
		for _, m := range link.FindAllStringSubmatch(inCode.ReplaceAllString(read(t, d), ""), -1) {
			path, fragment, _ := strings.Cut(m[1], "#")
			if strings.Contains(path, "://") {
				continue
			}
			n++
			target := d
			if path != "" {
				target = filepath.Join(filepath.Dir(d), path)
			}
			_, err := os.Stat(target)
			require.NoError(t, err, "%s: link to %s", d, m[1])
			if fragment != "" {
				require.Contains(t, headings(t, target), fragment, "%s: link to %s", d, m[1])
			}
		}
	}
	require.Greater(t, n, 20)
}

// headings returns the fragments that the headings of a document have on a forge.
func headings(t *testing.T, document string) (all []string) {
	t.Helper()
	drop := regexp.MustCompile(`[^\p{L}\p{N}_ -]`)
	for line := range strings.Lines(read(t, document)) {
		if text := strings.TrimLeft(line, "#"); text != line {
			text = drop.ReplaceAllString(strings.ToLower(strings.TrimSpace(text)), "")
			all = append(all, strings.ReplaceAll(text, " ", "-"))
		}
	}
	return all
}

// TestDependencies: the README says how much the root package brings along.
func TestDependencies(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "-f", "{{if not .Standard}}{{.Module.Path}}{{end}}", "..").Output()
	require.NoError(t, err)
	packages, modules := 0, map[string]bool{}
	for _, module := range strings.Fields(string(out)) {
		if module != "github.com/seed-4d73690b/rafthttp" {
			packages++
			modules[module] = true
		}
	}
	require.Contains(t, read(t, "../README.md"), fmt.Sprintf("%d packages of %d modules", packages, len(modules)))
}

// TestMakeTargetsExist: what the documents tell people to make is in the Makefile.
func TestMakeTargetsExist(t *testing.T) {
	makefile := read(t, "../Makefile")
	n := 0
	for _, d := range documents(t) {
		for _, m := range regexp.MustCompile("(?m)(?:^    |`)make ([a-z][a-z-]*)").FindAllStringSubmatch(read(t, d), -1) {
			require.Regexp(t, `(?m)^`+m[1]+`:`, makefile, "%s: make %s", d, m[1])
			n++
		}
	}
	require.Greater(t, n, 5)
}

// TestBenchmarksExist: what the documents tell people to measure is there.
func TestBenchmarksExist(t *testing.T) {
	n := 0
	for _, d := range documents(t) {
		for _, m := range regexp.MustCompile(`go test [^`+"`"+`\n]*-bench '([^']+)' (\./[\w/]+)`).FindAllStringSubmatch(read(t, d), -1) {
			files, err := filepath.Glob(filepath.Join(filepath.Dir(d), m[2], "*_test.go"))
			require.NoError(t, err)
			var all strings.Builder
			for _, f := range files {
				all.WriteString(read(t, f))
			}
			for name := range strings.SplitSeq(m[1], "|") {
				require.Regexp(t, `func Benchmark\w*`+name, all.String(), "%s: -bench %s", d, m[1])
				n++
			}
		}
	}
	require.Positive(t, n)
}
