package docs_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var (
	citation      = regexp.MustCompile(`PROTOCOL\.md, sections? ((?:\d+(?:\.\d+)?(?:, | and )?)+)`)
	sectionNumber = regexp.MustCompile(`\d+(?:\.\d+)?`)
	heading       = regexp.MustCompile(`^## (\d+)\. `)
	listItem      = regexp.MustCompile(`^(\d+)\. `)
)

// TestCitedSectionsExist: PROTOCOL.md has every section that a comment cites.
func TestCitedSectionsExist(t *testing.T) {
	sections, chapter := map[string]bool{}, ""
	for line := range strings.Lines(read(t, "../internal/protocol/PROTOCOL.md")) {
		if m := heading.FindStringSubmatch(line); m != nil {
			chapter = m[1]
			sections[chapter] = true
		} else if m := listItem.FindStringSubmatch(line); m != nil {
			sections[chapter+"."+m[1]] = true
		}
	}
	require.Greater(t, len(sections), 15)
	citations := 0
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".go" {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		for _, c := range file.Comments {
			citations += countCitations(t, path, c, sections)
		}
		return nil
	})
	require.NoError(t, err)
	require.Greater(t, citations, 20)
}

func countCitations(t *testing.T, path string, c *ast.CommentGroup, sections map[string]bool) int {
	t.Helper()
	all := citation.FindAllStringSubmatch(strings.Join(strings.Fields(c.Text()), " "), -1)
	for _, m := range all {
		for _, n := range sectionNumber.FindAllString(m[1], -1) {
			require.True(t, sections[n], "%s cites section %s", path, n)
		}
	}
	return len(all)
}
