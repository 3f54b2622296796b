package promise_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp/chaos/promise"
)

// TestGroupGuarantees: each sentence about raft groups has a judge, or a reason why there is none: those of the comments of group.go, of
// GroupReceiver, and of docs/groups.md.
func TestGroupGuarantees(t *testing.T) {
	var said []string
	for _, g := range promise.GroupGuarantees() {
		said = append(said, g.Sentence)
		require.Equal(t, len(g.Judges) == 0, g.Exempt != "", "either judges or a reason: %s", g.Sentence)
		require.Subset(t, promise.Judges(), g.Judges, g.Sentence)
	}
	promised := append(commentsOf(t, "../../group.go"), commentsOf(t, "../../group_receive.go")...)
	promised = append(promised, rowsOf(t, "../../docs/groups.md", "What is shared, and how")...)
	promised = append(promised, rowsOf(t, "../../docs/groups.md", "A scheduler of your own")...)
	require.Equal(t, promised, said, "a sentence about groups has changed: who looks whether it is kept? See guarantees_groups.go")
}

// commentsOf returns the sentences of the comments of what a file exports.
func commentsOf(t *testing.T, file string) (all []string) {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments)
	require.NoError(t, err)
	add := func(doc *ast.CommentGroup) {
		if doc == nil {
			return
		}
		all = append(all, sentences(strings.Join(strings.Fields(doc.Text()), " "))...)
	}
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GenDecl:
			if s, ok := n.Specs[0].(*ast.TypeSpec); ok && s.Name.IsExported() {
				add(n.Doc)
			}
		case *ast.TypeSpec:
			return n.Name.IsExported()
		case *ast.FuncDecl:
			if n.Name.IsExported() && (n.Recv == nil || isExported(n.Recv.List[0].Type)) {
				add(n.Doc)
			}
			return false
		case *ast.Field:
			add(n.Doc)
		}
		return true
	})
	return all
}

// isExported reports whether the type of a receiver is.
func isExported(e ast.Expr) bool {
	if p, ok := e.(*ast.StarExpr); ok {
		e = p.X
	}
	id, ok := e.(*ast.Ident)
	return ok && id.IsExported()
}

// sentences returns those of a text.
func sentences(text string) (all []string) {
	for one := range strings.SplitAfterSeq(text, ". ") {
		all = append(all, strings.TrimSpace(one))
	}
	return all
}

var (
	cell = regexp.MustCompile(`(?m)^\| ([^|]*) \| (.*) \|$`)
	item = regexp.MustCompile(`(?m)^- `)
)

// rowsOf returns the sentences of a section in Markdown, with rows of tables, and without headings.
func rowsOf(t *testing.T, file, section string) (all []string) {
	t.Helper()
	src, err := os.ReadFile(file)
	require.NoError(t, err)
	_, text, found := strings.Cut(string(src), "\n## "+section+"\n")
	require.True(t, found)
	text, _, _ = strings.Cut(text, "\n## ")
	text = strings.ReplaceAll(text, "| | |\n|---|---|\n", "")
	text = cell.ReplaceAllString(text, "$1: $2.\n")
	for _, part := range item.Split(text, -1) {
		for paragraph := range strings.SplitSeq(part, "\n\n") {
			if words := strings.Fields(paragraph); len(words) > 0 {
				all = append(all, sentences(strings.Join(words, " "))...)
			}
		}
	}
	return all
}
