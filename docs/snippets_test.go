package docs_test

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// snippets returns what people paste, by the file that it is in: blocks of documents, the package documentation, examples.
func snippets(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, d := range documents(t) {
		for _, b := range blocks(t, d) {
			if b.lang == "go" {
				all[d] += strings.Join(b.lines, "\n") + "\n"
			}
		}
	}
	files, err := filepath.Glob("../example*_test.go")
	require.NoError(t, err)
	for _, f := range append(files, "../doc.go", "../memnet/rafttest/example_test.go", "../compat/migrate/after/raft.go") {
		all[f] = read(t, f)
	}
	return all
}

// TestSnippetsDrawTheClusterID: what people paste has no number for the cluster, which all who paste it would have.
func TestSnippetsDrawTheClusterID(t *testing.T) {
	n := 0
	for file, code := range snippets(t) {
		if strings.HasPrefix(file, "../memnet") || strings.HasPrefix(file, "../compat") {
			continue
		}
		require.NotRegexp(t, `ClusterID:\s*\d`, code, "%s: two clusters must not share a number", file)
		n += strings.Count(code, "ClusterID:")
	}
	require.Greater(t, n, 8)
}

// TestSnippetsKnowTheMembers: what people paste says of a member that it was removed, or that members never change; and where
// Process passes on whatever comes, somebody says why, and what to do with snapshots.
func TestSnippetsKnowTheMembers(t *testing.T) {
	removed := regexp.MustCompile(`(?m)((?:^.*//.*\n)*)^.*\) IsIDRemoved\(.*$`)
	passes := regexp.MustCompile(`(?s)\) Process\([^\n]*\{\s*return [^\n]*\.Step\(ctx, \w+\)\s*\}`)
	never, said, waits := 0, 0, 0
	for file, code := range snippets(t) {
		for _, m := range removed.FindAllString(code, -1) {
			if strings.Contains(m, "return false") && !strings.Contains(m, "quietRaft") {
				require.Contains(t, m, "never change", "%s: a removed member is not refused", file)
				never++
			}
		}
		if strings.HasPrefix(file, "../memnet") || strings.HasPrefix(file, "../compat") { // tests; a program that docs/migrating-from-etcd.md explains
			continue
		}
		if passes.MatchString(code) {
			require.Contains(t, read(t, file), "nothing to check", "%s: Process passes on whatever comes", file)
			said++
			if strings.Contains(code, "rd.Snapshot") && strings.Contains(code, "RemovePeer") {
				require.Contains(t, read(t, file), "calls Step", "%s: raft takes a snapshot while older changes of the members are applied", file)
				waits++
			}
		}
	}
	require.GreaterOrEqual(t, never, 2)
	require.GreaterOrEqual(t, said, 5)
	require.GreaterOrEqual(t, waits, 2)
}
